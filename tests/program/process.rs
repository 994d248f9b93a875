//! Programs that a test starts: servers that end with it, and commands that are waited for.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use crate::support::{Directory, wait};

/// For what takes milliseconds on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65534;

/// Where a program is: on the PATH, or in one of the places that only root has there.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    // Debian keeps several versions of PostgreSQL apart.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    let found = directories.into_iter().map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; run: scripts/setup test"))
}

/// A directory that servers without privilege can write to.
pub fn scratch() -> Directory {
    let directory = Directory::new();
    if geteuid().is_root() {
        chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    directory
}

/// A command that has no privilege, and gets `signal` should the test end without ending it.
pub fn unprivileged(program_path: &Path, signal: &str) -> Command {
    let mut command = Command::new(program("setpriv"));
    command.arg(format!("--pdeathsig={signal}"));
    if geteuid().is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg("--").arg(program_path).env_remove("HOME");
    command
}

/// A server that ends when dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
    end: Signal,
}

impl Server {
    /// Starts it with its words in `log`; `end` is the signal that ends it, and all that it started, at once.
    pub fn start(mut command: Command, log: PathBuf, end: Signal) -> Server {
        let file = File::create(&log).expect("the directory is writable");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file can be shared")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Server { child, log, end }
    }

    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns once `ready` says yes.
    pub fn wait_until(mut self, mut ready: impl FnMut(&Server) -> bool) -> Server {
        let start = Instant::now();
        while !ready(&self) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the server ended with {status}: {}", self.log());
            }
            assert!(start.elapsed() < PATIENCE, "not ready after {PATIENCE:?}: {}", self.log());
            sleep(Duration::from_millis(20));
        }
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.log.display(), self.log());
        }
        signal(&self.child, self.end);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                signal(&self.child, Signal::KILL);
            }
            sleep(Duration::from_millis(5));
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
    // Gone already: then there is nothing to end.
    _ = kill_process(id, signal);
}

/// What a command said: all of it, in order of the stream.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub errors: String,
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// A command under way, ended when dropped.
pub struct Running {
    child: Child,
    readers: Option<[std::thread::JoinHandle<Vec<u8>>; 2]>,
    writer: Option<std::thread::JoinHandle<()>>,
    words: String,
}

/// Starts a command and gives it `input`.
pub fn begin(mut command: Command, input: Vec<u8>) -> Running {
    let words = format!("{command:?}");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{words}: {error}"));
    let mut stdin = child.stdin.take().expect("is piped");
    // One that does not want its input says why on its own.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let out = collect(child.stdout.take().expect("is piped"));
    let errors = collect(child.stderr.take().expect("is piped"));
    Running { child, readers: Some([out, errors]), writer: Some(writer), words }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Running {
    pub fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    pub fn finish(mut self) -> Said {
        let mut status = None;
        wait(&self.words.clone(), PATIENCE, || {
            status = self.child.try_wait().expect("our own child can be waited for");
            status.is_some()
        });
        let [out, errors] = self.readers.take().expect("finished once").map(|reader| reader.join().expect("it reads"));
        self.writer.take().expect("finished once").join().expect("it writes");
        let errors = String::from_utf8_lossy(&errors).into_owned();
        Said { code: status.and_then(|status| status.code()), out, errors }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

/// Runs a command to its end; it has to succeed.
pub fn run(command: Command, input: Vec<u8>) -> Said {
    let words = format!("{command:?}");
    let said = begin(command, input).finish();
    assert_eq!(said.code, Some(0), "{words}: {}\n{}", said.errors, said.text());
    said
}

/// A Service whose port 80 is this TCP or UDP port of loopback, and its endpoints.
pub fn service(name: &str, ports: &[(&str, &str, Option<&str>, SocketAddr)]) -> Vec<Value> {
    let of_service = ports.iter().map(|(name, protocol, application, endpoint)| {
        let mut port = json!({"name": name, "port": 80, "protocol": protocol, "targetPort": endpoint.port()});
        if let Some(application) = application {
            port["appProtocol"] = json!(application);
        }
        port
    });
    let of_slice = ports
        .iter()
        .map(|(name, protocol, _, endpoint)| json!({"name": name, "port": endpoint.port(), "protocol": protocol}));
    vec![
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": of_service.collect::<Vec<_>>()},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": of_slice.collect::<Vec<_>>(),
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        }),
    ]
}

/// A route of any kind but for its rules and hostnames.
pub fn route(kind: &str, name: &str, listener: &str, spec: &Value) -> Value {
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"parentRefs": [{"name": "gate", "sectionName": listener}]},
    });
    for (field, value) in spec.as_object().expect("fields of a route") {
        route["spec"][field] = value.clone();
    }
    route
}

/// Rules with one backend.
pub fn to(service: &str) -> Value {
    json!([{"backendRefs": [{"name": service, "port": 80}]}])
}

pub fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("the directory is writable");
    path
}
