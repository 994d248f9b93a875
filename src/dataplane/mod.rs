//! The data plane: bytes in, bytes out, by the snapshot in force. Knows no Gateway API type.
//!
//! The life of a request: [`socket`] accepts on each worker's own listening socket, [`tls`] picks a certificate by SNI,
//! [`accept`] makes it a
//! connection, [`serve`] runs hyper on it, [`http`] is where a request ENTERs (checks of the head, canonical target,
//! choice of listener and rule), [`forward`] is where it LEAVEs to a backend over a connection of [`upstream`].
//!
//! Every worker is one thread with a single-threaded runtime. Nothing is shared between workers on the request path.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

pub mod accept;
pub mod body;
pub mod drain;
pub mod frame;
pub mod framing;
pub mod holder;
pub mod http;
pub mod io;
pub mod pulse;
pub mod serve;
pub mod setting;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod worker;

pub use setting::Settings;

use self::{drain::Connections, tls::Tls};

use crate::snapshot::cell::SnapshotReader;

/// What one worker thread owns. Passed as `Rc` to every connection and request; never leaves its thread.
pub struct Worker {
    pub index: usize,
    pub settings: Arc<Settings>,
    pub snapshots: SnapshotReader,
    /// What all TLS handshakes of the process share.
    pub tls: Arc<Tls>,
    /// Everyone who is connected to this worker.
    pub connections: Connections,
}

impl Worker {
    pub fn new(index: usize, settings: Arc<Settings>, snapshots: SnapshotReader, tls: Arc<Tls>) -> Worker {
        let connections = Connections::new(&settings);
        Worker { index, settings, snapshots, tls, connections }
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
