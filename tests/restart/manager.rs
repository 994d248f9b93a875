//! A small service manager: it hears what the daemon tells (sd_notify(3)), keeps the descriptors that it is given, and
//! starts the daemon with them (sd_listen_fds(3)).

use std::{
    fs::{self, File},
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{net::UnixDatagram, process::CommandExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Signal, kill_process},
};

use crate::support::{
    Directory,
    gapi::{BINARY, Ran, replace, run},
    wait,
};

pub const SOON: Duration = Duration::from_secs(20);

/// A descriptor and its name.
type Named = (String, OwnedFd);

/// What the manager's ear and the test share.
#[derive(Default)]
struct Shared {
    store: Mutex<Vec<Named>>,
    /// Every message, in order.
    heard: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// The service: its directories, what is kept for it, and its process while it runs.
pub struct Service {
    directory: Directory,
    shared: Arc<Shared>,
    ear: Option<thread::JoinHandle<()>>,
    child: Option<Child>,
    pub flags: Vec<String>,
    /// More of its environment.
    pub environment: Vec<(String, String)>,
    /// Sockets of its socket unit.
    pub passed: Vec<(String, OwnedFd)>,
    /// Is it told where to tell?
    pub notify: bool,
}

impl Service {
    pub fn new(files: &[(&str, String)]) -> Service {
        let directory = Directory::new();
        for name in ["config", "state", "run"] {
            fs::create_dir(directory.path().join(name)).expect("the temporary directory is writable");
        }
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("the directory is writable");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("the socket is ours");
        let shared = Arc::<Shared>::default();
        let hearing = shared.clone();
        let ear = thread::spawn(move || hear(&socket, &hearing));
        let mut service = Service {
            directory,
            shared,
            ear: Some(ear),
            child: None,
            flags: ["--address", "127.0.0.1", "--workers", "2"].map(String::from).to_vec(),
            environment: Vec::new(),
            passed: Vec::new(),
            notify: true,
        };
        files.iter().for_each(|(name, text)| service.put(name, text));
        service
    }

    /// New, and it serves.
    pub fn serve(files: &[(&str, String)]) -> Service {
        let mut service = Service::new(files);
        service.start();
        service
    }

    pub fn put(&mut self, name: &str, text: &str) {
        replace(&self.directory.path().join("config").join(name), text.as_bytes());
    }

    pub fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    pub fn set_workers(&mut self, count: usize) {
        let at = self.flags.iter().position(|flag| flag == "--workers").expect("it is among the flags");
        self.flags[at + 1] = count.to_string();
    }

    /// Starts it and returns when it says that it is ready.
    pub fn start(&mut self) {
        self.spawn();
        if self.notify {
            self.hears("READY=1");
        } else {
            wait("it answers", SOON, || [0, 1].contains(&self.reload().code));
        }
    }

    /// Starts it with what is kept, and forgets what was heard.
    pub fn spawn(&mut self) {
        self.shared.heard.lock().expect("no thread panics").clear();
        let store = self.store();
        let kept = store.iter().map(|(name, descriptor)| (name.as_str(), descriptor.as_raw_fd()));
        let passed = self.passed.iter().map(|(name, listener)| (name.as_str(), listener.as_raw_fd()));
        let (names, descriptors): (Vec<&str>, Vec<RawFd>) = passed.chain(kept).unzip();
        let log = File::options().create(true).append(true).open(self.directory.path().join("log"));
        let log = log.expect("the log is writable");
        let path = |name: &str| self.directory.path().join(name);
        let mut command = Command::new("sh");
        // The process's own id is known only to itself.
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", BINARY, "run"]);
        for (flag, name) in [("--config-dir", "config"), ("--state-dir", "state"), ("--runtime-dir", "run")] {
            command.arg(flag).arg(path(name));
        }
        command
            .args(&self.flags)
            .env("LISTEN_FDS", descriptors.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        if self.notify {
            command.env("NOTIFY_SOCKET", path("notify"));
        }
        // SAFETY: what runs between fork and exec only calls fcntl and dup2, and allocates nothing.
        unsafe { command.pre_exec(move || give(&descriptors)) };
        let child = command.spawn().expect("there is a shell");
        drop(store);
        self.child = Some(child);
    }

    fn store(&self) -> MutexGuard<'_, Vec<Named>> {
        self.shared.store.lock().expect("no thread panics")
    }

