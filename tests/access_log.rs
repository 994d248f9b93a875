//! The access log of a running daemon: moved away, complete at the end, not to be opened.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use support::{Backend, Client, Directory, Gapi, Reply, free_port, gapi::Start, loopback, manifest::simple, wait};

/// A daemon that writes an access log, and its path.
fn logging(port: u16, backend: &Backend) -> (Gapi, PathBuf) {
    let start = Start::new().file("all.yaml", simple(port, backend.address));
    let log = start.root().join("access.log");
    let path = log.to_str().expect("the path is ASCII").to_owned();
    (start.flag("--access-log", &path).serve(), log)
}

fn ask(port: u16, target: &str) {
    let mut client = Client::connect(loopback(port)).expect("it listens");
    assert_eq!(client.get("a.test", target).expect("an answer").status(), 200);
}

fn says(log: &Path, target: &str) -> bool {
    fs::read_to_string(log).unwrap_or_default().contains(&format!("\"target\":\"{target}\""))
}

/// As logrotate does it: renamed, then the daemon is told.
#[test]
fn an_access_log_that_was_renamed_is_opened_anew() {
    let backend = Backend::start(|_, _| Reply::ok("ok"));
    let port = free_port();
    let (gapi, log) = logging(port, &backend);
    let old = |number: usize| log.with_extension(format!("log.{number}"));
    let told: [&dyn Fn(); 2] = [&|| gapi.signal(Signal::HUP), &|| assert_eq!(gapi.reload().code, 0)];
    for (number, tell) in told.into_iter().enumerate() {
        let (before, after) = (format!("/before-{number}"), format!("/after-{number}"));
        ask(port, &before);
        wait("the line is written", Duration::from_secs(5), || says(&log, &before));
        fs::rename(&log, old(number)).expect("the log is there");
        tell();
        wait("the log is there again", Duration::from_secs(5), || log.exists());
        ask(port, &after);
        wait("its line is written", Duration::from_secs(5), || says(&log, &after));
        assert!(says(&old(number), &before) && !says(&old(number), &after));
    }
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let backend = Backend::start(|_, _| Reply::ok("ok"));
    let port = free_port();
    let (gapi, log) = logging(port, &backend);
    (0..20).for_each(|number| ask(port, &format!("/{number}")));
    let (status, _kept) = gapi.end(Signal::TERM, Duration::from_secs(10));
    assert_eq!(status.code(), Some(0));
    assert!((0..20).all(|number| says(&log, &format!("/{number}"))));
    let lines = fs::read_to_string(&log).expect("readable");
    assert_eq!(lines.matches(r#""kind":"HTTPRoute","route":"default/all","rule":0,"#).count(), 20, "{lines}");
}

#[test]
fn an_access_log_that_cannot_be_opened_is_named() {
    let state = Directory::new();
    let state = state.path().to_str().expect("the path is ASCII");
    let ran = support::gapi::run(["run", "--access-log", "/dev/null/access.log", "--state-dir", state]);
    assert_eq!(ran.code, 1);
    assert!(ran.text.contains("the access log /dev/null/access.log: Not a directory"), "{}", ran.text);
}
