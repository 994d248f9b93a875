//! Every example does what its README says: its commands are run against the real binary, and each must answer with
//! what the README promises. Ports are moved to free ones in a copy.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use support::{Client, Directory, free_port, gapi::BINARY, gapi::run, loopback};

/// A running example.
struct Example {
    directory: Directory,
    ports: BTreeMap<u16, u16>,
    /// The gateway last.
    processes: Vec<Child>,
}

/// A command and what its output must hold, blanks aside; a number is the whole output.
struct Step {
    command: String,
    expected: Vec<String>,
}

impl Example {
    /// Copies the example, starts what its README starts, and waits until it serves.
    fn start(name: &str) -> (Example, Vec<Step>) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        let directory = Directory::new();
        let copy = directory.path().join("examples").join(name);
        fs::create_dir_all(&copy).expect("the temporary directory is writable");
        let mut example = Example { directory, ports: BTreeMap::new(), processes: Vec::new() };
        for path in files(&source) {
            let text = fs::read_to_string(&path).expect("examples are text");
            let text = example.moved(&text);
            fs::write(copy.join(path.file_name().expect("a file has a name")), text).expect("the copy is writable");
        }
        let readme = fs::read_to_string(copy.join("README.md")).expect("every example has a README.md");
        let (commands, steps) = read(&readme);
        assert!(!steps.is_empty(), "{name}: the README sends nothing");
        for command in commands {
            example.spawn(&command);
        }
        example.wait_until_served();
        (example, steps)
    }

    /// `text` with the ports of examples replaced by free ones, the same for the same, and its scratch directory by
    /// one of our own.
    fn moved(&mut self, text: &str) -> String {
        let pattern = regex::Regex::new(r"\b(8053|8080|8432|8443|900\d)\b").expect("the pattern is valid");
        let moved = pattern.replace_all(text, |found: &regex::Captures<'_>| {
            let port = found[0].parse().expect("digits make a port");
            self.ports.entry(port).or_insert_with(free_port).to_string()
        });
        moved.replace("/tmp/gapi", self.directory.path().to_str().expect("the path is ASCII"))
    }

    fn port(&self, written: u16) -> u16 {
        *self.ports.get(&written).unwrap_or_else(|| panic!("the example has no port {written}"))
    }

    fn shell(&self, command: &str) -> Command {
        let binaries = Path::new(BINARY).parent().expect("the binary is in a directory");
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(self.directory.path()).env("PATH", path).stdin(Stdio::null());
        shell
    }

    fn spawn(&mut self, command: &str) {
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        let log = log.expect("the log is writable");
        let child = self
            .shell(&format!("exec {command}"))
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command}: {error}"));
        self.processes.push(child);
    }

    fn ask(&self, words: &[&str]) -> support::Ran {
        let runtime = self.directory.path().join("run");
        run(words.iter().copied().chain(["--runtime-dir", runtime.to_str().expect("the path is ASCII")]))
    }

    fn wait_until_served(&self) {
        let start = Instant::now();
        loop {
            let reload = self.ask(&["reload"]);
            let served = reload.code == 0
                && self.ports.iter().all(|(_, port)| std::net::TcpStream::connect(loopback(*port)).is_ok());
            if served {
                return;
            }
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(20), "not served after 20 s: {reload:?}\n{log}");
            sleep(Duration::from_millis(20));
        }
    }

    fn check(&self, step: &Step) {
        let ran = self.shell(&step.command).output().expect("bash runs");
        let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        for expected in &step.expected {
            let (text, expected) = (squeezed(&text), squeezed(expected));
            let number = expected.bytes().all(|byte| byte.is_ascii_digit());
            let found = if number { text == expected } else { text.contains(&expected) };
            assert!(found, "$ {}\nlacks {expected:?}:\n{text}", step.command);
        }
    }

    fn status_file(&self, path: &str) -> String {
        let path = self.directory.path().join("run/status").join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
            // Gone already: then there is nothing to end.
            let _ = kill_process(id, Signal::KILL);
            let _ = process.wait();
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("the directory is readable").path()).filter(|path| path.is_file()).collect()
}

