//! Networks of a test's own.

use std::{process::Command, thread};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs `test` on a thread in a network namespace of its own, where loopback is up and has `addresses` as well; whatever it
/// starts is in there too. Without the privilege it says so and does nothing.
pub fn in_own_network(addresses: &[&str], test: impl FnOnce() + Send) {
    let ended = thread::scope(|scope| {
        let body = || {
            // SAFETY: no file descriptor and no memory is unshared.
            if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
                return eprintln!("skipped: a network namespace of its own needs root ({error})");
            }
            ip("link set lo up");
            addresses.iter().for_each(|address| ip(&format!("address add {address} dev lo")));
            test();
        };
        scope.spawn(body).join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the namespace of this thread.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "ip {words}: {status:?}");
}
