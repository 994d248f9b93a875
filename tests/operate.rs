//! Running as a service: what systemd is told, signals, the log, one daemon for one state.

mod support;

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    Backend, Client, Gapi, Reply, free_port,
    gapi::{Start, run},
    loopback,
    manifest::{file, gateway, http, prefix, route, service, simple},
    wait,
};

const SOON: Duration = Duration::from_secs(10);

fn status(port: u16) -> Option<u16> {
    Some(Client::connect(loopback(port)).ok()?.get("a.test", "/").ok()?.status())
}

/// READY once it serves, RELOADING and READY around a reload, a STATUS for people, STOPPING at the end.
#[test]
fn systemd_is_told() {
    let backend = Backend::named("hello");
    let port = free_port();
    let directory = support::Directory::new();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the directory is writable");
    socket.set_nonblocking(true).expect("the socket is ours");
    let mut heard = String::new();
    let mut hears = |words: &[&str]| {
        let start = Instant::now();
        while !words.iter().all(|word| heard.contains(word)) {
            let mut buffer = [0; 4096];
            match socket.recv(&mut buffer) {
                Ok(length) => heard.push_str(&(String::from_utf8_lossy(&buffer[..length]).into_owned() + "\n")),
                Err(_) => sleep(Duration::from_millis(5)),
            }
            assert!(start.elapsed() < SOON, "{words:?} is not in:\n{heard}");
        }
        std::mem::take(&mut heard)
    };
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let start = Start::new().under(&["env", &variable]).file("all.yaml", simple(port, backend.address));
    let gapi = start.spawn();
    hears(&["READY=1", "STATUS="]);
    assert_eq!(status(port), Some(200), "ready means that it serves");
    gapi.put("more.yaml", file(&[route("more", "gate", &["more.test"], &[prefix("/", "backend")])]));
    gapi.signal(Signal::HUP);
    hears(&["STATUS="]);
    let (ended, _) = gapi.end(Signal::TERM, SOON);
    assert!(ended.success(), "{ended}");
    hears(&["STOPPING=1"]);
}

/// SIGTERM lets requests end, and takes no more.
#[test]
fn terminated_with_a_request_in_flight() {
    let slow = Backend::start(|_, _| {
        sleep(Duration::from_millis(700));
        Reply::ok("slow")
    });
    let port = free_port();
    let gapi = Gapi::serve(&[("all.yaml", simple(port, slow.address))]);
    let request = thread::spawn(move || {
        let mut client = Client::connect(loopback(port)).ok()?;
        Some(client.get("a.test", "/").ok()?.text())
    });
    wait("the request is on its way", SOON, || !slow.connections().is_empty());
    gapi.signal(Signal::TERM);
    wait("no more connections are taken", SOON, || Client::connect(loopback(port)).is_err());
    assert_eq!(request.join().expect("the client does not panic").as_deref(), Some("slow"));
    let start = Instant::now();
    let mut gapi = gapi;
    while gapi.is_running() {
        assert!(start.elapsed() < SOON, "it does not end");
        sleep(Duration::from_millis(10));
    }
}

/// A second daemon on the same state is refused, and says who has it.
#[test]
fn a_second_daemon_on_the_same_state() {
    let backend = Backend::named("hello");
    let port = free_port();
    let gapi = Gapi::serve(&[("all.yaml", simple(port, backend.address))]);
    let runtime = gapi.runtime().with_file_name("run-2");
    fs::create_dir(&runtime).expect("the parent is writable");
    let paths = [gapi.config(), gapi.state(), runtime];
    let [config, state, runtime] = paths.each_ref().map(|path| path.to_str().expect("the path is ASCII"));
    let ran = run(["run", "--config-dir", config, "--state-dir", state, "--runtime-dir", runtime]);
    assert!(![0, 3].contains(&ran.code), "{ran:?}");
    assert!(ran.text.contains(&gapi.id().to_string()), "{}", ran.text);
    assert_eq!(status(port), Some(200));
}