/// The programs to start (lines that end in `&`) and the commands with what they print, from the blocks marked `sh`.
fn read(readme: &str) -> (Vec<String>, Vec<Step>) {
    let (mut started, mut steps) = (Vec::new(), Vec::<Step>::new());
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if !inside || line.is_empty() => {}
            _ => {
                if let Some(program) = line.strip_suffix(" &") {
                    started.push(program.to_owned());
                } else if let Some(expected) = line.strip_prefix("# ") {
                    steps.last_mut().expect("what is expected follows a command").expected.push(expected.to_owned());
                } else {
                    steps.push(Step { command: line.to_owned(), expected: Vec::new() });
                }
            }
        }
    }
    (started, steps)
}

/// Columns and JSON are spaced for the eye.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Runs all that the README promises.
fn as_written(name: &str) -> Example {
    let (example, steps) = Example::start(name);
    for step in &steps {
        assert!(!step.expected.is_empty(), "{name}: nothing is said about `{}`", step.command);
        example.check(step);
    }
    let status = example.ask(&["status"]);
    assert_eq!(status.code, 0, "{name}: {}", status.text);
    example
}

/// The backend's name, from the JSON of `gapi echo`.
fn hostname(client: &mut Client, host: &str, target: &str) -> String {
    let answer = client.get(host, target).unwrap_or_else(|error| panic!("{target}: {error}"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let json: serde_json::Value = serde_json::from_slice(&answer.message.body).expect("echo answers with JSON");
    json["environment"]["HOSTNAME"].as_str().expect("echo says who it is").to_owned()
}

#[test]
fn every_example_has_a_test() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let names: BTreeSet<String> = fs::read_dir(source)
        .expect("there are examples")
        .map(|entry| entry.expect("the directory is readable").file_name().into_string().expect("names are ASCII"))
        .collect();
    let tested = [
        "quickstart",
        "simple-route",
        "path-and-header-matching",
        "https",
        "https-internal-ca",
        "https-letsencrypt",
        "shared-gateway",
        "traffic-split",
        "wildcard-dns",
        "header-modification",
        "redirect-to-https",
        "roles",
        "grpc",
        "tls-passthrough",
        "tcp-database",
        "udp-dns",
    ];
    assert_eq!(names, tested.map(String::from).into());
}

#[test]
fn quickstart() {
    let example = as_written("quickstart");
    let gateway = example.status_file("default/gateways/front.yaml");
    for words in ["Programmed", "attachedRoutes: 1", "127.0.0.1"] {
        assert!(gateway.contains(words), "{words} is not in {gateway}");
    }
}

#[test]
fn simple_route() {
    let example = as_written("simple-route");
    let route = example.status_file("bakery/httproutes/oven.yaml");
    for words in ["gapi.dev/gateway-controller", "Accepted", "ResolvedRefs", "observedGeneration: 1"] {
        assert!(route.contains(words), "{words} is not in {route}");
    }
    assert!(!route.contains("status: 'False'") && !route.contains("status: \"False\""), "{route}");
}

#[test]
fn path_and_header_matching() {
    as_written("path-and-header-matching");
}

#[test]
fn https() {
    let example = as_written("https");
    // A name that no listener has gets no certificate of another.
    let port = example.port(8443);
    let stranger =
        format!("curl -sk --connect-to ::127.0.0.1: -w '%{{http_code}}' https://stranger.example.com:{port}/");
    let ran = example.shell(&stranger).output().expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "000", "the handshake is refused");
}

#[test]
fn https_internal_ca() {
    as_written("https-internal-ca");
}

