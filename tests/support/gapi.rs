//! The real binary on directories of its own.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::Directory;

pub const BINARY: &str = env!("CARGO_BIN_EXE_gapi");

/// A daemon that ends when dropped.
pub struct Gapi {
    directory: Directory,
    child: Child,
}

/// What a command said. `code` is -1 when a signal ended it.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    /// Standard output, then standard error.
    pub text: String,
}

/// How to start a daemon.
pub struct Start {
    directory: Directory,
    before: Vec<String>,
    arguments: Vec<String>,
}

impl Start {
    pub fn new() -> Start {
        let directory = Directory::new();
        for name in ["config", "state", "run"] {
            fs::create_dir(directory.path().join(name)).expect("the temporary directory is writable");
        }
        Start { directory, before: Vec::new(), arguments: Vec::new() }
    }

    pub fn file(self, name: &str, text: impl AsRef<[u8]>) -> Start {
        replace(&self.config().join(name), text.as_ref());
        self
    }

    /// A flag of `gapi run`; one that takes no value has an empty one.
    pub fn flag(mut self, flag: &str, value: &str) -> Start {
        self.arguments.push(flag.into());
        self.arguments.extend(Some(value).filter(|value| !value.is_empty()).map(String::from));
        self
    }

    /// A command that gapi is run under, such as `setpriv`.
    pub fn under(mut self, command: &[&str]) -> Start {
        self.before = command.iter().map(|&word| word.into()).collect();
        self
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it without waiting.
    pub fn spawn(self) -> Gapi {
        let root = self.directory.path();
        let mut words = self.before.clone();
        words.push(BINARY.into());
        words.push("run".into());
        for (flag, name) in [("--config-dir", "config"), ("--state-dir", "state"), ("--runtime-dir", "run")] {
            words.extend([flag.into(), root.join(name).to_str().expect("the path is ASCII").into()]);
        }
        words.extend(["--address", "127.0.0.1", "--workers", "2"].map(String::from));
        words.extend(self.arguments);
        let log = File::options().create(true).append(true).open(root.join("log")).expect("the log is writable");
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Gapi { directory: self.directory, child }
    }

    /// Starts it and returns when it serves what is in its directory.
    pub fn serve(self) -> Gapi {
        let mut gapi = self.spawn();
        gapi.wait_until_served();
        gapi
    }
}

impl Gapi {
    /// Serves these files.
    pub fn serve(files: &[(&str, String)]) -> Gapi {
        files.iter().fold(Start::new(), |start, (name, text)| start.file(name, text)).serve()
    }

    pub fn wait_until_served(&mut self) {
        let start = Instant::now();
        loop {
            let ran = self.reload();
            if ran.code == 0 || ran.code == 1 {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("gapi run ended with {status}: {}", self.log());
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no daemon after 60 s: {ran:?}\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn runtime(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// Written aside and renamed, as a careful editor does.
    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        replace(&self.config().join(name), text.as_ref());
    }

    pub fn take(&self, name: &str) {
        fs::remove_file(self.config().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// `gapi reload`: returns when what is in the directory is served.
    pub fn reload(&self) -> Ran {
        self.ask(&["reload"])
    }

    /// A command that speaks to this daemon.
    pub fn ask(&self, words: &[&str]) -> Ran {
        let runtime = self.runtime();
        run(words.iter().copied().chain(["--runtime-dir", runtime.to_str().expect("the path is ASCII")]))
    }

    /// A status file, once it is there.
    pub fn status_file(&self, path: &str) -> String {
        fs::read_to_string(self.runtime().join("status").join(path)).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        kill_process(id, signal).expect("the process is our child and not reaped yet");
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it by `signal` and keeps its directories for the next.
    pub fn end(mut self, signal: Signal, limit: Duration) -> (ExitStatus, Start) {
        self.signal(signal);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child can be waited for") {
                break status;
            }
            assert!(start.elapsed() < limit, "still running {limit:?} after {signal:?}: {}", self.log());
            sleep(Duration::from_millis(10));
        };
        let directory = std::mem::replace(&mut self.directory, Directory::new());
        (status, Start { directory, before: Vec::new(), arguments: Vec::new() })
    }
}

impl Drop for Gapi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of gapi ---\n{}", tail(&self.log()));
        }
    }
}

/// The binary with these arguments.
pub fn run<'a>(words: impl IntoIterator<Item = &'a str>) -> Ran {
    let mut child = Command::new(BINARY)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is built");
    let mut errors = child.stderr.take().expect("standard error is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let mut text = String::new();
    let _ = child.stdout.take().expect("standard output is piped").read_to_string(&mut text);
    let status = child.wait().expect("our own child can be waited for");
    text.push_str(&reader.join().unwrap_or_default());
    Ran { code: status.code().unwrap_or(-status.signal().unwrap_or(1)), text }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

pub fn replace(path: &Path, bytes: &[u8]) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
    }
    let name = path.file_name().and_then(|name| name.to_str()).expect("the path names a file");
    // A hidden name: not read by the daemon.
    let aside = path.with_file_name(format!(".{name}.new"));
    fs::write(&aside, bytes)
        .and_then(|()| fs::rename(&aside, path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
