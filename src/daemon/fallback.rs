//! Certificates that are served though their Secret says something else by now, which cannot be used: kept in the state
//! directory, so that a restart loses none. Those that their Secrets say are in the accepted-object store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    durable::replace,
    finding::Finding,
    graph::certificate::{Certificate, CertificatesByUse},
    manifest::accepted::state_finding,
};

/// The file of fallbacks, readable by its owner alone.
pub struct Fallbacks {
    path: PathBuf,
    kept: CertificatesByUse,
}

#[derive(Deserialize, Serialize)]
struct Record {
    listener: String,
    secret: String,
    digest: String,
    chain: String,
    key: String,
}

impl Fallbacks {
    /// Reads the file; what cannot be read counts as nothing, and is told.
    pub fn open(path: PathBuf) -> Fallbacks {
        let kept = read(&path).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "certificates that worked last cannot be read");
            CertificatesByUse::new()
        });
        Fallbacks { path, kept }
    }

    /// What was kept.
    pub fn certificates(&self) -> &CertificatesByUse {
        &self.kept
    }

    /// Makes the file hold the fallbacks among `certificates`. A finding where that fails: they are served all the same.
    pub fn keep(&mut self, certificates: &CertificatesByUse) -> Option<Finding> {
        let fallbacks = certificates.iter().filter(|(_, certificate)| certificate.is_fallback);
        let fallbacks: CertificatesByUse = fallbacks.map(|(used, one)| (used.clone(), one.clone())).collect();
        if fallbacks == self.kept {
            return None;
        }
        match write(&self.path, &fallbacks) {
            Ok(()) => {
                self.kept = fallbacks;
                None
            }
            Err(error) => Some(state_finding(
                format!("the certificates that worked last cannot be kept in {}: {error}", self.path.display()),
                "make room, or make it writable",
            )),
        }
    }
}

fn read(path: &Path) -> io::Result<CertificatesByUse> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CertificatesByUse::new()),
        read => read?,
    };
    let records: Vec<Record> = serde_json::from_slice(&bytes)?;
    let pem = |text: &str| BASE64_STANDARD.decode(text).map_err(io::Error::other);
    let certificate = |record: Record| {
        let Record { listener, secret, digest, chain, key } = record;
        let (chain_pem, key_pem) = (pem(&chain)?.into(), pem(&key)?.into());
        let certificate = Certificate { key: secret.clone(), digest, chain_pem, key_pem, is_fallback: true };
        Ok(((listener, secret), certificate))
    };
    records.into_iter().map(certificate).collect()
}

fn write(path: &Path, fallbacks: &CertificatesByUse) -> io::Result<()> {
    if fallbacks.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let record = |((listener, secret), certificate): (&(String, String), &Certificate)| Record {
        listener: listener.clone(),
        secret: secret.clone(),
        digest: certificate.digest.clone(),
        chain: BASE64_STANDARD.encode(&certificate.chain_pem),
        key: BASE64_STANDARD.encode(&certificate.key_pem),
    };
    let records: Vec<Record> = fallbacks.iter().map(record).collect();
    replace(path, &path.with_extension("tmp"), &serde_json::to_vec(&records)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallbacks_alone_are_kept_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certificates.json");
        let one = |is_fallback: bool| Certificate {
            key: "default/c".into(),
            digest: "d".into(),
            chain_pem: b"chain".as_slice().into(),
            key_pem: b"key".as_slice().into(),
            is_fallback,
        };
        let used = |name: &str| (format!("default/gw/{name}"), "default/c".to_owned());
        let mut fallbacks = Fallbacks::open(path.clone());
        let certificates = CertificatesByUse::from([(used("a"), one(true)), (used("b"), one(false))]);
        assert!(fallbacks.keep(&certificates).is_none());
        assert_eq!(*Fallbacks::open(path.clone()).certificates(), CertificatesByUse::from([(used("a"), one(true))]));
        assert!(fallbacks.keep(&CertificatesByUse::new()).is_none());
        assert!(!path.exists());
        fs::write(&path, "[").unwrap();
        assert!(Fallbacks::open(path).certificates().is_empty());
    }
}
