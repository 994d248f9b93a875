//! The store: what was issued, and how far issuance is. Secrets as manifests in `<state-dir>/secrets`, records in
//! `<state-dir>/certificates`, certificates of own CAs in `<state-dir>/ca`. Written aside, fsynced, renamed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    api::{Kind, ObjectKey},
    durable::replace,
    finding::{Finding, Severity},
    graph::issuance::Attempt,
    manifest::{
        Object,
        accepted::{Objects, file_name},
        parse::parse_file,
        span::Bounds,
    },
};

/// A Secret is at most 1 MiB, in base64.
const MAX_FILE: u64 = 4 << 20;

/// How far one Certificate is, as kept on disk.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Record {
    #[serde(flatten)]
    pub attempt: Attempt,
    /// The order under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// An ACME order under way: it goes on after a restart.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub url: String,
    /// Of the account that made it.
    pub account: String,
    /// What it is for.
    pub request: String,
    /// The key that is certified, PEM.
    #[serde(with = "secret_text")]
    pub key: Zeroizing<String>,
}

/// Text that is wiped when it is dropped.
mod secret_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub fn serialize<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

/// Keys never reach a log.
impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What the disk held at start.
#[derive(Debug, Default)]
pub struct Contents {
    pub secrets: Objects,
    /// By Certificate.
    pub records: BTreeMap<ObjectKey, Record>,
    /// What cannot be used, by the Secret that it was to be.
    pub broken: BTreeMap<ObjectKey, Finding>,
}

/// The directories.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
}

impl Store {
    pub fn new(state: &Path) -> Store {
        Store { state: state.to_path_buf() }
    }

    /// Reads everything. Files that cannot be used are findings, and are left alone until they are issued anew.
    pub fn read(&self) -> Contents {
        let mut contents = Contents::default();
        for (namespace, path) in files(&self.state.join("secrets")) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match read_bounded(&path).map_err(|error| error.to_string()).and_then(|bytes| self.parse(&path, &bytes)) {
                Ok(object) if *object.key.namespace == *namespace => {
                    contents.secrets.insert(object.key.clone(), Arc::new(object));
                }
                read => {
                    let why = read.err().unwrap_or_else(|| "it is of another namespace than its directory".into());
                    contents.broken.insert(ObjectKey::new("Secret", &namespace, &stem), broken(&path, &why));
                }
            }
        }
        for (namespace, path) in files(&self.state.join("certificates")) {
            let record = read_bounded(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
            // Without its record a Certificate is judged by what its Secret says.
            if let Some(Kept { name, record }) = record {
                contents.records.insert(ObjectKey::new("Certificate", &namespace, &name), record);
            }
        }
        contents
    }

    /// Can the disk take a Secret? Asked before an order is made.
    ///
    /// # Errors
    /// Full, read-only, no permission.
    pub fn check(&self) -> io::Result<()> {
        const ROOM: usize = 64 << 10;
        // Several may ask at once.
        let path = self.state.join(format!("secrets/.room-{}", uuid::Uuid::new_v4()));
        let written = write(&path, &[0; ROOM], 0o600, 0o700);
        let _ = fs::remove_file(&path);
        written
    }

    /// Writes a Secret; when it returns, it is durable.
    ///
    /// # Errors
    /// Those of the file system; or the text is no Secret.
    pub fn put_secret(&self, key: &ObjectKey, text: &str) -> io::Result<Object> {
        let path = self.state.join("secrets").join(&*key.namespace).join(file_name(&key.name, ".yaml"));
        let object = self.parse(&path, text.as_bytes()).map_err(io::Error::other)?;
        write(&path, text.as_bytes(), 0o600, 0o700)?;
        Ok(object)
    }

