//! The data plane: bytes in, bytes out, by the snapshot in force. Knows no Gateway API type.
//!
//! The life of a request: [`socket`] accepts on each worker's own listening socket, [`tls`] picks a certificate by SNI,
//! [`accept`] makes a
//! connection of it, `serve` runs hyper on that, [`http`] is where a request ENTERs (checks of the head, canonical target,
//! choice of listener and rule), `forward` is where it LEAVEs to a backend over a connection of `upstream`.
//!
//! Every worker is one thread with a single-threaded runtime. Nothing is shared between workers on the request path.

use std::{
    cell::{Cell, OnceCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

pub mod accept;
pub mod access_log;
mod answer;
mod backend_stream;
mod balance;
pub mod body;
mod choose;
mod clock;
mod cors;
pub mod counter;
mod drain;
pub mod elsewhere;
mod exchange;
pub mod explain;
mod field;
mod filter;
mod forward;
mod frame;
mod framing;
mod gate;
mod grpc;
mod head;
pub mod hello;
mod holder;
pub mod http;
mod interest;
mod io;
mod layer4;
mod mirror;
pub mod outcome;
mod parting;
mod pulse;
mod redirect;
mod relay;
mod serve;
pub mod setting;
pub mod socket;
mod stream;
mod succession;
pub mod ticket;
pub mod tls;
mod transport;
mod tunnel;
mod turn;
pub mod udp;
mod unread;
mod upgrade;
mod upload;
mod upstream;
pub mod worker;

pub use access_log::{AccessLog, Writer as AccessLogWriter};
pub use body::Body;
pub use counter::Counters;
pub use setting::Settings;

use crate::snapshot::cell::{DenyReader, SnapshotReader};
use balance::Balance;
use clock::Clock;
use drain::Connections;
use tunnel::Tunnels;
use upstream::Upstreams;

/// What one worker thread owns. Passed as `Rc` to every connection and request; never leaves its thread.
pub struct Worker {
    pub index: usize,
    pub settings: Arc<Settings>,
    pub snapshots: SnapshotReader,
    denied: DenyReader,
    /// Read by other threads.
    pub counters: Arc<Counters>,
    access_log: Option<AccessLog>,
    balance: Balance,
    clock: Rc<Clock>,
    /// Everyone who is connected to this worker.
    connections: Connections,
    upstreams: Upstreams,
    relay_buffers: relay::Buffers,
    datagrams: udp::Datagrams,
    /// Mirrored requests under way.
    mirrors: Cell<usize>,
    housekeeping: Cell<bool>,
}

impl Worker {
    pub fn new(
        index: usize,
        settings: Arc<Settings>,
        snapshots: SnapshotReader,
        denied: DenyReader,
        access_log: Option<AccessLog>,
    ) -> Rc<Worker> {
        let clock = Rc::new(Clock::new(
            settings.stall_timeout.min(settings.grpc_idle_timeout).min(settings.backend_idle_timeout),
        ));
        let connections = Connections::new(&settings);
        Rc::new(Worker {
            index,
            connections,
            settings,
            snapshots,
            denied,
            counters: Arc::default(),
            access_log,
            balance: Balance::default(),
            clock,
            upstreams: Upstreams::default(),
            relay_buffers: relay::Buffers::default(),
            datagrams: udp::Datagrams::default(),
            mirrors: Cell::new(0),
            housekeeping: Cell::new(false),
        })
    }

    /// Sees to it that the clock runs while there is anything under way or any idle backend connection.
    fn keep_house(self: &Rc<Worker>) {
        if self.housekeeping.replace(true) {
            return;
        }
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(worker.clock.tick()).await;
                worker.clock.advance();
                let idle_ticks = worker.clock.ticks(worker.settings.backend_idle_timeout);
                worker.upstreams.sweep(worker.clock.now(), idle_ticks);
                if worker.clock.is_idle() && worker.upstreams.is_empty() {
                    break;
                }
            }
            worker.housekeeping.set(false);
        });
    }
}

/// A client's connection, as a request sees it.
pub struct Connection {
    /// The client.
    pub peer: SocketAddr,
    /// The address that the client spoke to.
    pub local: SocketAddr,
    /// The bound address: key into `Snapshot::sockets`.
    pub socket: SocketAddr,
    /// For TLS connections.
    pub tls: Option<ConnectionTls>,
    tunnels: Rc<Tunnels>,
    client: OnceCell<field::Client>,
}

impl Connection {
    pub fn new(peer: SocketAddr, local: SocketAddr, socket: SocketAddr, tls: Option<ConnectionTls>) -> Connection {
        Connection { peer, local, socket, tls, tunnels: Rc::default(), client: OnceCell::new() }
    }
}

/// What the handshake said.
pub struct ConnectionTls {
    /// Server name in lower case, where the client sent one.
    pub server_name: Option<Box<str>>,
    /// Key of the listener whose certificate was presented.
    pub listener: Arc<str>,
}

/// Shared by all requests of a connection.
pub type ConnectionRef = Rc<Connection>;
