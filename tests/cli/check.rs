//! `gapi check`: what it reads and how it ends.

use std::{fs, thread};

use super::support::RuntimeDir;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{prt: 80}]}\n";

#[test]
fn a_pipe_is_read_to_its_end() {
    let dir = RuntimeDir::new();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .expect("a FIFO can be made");
    let writer = pipe.clone();
    let writer = thread::spawn(move || fs::write(writer, SERVICE).expect("the reader takes it"));
    let ran = dir.gapi(&format!("check {}", pipe.display()));
    writer.join().expect("it wrote");
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("unknown field \"prt\""), "{}", ran.out);
}

#[test]
fn what_is_not_there_is_an_error() {
    let dir = RuntimeDir::new();
    let ran = dir.gapi(&format!("check {}/none.yaml", dir.path().display()));
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("none.yaml cannot be read: No such file"), "{}", ran.out);
}

#[test]
fn kustomize_files_without_a_name_are_ignored() {
    let dir = RuntimeDir::new();
    fs::write(dir.path().join("kustomization.yaml"), "resources: [a.yaml]\n").expect("a temporary file");
    let ran = dir.gapi(&format!("check {}", dir.path().display()));
    assert_eq!(ran.code, 0);
    assert!(ran.out.starts_with("ignored: Kustomization: kustomization without a name ("), "{}", ran.out);
}
