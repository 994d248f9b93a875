//! The watchdog and what else the service manager is told.

use std::{fs, thread, time::Duration};

use rustix::process::Signal;

use crate::{
    manager::{SOON, Service},
    support::{Backend, Client, free_port, loopback, manifest::simple, wait},
};

fn fed(service: &Service) -> usize {
    service.messages().iter().filter(|message| message.lines().any(|line| line == "WATCHDOG=1")).count()
}

/// One thread of the service, held by ptrace(2) until dropped.
struct Frozen(libc::pid_t);

impl Frozen {
    /// The thread of this name; none where ptrace is not allowed.
    fn freeze(service: &Service, name: &str) -> Option<Frozen> {
        let tasks = fs::read_dir(format!("/proc/{}/task", service.id().as_raw_nonzero())).expect("it runs");
        let task = tasks
            .flatten()
            .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
        let id: libc::pid_t = task.expect("it has this thread").file_name().to_str()?.parse().ok()?;
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests read and write no memory of ours.
        let held = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, id, nothing, nothing) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, id, nothing, nothing) == 0
        };
        let mut status = 0;
        // SAFETY: `status` lives as long as the call.
        (held && unsafe { libc::waitpid(id, &raw mut status, libc::__WALL) } == id).then_some(Frozen(id))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: this request reads and writes no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

/// Fed while all threads turn; not while one is stuck, be it a worker or the loop; fed again afterwards.
#[test]
fn a_stuck_thread_starves_the_watchdog() {
    let backend = Backend::named("hello");
    let mut service = Service::new(&[("all.yaml", simple(free_port(), backend.address))]);
    service.environment.push(("WATCHDOG_USEC".into(), "400000".into()));
    service.start();
    wait("it is fed", SOON, || fed(&service) >= 5);
    for name in ["worker-1", "worker-0", "gapi"] {
        let Some(frozen) = Frozen::freeze(&service, name) else {
            eprintln!("SKIPPED: threads cannot be held here (ptrace is not allowed)");
            return;
        };
        // What was on its way may still come: one answer of before.
        thread::sleep(Duration::from_millis(300));
        let before = fed(&service);
        thread::sleep(Duration::from_millis(1200));
        assert_eq!(fed(&service), before, "{name} is stuck");
        drop(frozen);
        wait("it is fed again", SOON, || fed(&service) >= before + 3);
    }
}

#[test]
fn nobody_watches() {
    let backend = Backend::named("hello");
    let mut service = Service::serve(&[("all.yaml", simple(free_port(), backend.address))]);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(fed(&service), 0);
    service.stop();
}

/// READY once it serves; RELOADING and READY around a reload; STOPPING with the time that it takes; one line of truth.
#[test]
fn what_is_told() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::new(&[("all.yaml", simple(port, backend.address))]);
    service.flags.extend(["--drain-timeout", "2m"].map(String::from));
    service.start();
    assert_eq!(Client::connect(loopback(port)).expect("ready").get("a.test", "/").expect("ready").status(), 200);
    service.hears("STATUS=generation 1: serving 1 gateway, 1 listener, 1 route on 1 socket; 0 errors, 0 warnings");
    for by_signal in [false, true] {
        let count = |word: &str| service.messages().iter().filter(|message| message.contains(word)).count();
        let (reloading, ready) = (count("RELOADING=1\nMONOTONIC_USEC="), count("READY=1"));
        if by_signal {
            service.signal(Signal::HUP);
        } else {
            assert_eq!(service.reload().code, 0);
        }
        wait("it has reloaded", SOON, || {
            (count("RELOADING=1\nMONOTONIC_USEC="), count("READY=1")) == (reloading + 1, ready + 1)
        });
    }
    // A document that is rejected: the command says so and fails, the journal has it, the rest is served.
    service.put("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {ports: [{port: x}]}\n");
    let ran = service.reload();
    assert!(ran.code == 1 && ran.text.contains("broken.yaml"), "{ran:?}");
    assert!(service.log().contains("broken.yaml"));
    service.hears("; 1 error, 0 warnings");
    assert_eq!(
        Client::connect(loopback(port)).expect("it serves").get("a.test", "/").expect("it serves").status(),
        200
    );
    service.signal(Signal::TERM);
    service.hears("STOPPING=1\nEXTEND_TIMEOUT_USEC=125000000\n");
    service.ended(SOON);
}
