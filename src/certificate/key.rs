//! Private keys of certificates: made as `spec.privateKey` says, written in the encoding that it asks for.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{self, KeySize},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA256, PKCS_ECDSA_P521_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, PKCS_RSA_SHA384, PKCS_RSA_SHA512, SignatureAlgorithm,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::der;
use crate::api::cert_manager::CertificateSpec;

/// A key that can sign, with its PEM form. Never printed.
pub struct Key {
    pub pair: KeyPair,
    pub pem: Zeroizing<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// A new key. Slow for RSA: up to seconds for 4096 bits, minutes for 8192.
///
/// # Errors
/// A size that cannot be made.
pub fn generate(spec: &CertificateSpec) -> Result<Key, String> {
    let algorithm = algorithm(spec)?;
    let fault = |error: &dyn std::fmt::Display| format!("the key cannot be made: {error}");
    let pair = match kind(spec) {
        "RSA" => {
            let size = match size(spec) {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                4096 => KeySize::Rsa4096,
                8192 => KeySize::Rsa8192,
                other => return Err(format!("gapi makes RSA keys of 2048, 3072, 4096 and 8192 bits, not of {other}")),
            };
            let key = rsa::KeyPair::generate(size).map_err(|error| fault(&error))?;
            let pkcs8: Pkcs8V1Der = key.as_der().map_err(|error| fault(&error))?;
            let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
            KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, algorithm)
        }
        _ => KeyPair::generate_for(algorithm),
    };
    let pair = pair.map_err(|error| fault(&error))?;
    let pem = encode(pair.serialized_der(), spec)?;
    Ok(Key { pair, pem })
}

/// A key that was kept, in whatever encoding, written anew as `spec` asks.
///
/// # Errors
/// It is no key, or of another algorithm than `spec` asks for.
pub fn read(pem: &[u8], spec: &CertificateSpec) -> Result<Key, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "it is no PEM private key")?;
    let pair = KeyPair::from_der_and_sign_algo(&key, algorithm(spec)?);
    let pair = pair.map_err(|_| "it is of another algorithm than spec.privateKey asks for")?;
    let pem = Zeroizing::new(String::from_utf8_lossy(pem).into_owned());
    Ok(Key { pair, pem })
}

fn kind(spec: &CertificateSpec) -> &str {
    match spec.private_key.as_ref().map_or("", |key| key.algorithm.as_str()) {
        "" => "RSA",
        written => written,
    }
}

fn size(spec: &CertificateSpec) -> i64 {
    let written = spec.private_key.as_ref().map_or(0, |key| key.size);
    match (written, kind(spec)) {
        (size, _) if size > 0 => size,
        (_, "RSA") => 2048,
        _ => 256,
    }
}

/// How the key signs: as `spec.signatureAlgorithm` says, where the curve has no say of its own.
fn algorithm(spec: &CertificateSpec) -> Result<&'static SignatureAlgorithm, String> {
    let signature = spec.signature_algorithm.as_str();
    let algorithm = match (kind(spec), size(spec)) {
        ("RSA", _) => match signature {
            "SHA384WithRSA" => &PKCS_RSA_SHA384,
            "SHA512WithRSA" => &PKCS_RSA_SHA512,
            _ => &PKCS_RSA_SHA256,
        },
        ("ECDSA", 256) => &PKCS_ECDSA_P256_SHA256,
        ("ECDSA", 384) => &PKCS_ECDSA_P384_SHA384,
        ("ECDSA", 521) => match signature {
            "ECDSAWithSHA256" => &PKCS_ECDSA_P521_SHA256,
            "ECDSAWithSHA384" => &PKCS_ECDSA_P521_SHA384,
            _ => &PKCS_ECDSA_P521_SHA512,
        },
        ("Ed25519", _) => &PKCS_ED25519,
        (kind, size) => return Err(format!("there is no {kind} key of {size} bits")),
    };
    Ok(algorithm)
}

