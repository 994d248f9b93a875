//! What goes wrong around a gateway: broken files, hostile files, a directory that moves, sockets and disks that are not
//! to be had, a kill in the middle of a write. In each case what is served goes on, the message names the cause, and
//! nothing is lost.

mod support;

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;
use support::{
    Authority, Backend, Client, Gapi, Ran, free_port,
    gapi::Start,
    loopback,
    manifest::{file, gateway, http, https, prefix, route, secret, service},
    wait,
};

/// A gateway that serves one route, and a client that asks for it all the time.
struct Stage {
    gapi: Gapi,
    address: SocketAddr,
    traffic: Traffic,
    backend: Backend,
}

/// Where the good route is.
const ROUTE: &str = "route.yaml";

impl Stage {
    fn new() -> Stage {
        Stage::from(Start::new())
    }

    fn from(start: Start) -> Stage {
        let backend = Backend::named("hello");
        let port = free_port();
        let gapi = start
            .file("gateway.yaml", file(&[gateway("gate", &[http("http", port)])]))
            .file("service.yaml", file(&service("hello", &[backend.address])))
            .file(ROUTE, good_route())
            .serve();
        let address = loopback(port);
        assert!(serves(address), "{}", gapi.log());
        Stage { gapi, address, traffic: Traffic::start(address), backend }
    }

    /// `gapi reload` and `gapi status` both complain, in these words, and all that was served is served.
    fn complains(&self, words: &[&str]) -> Ran {
        let reload = self.gapi.reload();
        let status = self.gapi.ask(&["status"]);
        for ran in [&reload, &status] {
            assert_eq!(ran.code, 1, "an error exits 1: {}", ran.text);
            names(&ran.text, words);
        }
        assert!(serves(self.address));
        reload
    }

    /// Nothing is wrong (any more).
    fn is_content(&self) {
        for command in ["reload", "status"] {
            let ran = self.gapi.ask(&[command]);
            assert_eq!(ran.code, 0, "{}", ran.text);
        }
        assert!(serves(self.address));
    }

    /// No request failed in all this time.
    fn end(self) -> Gapi {
        let failures = self.traffic.end();
        assert!(failures.is_empty(), "{failures:#?}");
        drop(self.backend);
        self.gapi
    }
}

fn good_route() -> String {
    file(&[route("good", "gate", &[], &[prefix("/", "hello")])])
}

/// A route that shows when it is in force, since the good one takes everything else.
fn signpost(name: &str, path: &str) -> String {
    let rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere.test", "statusCode": 302}}],
    });
    file(&[route(name, "gate", &[], &[rule])])
}

/// Is the signpost at `path` in force?
fn points(address: SocketAddr, path: &str) -> bool {
    matches!(get(address, "any.test", path), Some((302, _)))
}

fn serves(address: SocketAddr) -> bool {
    matches!(get(address, "any.test", "/"), Some((200, text)) if text == "hello")
}

fn get(address: SocketAddr, host: &str, target: &str) -> Option<(u16, String)> {
    let answer = Client::connect(address).ok()?.get(host, target).ok()?;
    Some((answer.status(), answer.text()))
}

fn names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

/// Asks for the good route until the end.
struct Traffic {
    stopped: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Traffic {
    fn start(address: SocketAddr) -> Traffic {
        let (stopped, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stop, fail) = (stopped.clone(), failures.clone());
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let start = Instant::now();
                let found = get(address, "any.test", "/");
                let took = start.elapsed();
                if found != Some((200, "hello".into())) || took > Duration::from_secs(2) {
                    fail.lock().expect("nobody panics with it").push(format!("{found:?} after {took:?}"));
                }
                sleep(Duration::from_millis(5));
            }
        });
        Traffic { stopped, failures, thread }
    }

    fn end(self) -> Vec<String> {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.join().expect("the client does not panic");
        self.failures.lock().expect("nobody panics with it").clone()
    }
}

/// Without the privileges that root has over files and ports; the same user else. As another user it is so already.
const UNPRIVILEGED: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

fn unprivileged() -> Start {
    match rustix::process::geteuid().is_root() {
        true => Start::new().under(UNPRIVILEGED),
        false => Start::new(),
    }
}

