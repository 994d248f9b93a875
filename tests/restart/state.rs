//! State outlives versions, and a later version's is never touched.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use rustix::process::Signal;

use crate::support::{
    Backend, Client, Gapi, free_port,
    gapi::run,
    loopback,
    manifest::{service, simple},
};

const SOON: Duration = Duration::from_secs(20);

/// Every file below, with its bytes.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("it is readable").flatten() {
        if entry.path().is_dir() {
            files.extend(self::files(&entry.path()));
        } else if entry.file_name() != "lock" {
            files.insert(entry.path().display().to_string(), fs::read(entry.path()).expect("it is readable"));
        }
    }
    files
}

#[test]
fn a_later_versions_state_is_refused_and_left_alone() {
    let backend = Backend::named("hello");
    let port = free_port();
    let gapi = Gapi::serve(&[("all.yaml", simple(port, backend.address))]);
    let (_, start) = gapi.end(Signal::TERM, SOON);
    let (root, state) = (start.root().to_path_buf(), start.state());
    assert_eq!(fs::read_to_string(state.join("version")).expect("it is marked"), "1\n");
    let record = state.join("accepted/default/services/backend.json");
    let ours = fs::read_to_string(&record).expect("it was accepted");
    let later = ours.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(ours, later);
    // What is asked for is another version of that very object.
    let text: String = service("backend", &[]).iter().map(|document| format!("---\n{document}\n")).collect();
    fs::write(root.join("config/all.yaml"), text).expect("it is writable");
    for (name, content) in [("version", "2\n"), ("accepted/default/services/backend.json", &later)] {
        let path = state.join(name);
        let before = fs::read_to_string(&path).expect("it is there");
        fs::write(&path, content).expect("it is writable");
        let held = files(&state);
        let path_of = |name: &str| root.join(name).to_str().expect("the path is ASCII").to_owned();
        let (config, state_dir, runtime) = (path_of("config"), path_of("state"), path_of("run"));
        let ran = run(["run", "--config-dir", &config, "--state-dir", &state_dir, "--runtime-dir", &runtime]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.text.contains("version 2") && ran.text.contains("--state-dir"), "{}", ran.text);
        assert_eq!(files(&state), held, "nothing is touched");
        fs::write(&path, before).expect("it is writable");
    }
}

/// What was accepted is served by the next run though its file is broken now; also state that has no mark yet.
#[test]
fn state_of_before_is_read() {
    let backend = Backend::named("hello");
    let port = free_port();
    let gapi = Gapi::serve(&[("all.yaml", simple(port, backend.address))]);
    let (_, start) = gapi.end(Signal::TERM, SOON);
    fs::remove_file(start.state().join("version")).expect("it is marked");
    fs::write(start.config().join("all.yaml"), "{").expect("it is writable");
    let gapi = start.serve();
    let answer = Client::connect(loopback(port)).expect("it serves").get("a.test", "/").expect("it serves");
    assert_eq!(answer.status(), 200);
    assert_eq!(fs::read_to_string(gapi.state().join("version")).expect("it is marked"), "1\n");
}
