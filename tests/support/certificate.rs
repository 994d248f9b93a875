//! Certificates for tests: one authority that clients trust, and what it signs.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
};

/// Signs certificates; its clients trust them all.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What goes into a Secret.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Authority {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        // Each has a name of its own: by it a certificate's issuer is looked for.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number} of a test"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        Authority(CertifiedIssuer::self_signed(params, key).expect("the key fits"))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::new(names).expect("the test's names are valid");
        // Another one than the authority's: OpenSSL takes it for self-signed else.
        params.distinguished_name.push(DnType::CommonName, "signed in a test");
        let certificate = params.signed_by(&key, &self.0).expect("the key fits");
        Pair { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    /// A certificate for what a request (DER) asks for, valid for 90 days.
    pub fn issue(&self, request: &[u8]) -> String {
        let request = CertificateSigningRequestParams::from_der(&request.into()).expect("it is a request");
        let mut request = CertificateSigningRequestParams { ..request };
        let now = time::OffsetDateTime::now_utc();
        (request.params.not_before, request.params.not_after) = (now, now + time::Duration::days(90));
        request.params.use_authority_key_identifier_extension = true;
        request.signed_by(&self.0).expect("what is asked for can be signed").pem()
    }

    /// A client that offers `protocols` by ALPN.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has TLS 1.2 and 1.3")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        // Every handshake is to show the certificate of the moment.
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    /// A server that shows a certificate for `names`.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let pair = self.sign(names);
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("it was just made");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![pair.der.into()], key);
        Arc::new(config.expect("the key fits"))
    }

    /// What its clients trust.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("our own certificate is valid");
        roots
    }
}
