//! Can every user of this machine read a file that holds Secrets?

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::parse::ParsedFile;
use crate::{
    api::Kind,
    finding::{Finding, Severity},
};

/// The bits of a mode that are about everybody: read, and enter.
const READ: u32 = 0o004;
const ENTER: u32 = 0o001;

/// A warning for each Secret of `file`, which stands at `path`, when everybody can read it.
pub fn findings(path: &Path, file: &ParsedFile) -> Vec<Finding> {
    let mut secrets = file.objects.iter().filter(|object| object.kind == Kind::Secret).peekable();
    if secrets.peek().is_none() || !is_readable_by_all(path) {
        return Vec::new();
    }
    let warning = |object: &super::Object| Finding {
        severity: Severity::Warning,
        origin: Some(object.origin.clone()),
        object: Some(object.key.clone()),
        field: String::new(),
        reason: "ReadableByAll".to_owned(),
        message: "every user of this machine can read the file of this Secret".to_owned(),
        remedy: "take the right from others (chmod o= FILE), or close its directory".to_owned(),
    };
    secrets.map(warning).collect()
}

/// Unknown is not readable: whatever keeps gapi from looking keeps others from it too.
fn is_readable_by_all(path: &Path) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    let has = |path: &Path, bit: u32| fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bit != 0);
    has(&path, READ) && path.ancestors().skip(1).all(|directory| has(directory, ENTER))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::manifest::{parse::parse_file, span::Bounds};

    #[test]
    fn a_file_and_each_directory_above_it_count() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        let path = inner.join("secret.yaml");
        fs::create_dir(&inner).unwrap();
        fs::write(&path, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let parsed = |text: &str| parse_file("secret.yaml", text.as_bytes(), &Bounds::default());
        let secret = parsed("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n");
        for (top, middle, file, want) in [
            (0o755, 0o755, 0o644, 1),
            (0o755, 0o755, 0o640, 0),
            (0o755, 0o750, 0o644, 0),
            (0o700, 0o755, 0o644, 0),
            (0o711, 0o711, 0o604, 1),
        ] {
            set(directory.path(), top);
            set(&inner, middle);
            set(&path, file);
            assert_eq!(findings(&path, &secret).len(), want, "{top:o} {middle:o} {file:o}");
        }
        assert!(findings(&path, &parsed("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")).is_empty());
    }
}
