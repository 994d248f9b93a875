//! Certificates that are made here: self-signed, and by a CA whose key is in a Secret.

use jiff::Timestamp;
use rcgen::{CertificateParams, Issuer as Signer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{
    key::{self, Key},
    request,
};
use crate::{
    api::cert_manager::{CaIssuer, CertificateSpec, SelfSignedIssuer},
    graph::{Certificate, issuance::Method},
};

/// A certificate with its key.
pub struct Issued {
    /// The leaf first; a root is not among them, but for a self-signed one.
    pub chain: String,
    /// What clients trust, where the issuer tells.
    pub ca: Option<String>,
    pub key: Zeroizing<String>,
    /// What was asked for and is not there.
    pub remark: Option<String>,
}

/// The key to certify: the one that is there, where `spec` keeps keys and it fits, else a new one.
///
/// # Errors
/// A key that cannot be made.
pub fn key_for(spec: &CertificateSpec, last: Option<&Certificate>) -> Result<Key, String> {
    let keeps = spec.private_key.as_ref().is_some_and(|key| key.rotation_policy == "Never");
    if let Some(last) = last.filter(|_| keeps)
        && let Ok(key) = key::read(&last.key_pem, spec)
    {
        return Ok(key);
    }
    key::generate(spec)
}

/// Makes the certificate. Takes its time: a key is made.
///
/// # Errors
/// Names that cannot stand in a certificate, a key that cannot be made, a CA that cannot sign.
pub fn issue(
    spec: &CertificateSpec,
    method: &Method,
    last: Option<&Certificate>,
    now: Timestamp,
) -> Result<Issued, String> {
    let params = request::params(spec, now)?;
    let key = key_for(spec, last)?;
    let (chain, ca) = match method {
        Method::SelfSigned(issuer) => self_signed(params, issuer, &key)?,
        Method::Ca(issuer, Some(authority)) => by_authority(params, issuer, authority, &key)?,
        Method::Ca(_, None) | Method::Acme(_) | Method::Other => return Err("the issuer cannot sign here".into()),
    };
    Ok(Issued { chain, ca: Some(ca), key: key.pem, remark: request::left_out(spec) })
}

fn self_signed(
    mut params: CertificateParams,
    issuer: &SelfSignedIssuer,
    key: &Key,
) -> Result<(String, String), String> {
    params.crl_distribution_points = request::crl_distribution_points(&issuer.crl_distribution_points);
    let certificate = params.self_signed(&key.pair).map_err(|error| error.to_string())?;
    Ok((unix(certificate.pem()), unix(certificate.pem())))
}

fn by_authority(
    mut params: CertificateParams,
    issuer: &CaIssuer,
    authority: &Certificate,
    key: &Key,
) -> Result<(String, String), String> {
    params.crl_distribution_points = request::crl_distribution_points(&issuer.crl_distribution_points);
    let access = request::authority_access(&issuer.issuing_certificate_urls, &issuer.ocsp_servers);
    params.custom_extensions.extend(access);
    let fault = |what: &str, error: &dyn std::fmt::Display| format!("{what} of the CA {}: {error}", authority.key);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&authority.chain_pem).collect();
    let chain = chain.map_err(|error| fault("the certificate", &error))?;
    let first = chain.first().ok_or("the CA has no certificate")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|error| fault("the certificate", &error))?;
    let end = parsed.validity().not_after.to_datetime();
    if end <= params.not_before {
        return Err(format!("the CA {} has expired", authority.key));
    }
    // Nobody takes a certificate after its CA's end.
    params.not_after = params.not_after.min(end);
    let secret = PrivateKeyDer::from_pem_slice(&authority.key_pem).map_err(|error| fault("the key", &error))?;
    let pair = KeyPair::try_from(&secret).map_err(|error| fault("the key", &error))?;
    let signer = Signer::from_ca_cert_der(first, pair).map_err(|error| fault("the certificate", &error))?;
    let certificate = params.signed_by(&key.pair, &signer).map_err(|error| error.to_string())?;
    let (_, made) = x509_parser::parse_x509_certificate(certificate.der()).map_err(|error| error.to_string())?;
    if made.issuer().as_raw() != parsed.subject().as_raw() {
        let message = "its subject has an attribute several times, which gapi cannot write";
        return Err(fault("the certificate", &message));
    }
    Ok(chained(&unix(certificate.pem()), &chain))
}

/// Leaf and intermediate certificates, and the one at the top for `ca.crt`: a root is not sent to clients.
fn chained(leaf: &str, authorities: &[CertificateDer]) -> (String, String) {
    let is_root = |der: &CertificateDer| {
        let parsed = x509_parser::parse_x509_certificate(der);
        parsed.is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
    };
    let between = authorities.iter().filter(|der| !is_root(der)).map(|der| key::pem("CERTIFICATE", der));
    let chain = std::iter::once(leaf.to_owned()).chain(between.map(|pem| pem.to_string())).collect();
    let top = authorities.last().map(|der| key::pem("CERTIFICATE", der).to_string()).unwrap_or_default();
    (chain, top)
}

fn unix(pem: String) -> String {
    pem.replace("\r\n", "\n")
}