// --- Files.

/// Each takes the place of the good route, which goes on being served, also by a daemon that starts anew.
#[test]
fn broken_files_leave_the_last_accepted_version() {
    let good = good_route();
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = vec![format!("*a{}", level - 1); 10].join(", ");
            let _ = writeln!(text, "a{level}: &a{level} [{previous}]");
        }
        text
    };
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        good.replace(from, to)
    };
    let cases: [(&str, String, &[&str]); 9] = [
        ("truncated", good[..good.len() * 2 / 3].to_owned(), &[ROUTE]),
        ("truncated within a word", good[..good.len() / 2].trim_end().to_owned(), &[ROUTE]),
        ("a wrong type", with("\"port\": 80", "\"port\": \"eighty\""), &[ROUTE, "HTTPRoute default/good", "port"]),
        ("a number out of range", with("\"port\": 80", "\"port\": 80000"), &[ROUTE, "port", "65535"]),
        ("an unknown field", with("\"backendRefs\"", "\"backendRef\""), &[ROUTE, "backendRef", "backendRefs"]),
        ("an unknown value", with("PathPrefix", "Prefix"), &[ROUTE, "Prefix", "PathPrefix"]),
        ("anchors that explode", bomb, &[ROUTE]),
        ("endless depth", "[".repeat(100_000), &[ROUTE]),
        ("bytes that are no text", "\u{0}\u{1}\u{2}kind: HTTPRoute".into(), &[ROUTE]),
    ];
    let mut stage = Stage::new();
    for (name, text, words) in cases {
        stage.gapi.put(ROUTE, &text);
        let start = Instant::now();
        let said = stage.complains(words).text;
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: took {:?}", start.elapsed());
        assert!(said.contains(&format!("{ROUTE}:")), "{name}: no line is named in:\n{said}");

        let failures = stage.traffic.end();
        assert!(failures.is_empty(), "{name}: {failures:#?}");
        let (_, directories) = stage.gapi.end(Signal::KILL, Duration::from_secs(5));
        let gapi = directories.serve();
        assert!(serves(stage.address), "{name}: lost by a restart\n{}", gapi.log());
        stage = Stage { gapi, traffic: Traffic::start(stage.address), ..stage };
        stage.complains(words);

        stage.gapi.put(ROUTE, &good);
        stage.is_content();
    }
    stage.end();
}

#[test]
fn one_broken_document_among_good_ones() {
    let stage = Stage::new();
    let broken = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "broken", "namespace": "default"}, "spec": {"rulez": []},
    });
    stage.gapi.put("both.yaml", file(&[broken]) + &signpost("fine", "/fine"));
    stage.complains(&["both.yaml:", "HTTPRoute default/broken", "rulez", "rules"]);
    assert!(points(stage.address, "/fine"));
    stage.gapi.take("both.yaml");
    stage.is_content();
    stage.end();
}

/// 100 MB in one file: refused by its size, without being read into memory.
#[test]
fn a_file_of_100_megabytes() {
    let stage = Stage::new();
    let before = peak_memory(&stage.gapi);
    let line = format!("# {}\n", "x".repeat(1021));
    stage.gapi.put("large.yaml", line.repeat(100 * 1024));
    let start = Instant::now();
    stage.complains(&["large.yaml", "32"]);
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    let grown = peak_memory(&stage.gapi) - before;
    assert!(grown < 50_000, "memory grew by {grown} KiB");
    stage.gapi.take("large.yaml");
    stage.is_content();
    stage.end();
}

/// In KiB.
fn peak_memory(gapi: &Gapi) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gapi.id())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}

#[test]
fn two_documents_for_one_object() {
    let stage = Stage::new();
    let other = file(&[route("good", "gate", &[], &[prefix("/elsewhere", "hello")])]);
    stage.gapi.put("another.yaml", other);
    stage.complains(&["another.yaml", ROUTE, "HTTPRoute default/good"]);
    let failures = stage.traffic.end();
    assert!(failures.is_empty(), "{failures:#?}");
    // When the first is taken away, the second has it.
    stage.gapi.take(ROUTE);
    let ran = stage.gapi.reload();
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(get(stage.address, "any.test", "/elsewhere"), Some((200, "hello".into())));
    assert_eq!(get(stage.address, "any.test", "/").map(|(status, _)| status), Some(404));
}

