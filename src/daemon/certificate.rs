//! Certificates that are served in place of Secrets that cannot be used, kept in the state directory, so that a restart
//! does not take them away. The accepted-object store has the Secrets themselves.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    finding::Finding,
    graph::{Certificate, certificate::CertificatesByUse},
    manifest::accepted::state_finding,
};

/// One certificate at one listener.
#[derive(Deserialize, Serialize)]
struct Record {
    /// `namespace/gateway/listener`.
    listener: String,
    /// `namespace/name`.
    secret: String,
    chain: String,
    key: String,
}

/// What an earlier run kept; nothing where there is no file.
///
/// # Errors
/// The file cannot be read, or is none of ours.
pub fn read(path: &Path) -> io::Result<CertificatesByUse> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CertificatesByUse::new()),
        read => read?,
    };
    let records: Vec<Record> = serde_json::from_slice(&bytes)?;
    let certificate = |record: Record| {
        let certificate = Certificate::new(&record.secret, record.chain.as_bytes(), record.key.as_bytes());
        ((record.listener, record.secret), certificate)
    };
    Ok(records.into_iter().map(certificate).collect())
}

/// Writes the certificates aside, readable by their owner alone, and renames the file; without any, removes it. A
/// finding where that fails: they are served all the same.
pub fn keep(path: &Path, certificates: &CertificatesByUse) -> Option<Finding> {
    let error = write(path, certificates).err()?;
    Some(state_finding(
        format!("certificates in place of unusable Secrets cannot be kept in {}: {error}", path.display()),
        "make room, or make it writable; until then a restart leaves their listeners without",
    ))
}

fn write(path: &Path, certificates: &CertificatesByUse) -> io::Result<()> {
    if certificates.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
    let record = |((listener, secret), one): (&(String, String), &Certificate)| Record {
        listener: listener.clone(),
        secret: secret.clone(),
        chain: text(&one.chain_pem),
        key: text(&one.key_pem),
    };
    let records: Vec<Record> = certificates.iter().map(record).collect();
    let aside = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&serde_json::to_vec(&records)?)?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_is_nobody_elses() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("certificates.json");
        assert!(read(&path).expect("no file is no error").is_empty());
        let place = ("default/gate/https".to_owned(), "default/pair".to_owned());
        let certificates = CertificatesByUse::from([(place, Certificate::new("default/pair", b"chain", b"key"))]);
        assert_eq!(keep(&path, &certificates), None);
        assert_eq!(read(&path).expect("is ours"), certificates);
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(keep(&path, &CertificatesByUse::new()), None);
        assert!(!path.exists());
        fs::write(&path, "rubbish").expect("the directory is writable");
        assert!(read(&path).is_err());
    }
}