    /// Writes how far a Certificate is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put_record(&self, key: &ObjectKey, record: &Record) -> io::Result<()> {
        let path = self.state.join("certificates").join(&*key.namespace).join(file_name(&key.name, ".json"));
        let kept = Kept { name: key.name.to_string(), record: record.clone() };
        let bytes = Zeroizing::new(serde_json::to_vec_pretty(&kept)?);
        write(&path, &bytes, 0o600, 0o700)
    }

    /// Writes the certificate of a CA of our own, for clients to trust. Readable by everyone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put_authority(&self, secret: &ObjectKey, pem: &str) -> io::Result<()> {
        let path = self.state.join("ca").join(&*secret.namespace).join(file_name(&secret.name, ".crt"));
        write(&path, pem.as_bytes(), 0o644, 0o755)
    }

    /// The Secret in a file of the store.
    fn parse(&self, path: &Path, bytes: &[u8]) -> Result<Object, String> {
        let parsed = parse_file(&path.to_string_lossy(), bytes, &Bounds::default());
        if let Some(finding) = parsed.findings.first() {
            return Err(finding.message.clone());
        }
        let mut objects = parsed.objects.into_iter();
        let (Some(mut object), None) = (objects.next(), objects.next()) else {
            return Err("it holds not just one document".into());
        };
        if object.kind != Kind::Secret {
            return Err(format!("it is a {}", object.kind));
        }
        let since = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let since = since.and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_else(jiff::Timestamp::now);
        object.meta.creation_timestamp = Some(since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        object.meta.generation = 1;
        object.meta.uid = uuid::Uuid::new_v4().to_string();
        Ok(object)
    }
}

/// A record names its Certificate, since a file's name may be cut.
#[derive(Deserialize, Serialize)]
struct Kept {
    name: String,
    #[serde(flatten)]
    record: Record,
}

fn broken(path: &Path, why: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        origin: None,
        object: None,
        field: String::new(),
        reason: "StoreBroken".to_owned(),
        message: format!("{} cannot be used: {why}", path.display()),
        remedy: "what it held is issued anew where it is wanted; else remove it".to_owned(),
    }
}

/// The files two levels down, each with the name of its directory; hidden ones are writes that were cut off.
fn files(root: &Path) -> Vec<(String, PathBuf)> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let mut files = Vec::new();
    for directory in list(root) {
        if !directory.is_dir() {
            let _ = fs::remove_file(&directory);
            continue;
        }
        let namespace = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for path in list(&directory) {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            match hidden {
                true => _ = fs::remove_file(&path),
                false => files.push((namespace.clone(), path)),
            }
        }
    }
    files
}

pub(super) fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(io::Error::other(format!("it has more than {MAX_FILE} bytes"))),
        false => Ok(bytes),
    }
}

pub(super) fn write(path: &Path, bytes: &[u8], mode: u32, directory_mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(directory_mode).create(directory)?;
    // A short name of its own, since an object's file name may be as long as names can be.
    let aside = directory.join(format!(".{}.tmp", uuid::Uuid::new_v4()));
    replace(path, &aside, bytes, mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secret(name: &str) -> String {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: web}}\ndata: {{a: YQ==}}\n")
    }

    #[test]
    fn what_was_put_is_read_and_what_is_broken_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path());
        store.check().expect("there is room");
        let key = ObjectKey::new("Secret", "web", "a");
        store.put_secret(&key, &secret("a")).expect("it is a Secret");
        assert!(store.put_secret(&key, "nonsense").is_err());
        let certificate = ObjectKey::new("Certificate", "web", "a");
        let mut record = Record::default();
        record.attempt.revision = 3;
        record.order =
            Some(Order { url: "u".into(), account: "a".into(), request: "r".into(), key: String::from("k").into() });
        store.put_record(&certificate, &record).expect("there is room");
        let path = directory.path().join("secrets/web/a.yaml");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        fs::write(directory.path().join("secrets/web/b.yaml"), "\0broken: [").expect("writable");
        fs::write(directory.path().join("secrets/web/.c.yaml.tmp"), "half").expect("writable");
        let contents = store.read();
        assert_eq!(contents.secrets.keys().collect::<Vec<_>>(), [&key]);
        assert_eq!(contents.records[&certificate], record);
        assert_eq!(contents.broken.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["b"]);
        assert!(!directory.path().join("secrets/web/.c.yaml.tmp").exists());
    }

    #[test]
    fn a_directory_that_is_none_is_no_room() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("secrets"), "a file").expect("writable");
        assert!(Store::new(directory.path()).check().is_err());
    }
}