#[test]
fn an_unreadable_file() {
    let stage = Stage::from(unprivileged());
    let path = stage.gapi.config().join(ROUTE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("the file is ours");
    stage.complains(&[ROUTE, "ermission"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    stage.is_content();
    stage.end();
}

/// Names that may not be looked up, then not even listed, also by a daemon that starts anew.
#[test]
fn an_unreadable_directory() {
    let stage = Stage::from(unprivileged());
    let directory = stage.gapi.config().join("team");
    let set = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("the directory is ours");
    fs::create_dir(&directory).expect("the directory is writable");
    stage.gapi.put("team/extra.yaml", signpost("extra", "/extra"));
    wait("the route is served", Duration::from_secs(30), || points(stage.address, "/extra"));
    for mode in [0o600, 0o000] {
        set(mode);
        stage.complains(&["team", "Permission denied", "stays in force"]);
        assert!(points(stage.address, "/extra"));
    }
    let address = stage.address;
    let (_, start) = stage.end().end(Signal::TERM, Duration::from_secs(20));
    let gapi = start.under(UNPRIVILEGED).serve();
    assert!(points(address, "/extra"), "{}", gapi.log());
    set(0o755);
}

/// What was mounted over the directory is not taken for it; without it all is as before, however often somebody asks.
#[test]
fn a_mount_over_the_directory() {
    let stage = Stage::new();
    let config = stage.gapi.config();
    let Some(mount) = SmallDisk::mount(&config) else {
        eprintln!("skipped: only root can mount a small file system");
        return;
    };
    stage.complains(&["another device"]);
    drop(mount);
    wait("it is noticed", Duration::from_secs(10), || stage.gapi.ask(&["status"]).code == 0);
    stage.gapi.put("extra.yaml", signpost("extra", "/extra"));
    wait("edits are served", Duration::from_secs(10), || points(stage.address, "/extra"));
    stage.end();
}

#[test]
fn links_pipes_and_loops() {
    let stage = Stage::new();
    let config = stage.gapi.config();
    symlink(".", config.join("itself")).expect("the directory is writable");
    symlink("b.yaml", config.join("a.yaml")).expect("the directory is writable");
    symlink("a.yaml", config.join("b.yaml")).expect("the directory is writable");
    symlink("nowhere.yaml", config.join("dangling.yaml")).expect("the directory is writable");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        config.join("pipe.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("a FIFO can be made");
    let start = Instant::now();
    let ran = stage.gapi.reload();
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    // Warnings, no errors: nothing that was asked for is missing.
    assert_eq!(ran.code, 0, "{}", ran.text);
    let said = ran.text + &stage.gapi.ask(&["status"]).text;
    names(&said, &["a.yaml", "dangling.yaml", "pipe.yaml"]);
    assert!(serves(stage.address));
    stage.end();
}

/// A file that is reached by two names counts once.
#[test]
fn a_linked_file_counts_once() {
    let stage = Stage::new();
    symlink(ROUTE, stage.gapi.config().join("z-link.yaml")).expect("the directory is writable");
    fs::hard_link(stage.gapi.config().join(ROUTE), stage.gapi.config().join("z-hard.yaml")).expect("the same disk");
    stage.is_content();
    stage.end();
}

// --- The directory.

#[test]
fn the_directory_is_swapped_by_rename() {
    let stage = Stage::new();
    let config = stage.gapi.config();
    let (aside, next) = (config.with_file_name("aside"), config.with_file_name("next"));
    fs::create_dir(&next).expect("the parent is writable");
    for entry in fs::read_dir(&config).expect("the directory is readable") {
        let path = entry.expect("the directory is readable").path();
        fs::copy(&path, next.join(path.file_name().expect("a file has a name"))).expect("files can be copied");
    }
    fs::write(next.join("extra.yaml"), signpost("extra", "/extra")).expect("the directory is writable");
    fs::rename(&config, &aside).expect("the parent is writable");
    fs::rename(&next, &config).expect("the parent is writable");
    // Nobody asks for a reload: it is noticed.
    wait("the new directory is served", Duration::from_secs(30), || points(stage.address, "/extra"));

    // And so are edits in it afterwards.
    stage.gapi.take("extra.yaml");
    wait("an edit in it is served", Duration::from_secs(30), || !points(stage.address, "/extra"));
    stage.is_content();
    stage.end();
}

#[test]
fn the_directory_goes_away() {
    let stage = Stage::new();
    let config = stage.gapi.config();
    let aside = config.with_file_name("aside");
    fs::rename(&config, &aside).expect("the parent is writable");
    stage.complains(&[config.to_str().expect("the path is ASCII")]);
    fs::rename(&aside, &config).expect("the parent is writable");
    stage.is_content();
    stage.end();
}

/// As ConfigMap volumes and deployment tools do it.
#[test]
fn a_linked_directory_is_swapped() {
    let stage = Stage::new();
    let (config, root) = (stage.gapi.config(), stage.gapi.config().with_file_name("versions"));
    for (version, path) in [("1", "/one"), ("2", "/two")] {
        let directory = root.join(version);
        fs::create_dir_all(&directory).expect("the parent is writable");
        fs::write(directory.join("linked.yaml"), signpost("linked", path)).expect("the directory is writable");
    }
    symlink(root.join("1"), config.join("current")).expect("the directory is writable");
    wait("version 1 is served", Duration::from_secs(30), || points(stage.address, "/one"));
    symlink(root.join("2"), root.join("new")).expect("the directory is writable");
    fs::rename(root.join("new"), config.join("current")).expect("the directory is writable");
    wait("version 2 is served", Duration::from_secs(30), || points(stage.address, "/two"));
    stage.is_content();
    stage.end();
}

/// Empty for a moment, as some editors leave it.
#[test]
fn a_file_that_is_empty_for_a_moment() {
    let stage = Stage::new();
    let path = stage.gapi.config().join(ROUTE);
    for _ in 0..5 {
        fs::write(&path, "").expect("the file is writable");
        sleep(Duration::from_millis(200));
        fs::write(&path, good_route()).expect("the file is writable");
        sleep(Duration::from_millis(200));
    }
    stage.is_content();
    stage.end();
}

// --- Certificates.

#[test]
fn a_secret_with_another_ones_key() {
    let authority = Authority::new();
    let stage = Stage::new();
    let port = free_port();
    let pair = authority.sign(&["secure.test"]);
    let mut documents = vec![gateway("secure", &[https("https", port, Some("secure.test"), "pair")])];
    documents.push(route("secure", "secure", &[], &[prefix("/", "hello")]));
    stage.gapi.put("secure.yaml", file(&documents));
    stage.gapi.put("pair.yaml", file(&[secret("pair", &pair)]));
    stage.is_content();
    let config = authority.client(&["http/1.1"]);
    let presents = || Client::tls(loopback(port), "secure.test", &config).map(|client| client.certificate);
    assert_eq!(presents().expect("the handshake succeeds"), Some(pair.der.clone()));

    let other = authority.sign(&["secure.test"]);
    let mut mismatched = other.clone();
    mismatched.key = pair.key.clone();
    let rubbish = |key: &str, text: &str| {
        let mut broken = secret("pair", &pair);
        broken["stringData"][key] = json!(text);
        broken
    };
    let cases = [
        ("mismatched", secret("pair", &mismatched)),
        ("no PEM in the certificate", rubbish("tls.crt", "rubbish")),
        ("no PEM in the key", rubbish("tls.key", "rubbish")),
        ("an empty certificate", rubbish("tls.crt", "")),
    ];
    for (name, broken) in cases {
        stage.gapi.put("pair.yaml", file(&[broken]));
        stage.complains(&["pair", "secure"]);
        // The last one that worked goes on.
        assert_eq!(presents().unwrap_or_else(|error| panic!("{name}: {error}")), Some(pair.der.clone()), "{name}");
        let status = stage.gapi.status_file("default/gateways/secure.yaml");
        names(&status, &["InvalidCertificateRef"]);
    }

    // Also over restarts, and when the Secret breaks while nobody looks.
    let Stage { gapi, address, traffic, backend } = stage;
    drop(traffic.end());
    let restart = |gapi: Gapi, text: &str| {
        let (_, start) = gapi.end(Signal::KILL, Duration::from_secs(5));
        start.file("pair.yaml", text).serve()
    };
    let gapi = restart(gapi, &file(&[secret("pair", &mismatched)]));
    assert_eq!(presents().expect("the handshake succeeds"), Some(pair.der.clone()));
    let gapi = restart(gapi, &file(&[rubbish("tls.key", "rubbish")]));
    assert_eq!(presents().expect("the handshake succeeds"), Some(pair.der));

    let stage = Stage { gapi, address, traffic: Traffic::start(address), backend };
    stage.gapi.put("pair.yaml", file(&[secret("pair", &other)]));
    stage.is_content();
    assert_eq!(presents().expect("the handshake succeeds"), Some(other.der.clone()));
    let gapi = restart(stage.end(), &file(&[secret("pair", &mismatched)]));
    assert_eq!(presents().expect("the handshake succeeds"), Some(other.der), "{}", gapi.log());
}

// --- Sockets.

#[test]
fn a_port_in_use() {
    let stage = Stage::new();
    let port = free_port();
    let occupant = TcpListener::bind(loopback(port)).expect("the port is free");
    let documents = [gateway("late", &[http("http", port)]), route("late", "late", &[], &[prefix("/", "hello")])];
    stage.gapi.put("late.yaml", file(&documents));
    stage.complains(&["late", &format!("127.0.0.1:{port}"), "in use"]);
    let programmed = stage.gapi.ask(&["get", "gateway", "late", "-o", "json"]).text;
    let programmed: serde_json::Value = serde_json::from_str(&programmed).expect("-o json prints JSON");
    let listener = programmed["status"]["listeners"][0]["conditions"].as_array().expect("there are conditions");
    let condition = listener.iter().find(|condition| condition["type"] == "Programmed").expect("Programmed is there");
    assert_eq!(condition["status"], "False", "{condition}");
    names(condition["message"].as_str().expect("there is a message"), &[&port.to_string()]);

    // Once the port is free, it is taken without being asked.
    drop(occupant);
    wait("the port is taken", Duration::from_secs(20), || serves(loopback(port)));
    stage.is_content();
    stage.end();
}

#[test]
fn a_port_that_needs_privilege() {
    const PORT: u16 = 81;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim().parse().is_ok_and(|first: u16| first <= PORT) {
        eprintln!("skipped: this kernel gives port {PORT} to everybody (net.ipv4.ip_unprivileged_port_start)");
        return;
    }
    let stage = Stage::from(unprivileged());
    stage.gapi.put("low.yaml", file(&[gateway("low", &[http("http", PORT)])]));
    stage.complains(&["low", "127.0.0.1:81", "privilege", "CAP_NET_BIND_SERVICE"]);
    stage.gapi.take("low.yaml");
    stage.is_content();
    stage.end();
}

// --- State.

/// A file system of a few pages, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(path: &Path) -> Option<SmallDisk<'_>> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "gapi-test"]).arg(path).output();
        mount.is_ok_and(|output| output.status.success()).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// What is asked for is served, and an error says that it is not kept; with room again, it is kept.
#[test]
fn a_full_disk_for_the_state() {
    let start = Start::new();
    let state = start.state();
    let Some(_disk) = SmallDisk::mount(&state) else {
        eprintln!("skipped: only root can mount a small file system");
        return;
    };
    let stage = Stage::from(start);
    stage.is_content();
    fs::write(state.join("filler"), vec![0; 1 << 20]).expect_err("the disk is small");

    stage.gapi.put("new.yaml", signpost("new", "/new"));
    stage.complains(&[state.to_str().expect("the path is ASCII"), "No space left"]);
    assert!(points(stage.address, "/new"));

    fs::remove_file(state.join("filler")).expect("the filler is ours");
    stage.is_content();
    survives_a_restart(stage);
}

#[test]
fn a_state_directory_that_is_read_only() {
    let start = unprivileged();
    let state = start.state();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).expect("the directory is ours");
    let stage = Stage::from(start);
    stage.complains(&[state.to_str().expect("the path is ASCII")]);
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    stage.is_content();
    survives_a_restart(stage);
}

/// As when its disk is mounted late: what was accepted is found again, and not taken for deleted.
#[test]
fn a_state_directory_that_comes_late() {
    let Stage { gapi, address, traffic, backend } = Stage::from(unprivileged());
    drop(traffic.end());
    gapi.put(ROUTE, "kind: [\n");
    let state = gapi.state();
    let set = |mode| fs::set_permissions(&state, fs::Permissions::from_mode(mode)).expect("the directory is ours");
    let (_, start) = gapi.end(Signal::TERM, Duration::from_secs(20));
    set(0o000);
    let gapi = start.under(UNPRIVILEGED).serve();
    assert!(!serves(address));
    set(0o755);
    wait("the route is served", Duration::from_secs(10), || serves(address));
    let ran = gapi.reload();
    assert!(!ran.text.contains("cannot be kept"), "{}", ran.text);
    drop(backend);
}

/// The route is kept: after a restart with a broken file in its place it is served.
fn survives_a_restart(stage: Stage) {
    let address = stage.address;
    let (gapi, backend) = {
        let failures = stage.traffic.end();
        assert!(failures.is_empty(), "{failures:#?}");
        (stage.gapi, stage.backend)
    };
    gapi.put(ROUTE, "kind: [\n");
    let (_, directories) = gapi.end(Signal::KILL, Duration::from_secs(5));
    let gapi = directories.serve();
    assert!(serves(address), "{}", gapi.log());
    drop(backend);
}

/// Killed at any moment of a stream of edits, the next start has each object in a version that was asked for.
#[test]
fn killed_in_a_write() {
    let backend = Backend::named("hello");
    let port = free_port();
    let address = loopback(port);
    let version = |number: usize| {
        let documents: Vec<_> = (0..20)
            .map(|index| {
                let mut route =
                    route(&format!("r{index}"), "gate", &[&format!("r{index}.test")], &[prefix("/", "hello")]);
                route["metadata"]["annotations"] = json!({"version": number.to_string(), "padding": "x".repeat(2000)});
                route["spec"]["rules"][0]["name"] = json!(format!("v{number}"));
                route
            })
            .collect();
        file(&documents)
    };
    let mut start = Start::new()
        .file("gateway.yaml", file(&[gateway("gate", &[http("http", port)])]))
        .file("service.yaml", file(&service("hello", &[backend.address])))
        .file("routes.yaml", version(0));
    for round in 1..=10 {
        let gapi = start.serve();
        let all = (0..20).all(|index| get(address, &format!("r{index}.test"), "/") == Some((200, "hello".into())));
        assert!(all, "round {round}: a route is lost\n{}", gapi.log());
        let status = gapi.ask(&["status"]);
        assert_eq!(status.code, 0, "round {round}: {}", status.text);

        // Edits follow each other until it is killed in one of them; the moment differs from round to round.
        let kill_at = Instant::now() + Duration::from_millis(40 + 17 * round);
        let mut number = 0;
        while Instant::now() < kill_at {
            number += 1;
            gapi.put("routes.yaml", version(1000 * round as usize + number));
            sleep(Duration::from_millis(12));
        }
        let (_, directories) = gapi.end(Signal::KILL, Duration::from_secs(5));

        // What the state holds is good, even when the files are not.
        let good = fs::read(directories.config().join("routes.yaml")).expect("the file is there");
        let gapi = directories.file("routes.yaml", "kind: [\n").serve();
        let all = (0..20).all(|index| get(address, &format!("r{index}.test"), "/") == Some((200, "hello".into())));
        assert!(all, "round {round}: an accepted route is lost\n{}", gapi.log());
        let (_, directories) = gapi.end(Signal::KILL, Duration::from_secs(5));
        start = directories.file("routes.yaml", good);
    }
}
