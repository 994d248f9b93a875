//! Connections are handed out to the workers in turn.

#![cfg(feature = "kernel")]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use gapi::{
    dataplane::{Settings, socket},
    kernel::reuseport,
};
use rustix::process::geteuid;

mod support;

#[allow(dead_code)]
#[path = "connection/harness.rs"]
mod harness;

use harness::{Gateway, all_bound, free_address, plain};
use support::wait;

const PATIENCE: Duration = Duration::from_secs(10);

/// May this process load programs? Says so if it may not.
fn may_load() -> bool {
    let may = geteuid().is_root();
    if !may {
        eprintln!("skipped: programs are loaded by root");
    }
    may
}

fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).expect("connected")).collect()
}

#[test]
fn a_hundred_connections_come_to_all_workers_alike() {
    if !may_load() {
        return;
    }
    let mut gateway = Gateway::start(Settings::default());
    gateway.plane.share_out_by(reuseport::share_out);
    let address = free_address();
    all_bound(&gateway.publish(plain(&[address])));
    for round in 1..=3 {
        let connections = connect(address, 100);
        wait("all are accepted", PATIENCE, || gateway.open() == 100);
        let spread = gateway.plane.counts().sockets[&address].clone();
        eprintln!("round {round}: {spread:?}");
        let (least, most) = (spread.iter().min().expect("workers"), spread.iter().max().expect("workers"));
        assert!(most - least <= 1, "{spread:?}");
        drop(connections);
        wait("all have gone", PATIENCE, || gateway.open() == 0);
    }
}

/// How many connections wait in each queue.
fn accepted(listeners: &[TcpListener]) -> Vec<usize> {
    let all = |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
    listeners.iter().map(all).collect()
}

fn bind(address: SocketAddr, count: usize) -> Vec<TcpListener> {
    socket::bind(address, count, true).expect("bound")
}

#[test]
fn a_socket_that_leaves_takes_no_connection_with_it() {
    if !may_load() {
        return;
    }
    let address = free_address();
    let mut listeners = bind(address, 4);
    reuseport::share_out(&listeners);
    let connections = connect(address, 40);
    assert_eq!(accepted(&listeners), [10; 4]);
    listeners.remove(1);
    drop(connections);
    let connections = connect(address, 39);
    let spread = accepted(&listeners);
    assert_eq!(spread.iter().sum::<usize>(), 39, "each is somewhere: {spread:?}");
    assert!(spread.iter().all(|count| *count >= 9), "{spread:?}");
    drop(connections);
    listeners.truncate(1);
    let _connections = connect(address, 10);
    assert_eq!(accepted(&listeners), [10]);
}

/// Sockets that were kept for a successor are still in the array of the program that is attached to them.
#[test]
fn the_sockets_of_an_earlier_run_are_shared_out_anew() {
    if !may_load() {
        return;
    }
    let address = free_address();
    let kept = bind(address, 3);
    reuseport::share_out(&kept);
    let mut listeners: Vec<TcpListener> = kept.iter().map(|one| one.try_clone().expect("cloned")).collect();
    listeners.push(socket::join(address).expect("bound"));
    drop(kept);
    reuseport::share_out(&listeners);
    wait("all four have their turn", PATIENCE, || {
        let connections = connect(address, 40);
        let spread = accepted(&listeners);
        drop(connections);
        assert_eq!(spread.iter().sum::<usize>(), 40);
        spread == [10; 4]
    });
    // More sockets than workers: those without one get none, until they are closed.
    reuseport::share_out(&listeners[..2]);
    wait("two have all", PATIENCE, || {
        let connections = connect(address, 40);
        let spread = accepted(&listeners);
        drop(connections);
        spread == [20, 20, 0, 0]
    });
}
