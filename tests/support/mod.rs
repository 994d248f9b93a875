//! What the black-box tests stand on: the real binary on temporary directories, clients and backends that see every
//! byte, and manifests.
//!
//! Everything is on loopback; nothing outlives the value that started it.

// Each test file uses its own part.
#![allow(dead_code, unused_imports)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

pub mod backend;
pub mod certificate;
pub mod client;
pub mod datagram;
pub mod gapi;
pub mod http2;
pub mod manifest;
pub mod message;
pub mod network;

pub use backend::{Backend, Reply};
pub use certificate::Authority;
pub use client::{Answer, Client};
pub use gapi::{Gapi, Ran};
pub use message::Message;

/// A directory of its own, removed when dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gapi-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What a test made unreadable or mounted is its own to undo.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that nothing listens on: below the ports that the kernel gives to clients, and given out once.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    // Test programs that run at the same time start at different places.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let number = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(number).expect("FIRST + COUNT is below 65,536");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free")
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Asks until `done` says yes.
///
/// # Panics
/// After `limit`, with `what`.
pub fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}