/// PEM in `spec.privateKey.encoding`: PKCS #1 for RSA and SEC 1 for ECDSA where that is `PKCS1` or nothing, else PKCS #8.
fn encode(pkcs8: &[u8], spec: &CertificateSpec) -> Result<Zeroizing<String>, String> {
    let wants_pkcs8 = spec.private_key.as_ref().is_some_and(|key| key.encoding == "PKCS8");
    let broken = || "the key is no PKCS #8 of the expected form".to_owned();
    Ok(match kind(spec) {
        "RSA" if !wants_pkcs8 => pem("RSA PRIVATE KEY", inner(pkcs8).ok_or_else(broken)?.1),
        "ECDSA" if !wants_pkcs8 => pem("EC PRIVATE KEY", &sec1(pkcs8).ok_or_else(broken)?),
        _ => pem("PRIVATE KEY", pkcs8),
    })
}

/// The parameters of a PKCS #8 key's algorithm, and the key inside (RFC 5208).
fn inner(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    let (der::SEQUENCE, content, _) = der::element(pkcs8)? else { return None };
    let (der::INTEGER, _, rest) = der::element(content)? else { return None };
    let (der::SEQUENCE, algorithm, rest) = der::element(rest)? else { return None };
    let (der::OCTET_STRING, key, _) = der::element(rest)? else { return None };
    let (_, _, parameters) = der::element(algorithm)?;
    Some((parameters, key))
}

/// The SEC 1 form of an elliptic-curve key, with its curve in it (RFC 5915): other programs need it there.
fn sec1(pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (curve, key) = inner(pkcs8)?;
    let (der::SEQUENCE, content, _) = der::element(key)? else { return None };
    let (der::INTEGER, version, rest) = der::element(content)? else { return None };
    let (der::OCTET_STRING, scalar, mut rest) = der::element(rest)? else { return None };
    let mut fields = Zeroizing::new(der::encode(der::INTEGER, version));
    fields.extend(der::encode(der::OCTET_STRING, scalar));
    fields.extend(der::encode(der::tagged(0), curve));
    while let Some((tag, content, after)) = der::element(rest) {
        if tag == der::tagged(1) {
            fields.extend(der::encode(tag, content));
        }
        rest = after;
    }
    Some(Zeroizing::new(der::encode(der::SEQUENCE, &fields)))
}

/// RFC 7468.
pub fn pem(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(bytes));
    let mut text = Zeroizing::new(String::with_capacity(encoded.len() + encoded.len() / 64 + 80));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cert_manager::PrivateKey;

    fn spec(algorithm: &str, size: i64, encoding: &str) -> CertificateSpec {
        let key = PrivateKey { algorithm: algorithm.into(), size, encoding: encoding.into(), ..PrivateKey::default() };
        CertificateSpec { private_key: Some(key), ..CertificateSpec::default() }
    }

    #[test]
    fn every_key_is_what_it_says_and_reads_back() {
        for (algorithm, size, encoding, label) in [
            ("", 0, "", "RSA PRIVATE KEY"),
            ("RSA", 3072, "PKCS8", "PRIVATE KEY"),
            ("ECDSA", 0, "", "EC PRIVATE KEY"),
            ("ECDSA", 384, "PKCS1", "EC PRIVATE KEY"),
            ("ECDSA", 521, "PKCS8", "PRIVATE KEY"),
            ("Ed25519", 0, "", "PRIVATE KEY"),
        ] {
            let spec = spec(algorithm, size, encoding);
            let key = generate(&spec).expect(label);
            assert!(key.pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{algorithm} {size} {encoding}");
            let again = read(key.pem.as_bytes(), &spec).expect(label);
            assert_eq!(again.pair.public_key_raw(), key.pair.public_key_raw(), "{algorithm} {size} {encoding}");
            let der = PrivateKeyDer::from_pem_slice(key.pem.as_bytes()).expect("PEM");
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).expect("rustls can sign with it");
        }
        assert!(generate(&spec("RSA", 2049, "")).is_err());
        let rsa = generate(&spec("RSA", 2048, "")).expect("a key");
        assert!(read(rsa.pem.as_bytes(), &spec("ECDSA", 256, "")).is_err());
        assert!(read(b"nothing", &spec("RSA", 2048, "")).is_err());
    }
}