/// Run against a server of our own in tests/certificate: here it has to be right as it stands.
#[test]
fn https_letsencrypt() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/https-letsencrypt");
    let ran = run(["check", "--strict", directory.to_str().expect("the path is ASCII")]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Run against servers of our own in tests/certificate, too.
#[test]
fn wildcard_dns() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/wildcard-dns");
    let ran = run(["check", directory.to_str().expect("the path is ASCII")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // In a working copy everybody can read the key; its README says to take that right away.
    let warnings = ran.text.lines().filter(|line| line.starts_with("warning"));
    assert!(warnings.clone().all(|line| line.contains("Secret cert-manager/zone-key: every user")), "{ran:?}");
}

#[test]
fn shared_gateway() {
    let example = as_written("shared-gateway");
    let gateway = example.status_file("infrastructure/gateways/shared.yaml");
    assert!(gateway.contains("attachedRoutes: 2"), "{gateway}");
    let refused = example.status_file("casino/httproutes/casino.yaml");
    assert!(refused.contains("NotAllowedByListeners"), "{refused}");
}

#[test]
fn traffic_split() {
    let example = as_written("traffic-split");
    let mut client = Client::connect(loopback(example.port(8080))).expect("the example serves");
    let mut count = BTreeMap::new();
    for _ in 0..1000 {
        *count.entry(hostname(&mut client, "release.example.com", "/")).or_insert(0) += 1;
    }
    // 50 of a thousand; the bounds are five standard deviations away from it, were each request drawn by itself.
    let canary = count["canary"];
    assert!((15..=85).contains(&canary), "{count:?}");
    assert_eq!(count["stable"], 1000 - canary);
}

#[test]
fn header_modification() {
    as_written("header-modification");
}

#[test]
fn redirect_to_https() {
    let example = as_written("redirect-to-https");
    let mut client = Client::connect(loopback(example.port(8080))).expect("the example serves");
    // Whatever is asked for over plain HTTP, the ledger is never reached.
    for target in ["/", "/login", "/?x=1"] {
        let answer = client.get("account.example.com", target).expect("there is an answer");
        let location = format!("https://account.example.com:{}{target}", example.port(8443));
        assert_eq!((answer.status(), answer.message.field("location")), (301, Some(location.as_str())));
    }
}

#[test]
fn roles() {
    let example = as_written("roles");
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED the owners of examples/roles: only root can give files away");
        return;
    }
    // A user and a group of every Linux stand for a developer.
    let directory = example.directory.path().join("examples/roles");
    let (roles, file) = (directory.join("roles.yaml"), directory.join("developers.yaml"));
    let rename = |from: &str, to: &str| {
        let text = fs::read_to_string(&roles).expect("the copy is there").replace(from, to);
        fs::write(&roles, text).expect("the copy is writable");
    };
    std::os::unix::fs::chown(&file, Some(1), Some(8)).expect("root may");
    let reload = example.ask(&["reload"]);
    assert!(reload.code == 1 && reload.text.contains("daemon (group mail) may not"), "{reload:?}");
    rename("name: developers\n", "name: mail\n");
    let reload = example.ask(&["reload"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    let text = fs::read_to_string(&file).expect("the copy is there");
    fs::write(&file, text.replace("namespace: echo", "namespace: infrastructure")).expect("the copy is writable");
    let reload = example.ask(&["reload"]);
    assert!(reload.code == 1 && reload.text.contains("in namespace infrastructure"), "{reload:?}");
}

#[test]
fn grpc() {
    let example = as_written("grpc");
    let route = example.status_file("calls/grpcroutes/greeter.yaml");
    assert!(route.contains("Accepted") && !route.contains("False"), "{route}");
}

#[test]
fn tls_passthrough() {
    let example = as_written("tls-passthrough");
    let gateway = example.status_file("bank/gateways/bank.yaml");
    assert_eq!(gateway.matches("attachedRoutes: 1").count(), 2, "{gateway}");
}

#[test]
fn tcp_database() {
    let example = as_written("tcp-database");
    let route = example.status_file("data/tcproutes/database.yaml");
    let reasons = ["Accepted", "ResolvedRefs", "UserSpace"].map(|reason| format!("reason: {reason}\n"));
    assert!(reasons.iter().all(|reason| route.contains(reason)), "{route}");
}

#[test]
fn udp_dns() {
    let example = as_written("udp-dns");
    let gateway = example.status_file("names/gateways/names.yaml");
    assert_eq!(gateway.matches("attachedRoutes: 1").count(), 2, "{gateway}");
}