    /// The names of what is kept, sorted.
    pub fn kept(&self) -> Vec<String> {
        let mut names: Vec<_> = self.store().iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Keeps something else under a name.
    pub fn replace_kept(&self, name: &str, descriptor: OwnedFd) {
        let mut store = self.store();
        store.retain(|(kept, _)| kept != name);
        store.push((name.to_owned(), descriptor));
    }

    pub fn messages(&self) -> Vec<String> {
        self.shared.heard.lock().expect("no thread panics").clone()
    }

    pub fn has_heard(&self, word: &str) -> bool {
        self.messages().iter().any(|message| message.contains(word))
    }

    /// Waits until it has told this.
    pub fn hears(&mut self, word: &str) {
        let start = Instant::now();
        while !self.has_heard(word) {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "gapi run ended with {ended:?}: {}", self.log());
            assert!(start.elapsed() < SOON, "{word} is not in {:?}\n{}", self.messages(), self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn id(&self) -> Pid {
        let id = self.child.as_ref().expect("it runs").id();
        i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process has an id")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("the process is our child and not reaped yet");
    }

    /// Waits until its process has ended.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("our own child can be waited for") {
                return status;
            }
            if start.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                panic!("still running after {limit:?}: {}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it, as `systemctl restart` does before the new process is there.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended(SOON);
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn reload(&self) -> Ran {
        self.ask(&["reload"])
    }

    pub fn ask(&self, words: &[&str]) -> Ran {
        let runtime = self.directory.path().join("run");
        let runtime = runtime.to_str().expect("the path is ASCII");
        run(words.iter().copied().chain(["--runtime-dir", runtime]))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(ear) = self.ear.take() {
            let _ = ear.join();
        }
        if thread::panicking() {
            eprintln!("--- log of gapi ---\n{}", self.log());
        }
    }
}

/// Makes the descriptors numbers 3, 4, … of this process.
fn give(descriptors: &[RawFd]) -> std::io::Result<()> {
    const FIRST: RawFd = 3;
    // Out of the way first, so that none is overwritten before it is moved.
    const ASIDE: RawFd = 400;
    for (at, &descriptor) in (0..).zip(descriptors) {
        // SAFETY: plain system calls on numbers.
        if unsafe { libc::dup2(descriptor, ASIDE + at) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    for (at, _) in (0..).zip(descriptors) {
        // SAFETY: plain system calls on numbers.
        if unsafe { libc::dup2(ASIDE + at, FIRST + at) } < 0 || unsafe { libc::close(ASIDE + at) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

fn hear(socket: &UnixDatagram, shared: &Shared) {
    while !shared.stopped.load(Ordering::SeqCst) {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); 512];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        let Ok(message) = recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) else { continue };
        let descriptors: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let text = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
        obey(&text, descriptors, &mut shared.store.lock().expect("no thread panics"));
        shared.heard.lock().expect("no thread panics").push(text);
    }
}

fn obey(text: &str, descriptors: Vec<OwnedFd>, store: &mut Vec<Named>) {
    let has = |line: &str| text.lines().any(|one| one == line);
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
    assert!(!name.contains(':') && name.len() <= 255, "systemd refuses this name: {name}");
    if has("FDSTOREREMOVE=1") {
        store.retain(|(kept, _)| kept != name);
    } else if has("FDSTORE=1") {
        store.extend(descriptors.into_iter().map(|descriptor| (name.to_owned(), descriptor)));
    }
}
