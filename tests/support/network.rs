//! Networks of a test's own.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
};

use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};

/// Runs `test` on a thread in a network namespace of its own, where loopback is up and has `addresses` as well; whatever it
/// starts is in there too. Without the privilege it says so and does nothing.
pub fn in_own_network(addresses: &[&str], test: impl FnOnce() + Send) {
    let ended = thread::scope(|scope| {
        let body = || match unshare() {
            Ok(()) => {
                addresses.iter().for_each(|address| ip(&format!("address add {address} dev lo")));
                test();
            }
            Err(error) => eprintln!("skipped: a network namespace of its own needs root ({error})"),
        };
        scope.spawn(body).join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Puts this thread into a network of its own, with a place of its own for what is pinned: both end with it and its children.
fn unshare() -> rustix::io::Result<()> {
    // SAFETY: no file descriptor and no memory is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    // Where there is none, nothing is pinned.
    for words in ["--make-rprivate /", "-t bpf bpf /sys/fs/bpf"] {
        let mounted = Command::new("mount").args(words.split(' ')).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            eprintln!("mount {words} failed");
        }
    }
    ip("link set lo up");
    Ok(())
}

/// Runs `ip` in the network of this thread.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "ip {words}: {status:?}");
}

/// Runs `ip` once for all of `lines`.
pub fn ip_batch(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip is there");
    // It ends when its input does.
    let written = child.stdin.take().expect("standard input is piped").write_all(lines.as_bytes());
    let status = child.wait();
    assert!(written.is_ok() && status.as_ref().is_ok_and(|status| status.success()), "ip: {written:?} {status:?}");
}

type Task = Box<dyn FnOnce() + Send>;

/// Another machine: a network namespace with a thread in it. Both end when dropped.
pub struct Machine {
    tasks: Option<Sender<Task>>,
    thread: Option<thread::JoinHandle<()>>,
    /// Of the thread, by which `ip` finds its network.
    id: i32,
}

impl Machine {
    pub fn start() -> Machine {
        let (tasks, todo) = channel::<Task>();
        let (tell, id) = channel();
        let thread = thread::spawn(move || {
            unshare().expect("whoever made one network may make another");
            tell.send(gettid().as_raw_nonzero().get()).expect("waited for");
            todo.into_iter().for_each(|task| task());
        });
        let id = id.recv().expect("the thread starts");
        Machine { tasks: Some(tasks), thread: Some(thread), id }
    }

    /// A cable from this thread's network, where it is `here`, to the machine, where it is `there`; both are up.
    pub fn plug(&self, here: &str, there: &str) {
        ip(&format!("link add {here} type veth peer name {there} netns {}", self.id));
        ip(&format!("link set {here} up"));
        let there = there.to_owned();
        self.run(move || ip(&format!("link set {there} up")));
    }

    /// What `task` says there.
    pub fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let task = Box::new(move || answer.send(task()).expect("waited for"));
        self.tasks.as_ref().expect("until dropped").send(task).expect("the thread waits for tasks");
        answered.recv().expect("the task does not panic")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.tasks.take();
        // A task that panicked has said so where it was waited for.
        _ = self.thread.take().expect("dropped once").join();
    }
}
