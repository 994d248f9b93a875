//! What `gapi kernel` shows: interfaces, what the tables hold, traffic by listener and endpoint, packets by reason.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::maps::{Protocol, Traffic};

/// A look at the kernel path.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub interfaces: Vec<InterfaceLine>,
    /// Entries in the table of connections that last, two for each, and how many there can be.
    pub entries: u32,
    pub room: u32,
    pub services: Vec<ServiceLine>,
    /// What became of packets that were not sent on, and how many there were; see [`super::maps::REASONS`].
    pub reasons: Vec<(&'static str, u64)>,
}

#[derive(Clone, Debug)]
pub struct InterfaceLine {
    pub name: String,
    /// `tcx` or `clsact`.
    pub how: &'static str,
}

/// A layer-4 listener.
#[derive(Clone, Debug)]
pub struct ServiceLine {
    pub socket: SocketAddr,
    pub protocol: Protocol,
    pub listener: Arc<str>,
    pub route: Option<Arc<str>>,
    /// Does the kernel carry it, all or a part?
    pub is_in_kernel: bool,
    /// Why user space has all or a part.
    pub user: Vec<String>,
    pub endpoints: Vec<EndpointLine>,
}

#[derive(Clone, Debug)]
pub struct EndpointLine {
    pub address: SocketAddr,
    /// This machine's address toward it.
    pub source: IpAddr,
    /// It has left, and keeps its connections.
    pub is_departed: bool,
    /// Connections that are in the table now, those that have ended and not been forgotten among them.
    pub current: u32,
    pub traffic: Traffic,
}
