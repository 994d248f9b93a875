//! Network namespaces that end with their test: each is a thread's own, and has no name.

use std::{
    ffi::CString,
    io,
    process::Command,
    ptr,
    sync::mpsc::{self, Sender},
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, and a mount namespace so that what it mounts is its own.
#[derive(Clone)]
pub struct Namespace {
    jobs: Sender<Job>,
    thread: i32,
}

impl Namespace {
    /// # Errors
    /// Without privilege.
    pub fn new() -> io::Result<Namespace> {
        let (jobs, received) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let entered = enter();
            let failed = entered.is_err();
            // SAFETY: no arguments, cannot fail.
            _ = tell.send(entered.map(|()| unsafe { libc::gettid() }));
            if !failed {
                received.into_iter().for_each(|job| job());
            }
        });
        let thread = told.recv().map_err(io::Error::other)??;
        let namespace = Namespace { jobs, thread };
        namespace.ip("link set lo up");
        Ok(namespace)
    }

    /// Runs `job` in the namespace; what it opens and starts stays there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || _ = tell.send(job()))).expect("the thread waits for jobs");
        told.recv().expect("the job ended well")
    }

    /// `ip` with these arguments.
    pub fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    pub fn command(&self, program: &str, arguments: &str) {
        if let Err(why) = self.attempt(program, arguments) {
            panic!("{program} {arguments}: {why}");
        }
    }

    /// Runs a program.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn attempt(&self, program: &str, arguments: &str) -> Result<(), String> {
        let (program, words) = (program.to_owned(), arguments.to_owned());
        let output = self.run(move || Command::new(program).args(words.split_whitespace()).output());
        let output = output.expect("the program is there");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// A pair of links, one end here and one in `other`.
    pub fn link(&self, here: &str, other: &Namespace, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.thread));
    }

    pub fn sysctl(&self, name: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{}", name.replace('.', "/")), value.to_owned());
        self.run(move || std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    /// A bpffs at `directory`, seen here alone.
    pub fn mount_bpffs(&self, directory: &std::path::Path) {
        let target = CString::new(directory.to_str().expect("text")).expect("no zero");
        // SAFETY: strings that end in zero; bpffs takes no data.
        let mounted = self.run(move || unsafe {
            match libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), 0, ptr::null()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
        mounted.expect("a bpffs");
    }
}

fn enter() -> io::Result<()> {
    // SAFETY: changes this thread alone; the mount call has a target and flags only.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) != 0
            || libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