/// Nor may one take the admin socket from another that is served.
#[test]
fn a_second_daemon_on_the_same_runtime_directory() {
    let backend = Backend::named("hello");
    let port = free_port();
    let gapi = Gapi::serve(&[("all.yaml", simple(port, backend.address))]);
    let state = gapi.state().with_file_name("state-2");
    let paths = [gapi.config(), state, gapi.runtime()];
    let [config, state, runtime] = paths.each_ref().map(|path| path.to_str().expect("the path is ASCII"));
    let ran = run(["run", "--config-dir", config, "--state-dir", state, "--runtime-dir", runtime]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.text.contains("another gapi listens there"), "{}", ran.text);
    assert_eq!((gapi.reload().code, status(port)), (0, Some(200)));
}

/// A log that stands beside the watched directory must not be what is logged.
#[test]
fn the_log_does_not_feed_itself() {
    let backend = Backend::named("hello");
    let start = Start::new().flag("--log-level", "trace").file("all.yaml", simple(free_port(), backend.address));
    let gapi = start.serve();
    sleep(Duration::from_secs(1));
    assert!(!gapi.log().contains("inotify event"), "{}", &gapi.log()[..2000]);
}

/// Commands that find no daemon say so, and what is known from before.
#[test]
fn no_daemon() {
    let backend = Backend::named("hello");
    let gapi = Gapi::serve(&[("all.yaml", simple(free_port(), backend.address))]);
    assert_eq!(gapi.ask(&["get", "gateways"]).code, 0);
    let (_, directories) = gapi.end(Signal::KILL, SOON);
    let runtime = directories.root().join("run");
    let ask = |words: &[&str]| {
        run(words.iter().copied().chain(["--runtime-dir", runtime.to_str().expect("the path is ASCII")]))
    };
    for command in [&["status"][..], &["reload"]] {
        let ran = ask(command);
        assert_eq!(ran.code, 3, "{command:?}: {}", ran.text);
        assert!(ran.text.contains("run"), "{}", ran.text);
    }
    let ran = ask(&["get", "gateways"]);
    assert!(ran.code == 0 && ran.text.contains("gate"), "the status files are there: {ran:?}");
}

/// Ports change hands between two Gateways in one edit, and an edit that adds and takes listeners touches no other.
#[test]
fn a_kept_connection_outlives_edits_of_other_listeners() {
    let backend = Backend::named("hello");
    let (kept, other) = (free_port(), free_port());
    let gates = |ports: &[u16]| {
        let listeners: Vec<_> = ports.iter().map(|port| http(&format!("p{port}"), *port)).collect();
        let mut documents = vec![gateway("gate", &listeners), route("all", "gate", &[], &[prefix("/", "backend")])];
        documents.extend(service("backend", &[backend.address]));
        file(&documents)
    };
    let gapi = Gapi::serve(&[("all.yaml", gates(&[kept]))]);
    let mut client = Client::connect(loopback(kept)).expect("the gateway listens");
    let local = client.local();
    for ports in [&[kept, other][..], &[kept], &[kept, other]] {
        gapi.put("all.yaml", gates(ports));
        assert_eq!(gapi.reload().code, 0);
        let answer = client.get("a.test", "/").expect("the connection is still there");
        assert_eq!((answer.status(), client.local()), (200, local));
        assert_eq!(status(other).is_some(), ports.contains(&other));
    }
}

/// What did not change keeps its time, its uid and its generation over a restart, and its file is not written again.
#[test]
fn a_restart_is_no_transition() {
    let backend = Backend::named("hello");
    let port = free_port();
    let gapi = Gapi::serve(&[("all.yaml", simple(port, backend.address))]);
    let paths = ["default/gateways/gate.yaml", "default/services/gapi-gate.yaml", "_cluster/gatewayclasses/gapi.yaml"];
    let files = |gapi: &Gapi| {
        paths.map(|path| {
            let inode = fs::metadata(gapi.runtime().join("status").join(path)).expect("the file is there").ino();
            (gapi.status_file(path), inode)
        })
    };
    let before = files(&gapi);
    assert!(before[0].0.contains("lastTransitionTime"), "{before:?}");
    // Times are written in seconds.
    sleep(Duration::from_millis(1100));
    let (_, start) = gapi.end(Signal::TERM, SOON);
    let gapi = start.serve();
    assert_eq!(files(&gapi), before);
}
