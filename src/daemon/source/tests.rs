//! A look takes over what did not change since the one before. Whatever the edits were, it must come to the same as a
//! look that knows nothing but what was accepted.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
};

use super::*;

const EDITS: usize = 400;
const FILES: [&str; 4] = ["a.yaml", "b.yaml", "d/c.yaml", "d/d.yaml"];
/// Nobody's name, so that bindings call it by its number.
const STRANGER: u32 = 54_321;

fn document(random: &mut fastrand::Rng) -> String {
    let name = ["x", "y", "z"][random.usize(0..3)];
    match random.usize(0..12) {
        0 => "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not A Name}\n".to_owned(),
        1 => "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n".to_owned(),
        2 => "a: [broken\n".to_owned(),
        3 => format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: [1]}}\n"),
        4 => "apiVersion: v1\nkind: Namespace\n".to_owned(),
        5 => "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n".to_owned(),
        6 => "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: maps}\n\
              rules: [{apiGroups: [''], resources: [configmaps], verbs: ['*']}]\n"
            .to_owned(),
        7 => format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: maps}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: maps}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: '{STRANGER}'}}]\n"
        ),
        _ => {
            let value = random.u8(0..3);
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n")
        }
    }
}

fn edit(root: &Path, random: &mut fastrand::Rng, strangers: bool) {
    let path = root.join(FILES[random.usize(0..FILES.len())]);
    match random.usize(0..10) {
        0 => _ = fs::remove_file(path),
        1 => fs::write(path, "").expect("a file"),
        2 if path.exists() => {
            let mode = [0o600, 0o644, 0o664, 0o666][random.usize(0..if strangers { 4 } else { 2 })];
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file");
        }
        3 | 4 if strangers && path.exists() => {
            let owner = Some([0, STRANGER][random.usize(0..2)]);
            chown(path, owner, owner).expect("root may");
        }
        5 => {
            let mode = [0o755, 0o700][random.usize(0..2)];
            fs::set_permissions(root.join("d"), Permissions::from_mode(mode)).expect("a directory");
        }
        _ => {
            let documents: Vec<String> = (0..random.usize(1..4)).map(|_| document(random)).collect();
            fs::write(path, documents.join("---\n")).expect("a file");
        }
    }
}

/// What is in force, but for what each accepts by itself.
fn in_force(sources: &Sources) -> Vec<(ObjectKey, String, Origin)> {
    let objects = sources.accepted.objects.iter();
    objects.map(|(key, object)| (key.clone(), object.value["data"].to_string(), object.origin.clone())).collect()
}

fn open(root: &Path, accepted: &Objects) -> Sources {
    let mut sources = Sources::open(root, &root.join(".state"), Bounds::default()).expect("no later version");
    sources.accepted = Accepted::new(accepted.clone());
    sources
}

/// As many looks again as there were edits, over files of root alone or of others too.
fn run(seed: u64, strangers: bool) {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("a directory");
    fs::create_dir(root.path().join("d")).expect("a directory");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sources = open(root.path(), &Objects::new());
    let (mut refused, mut stale, mut ignored, mut most) = (0, 0, 0, 0);
    for turn in 0..EDITS {
        for _ in 0..random.usize(1..4) {
            edit(root.path(), &mut random, strangers);
        }
        let mut anew = open(root.path(), &sources.accepted.objects);
        sources.look(&HashSet::new(), true);
        anew.look(&HashSet::new(), true);
        assert_eq!(in_force(&sources), in_force(&anew), "turn {turn}");
        assert_eq!(sources.findings, anew.findings, "turn {turn}");
        assert_eq!(sources.ignored, anew.ignored, "turn {turn}");
        assert_eq!(sources.stale, anew.stale, "turn {turn}");
        refused += sources.refused.len();
        stale += sources.stale.len();
        ignored += sources.ignored.len();
        most = most.max(sources.accepted.objects.len());
    }
    assert!(stale > 0 && ignored > 0 && most > 3, "{stale} {ignored} {most}");
    assert_eq!(refused > 0, strangers);
}

#[test]
fn what_is_taken_over_is_what_would_come_anew() {
    run(3, false);
}

#[test]
fn what_is_taken_over_of_others_files_is_what_would_come_anew() {
    if rustix::process::geteuid().is_root() {
        run(5, true);
    }
}
