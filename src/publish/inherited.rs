//! What did the service manager start this process with? Sockets and keys of the run before, and sockets of socket units
//! (`LISTEN_FDS`, sd_listen_fds(3)).

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use super::store::{self, Transport};
use crate::dataplane::{socket, udp};

/// A socket and the name that the service manager has for it.
pub type Named<S> = (String, S);

/// Sockets of one transport by the address that they are bound to. One that takes both families is there for each.
pub struct Passed<S> {
    /// Out of the file-descriptor store: an earlier run of gapi bound them.
    pub kept: BTreeMap<SocketAddr, Vec<Named<S>>>,
    /// Of socket units: theirs for good, whatever becomes of this process.
    pub passed: BTreeMap<SocketAddr, Vec<Named<S>>>,
}

impl<S> Default for Passed<S> {
    fn default() -> Passed<S> {
        Passed { kept: BTreeMap::new(), passed: BTreeMap::new() }
    }
}

impl<S> Passed<S> {
    fn add(&mut self, is_kept: bool, name: &str, address: SocketAddr, socket: S) {
        let sockets = if is_kept { &mut self.kept } else { &mut self.passed };
        sockets.entry(address).or_default().push((name.to_owned(), socket));
    }

    /// Has it a socket of this port? It is then no stranger's port that cannot be bound.
    pub fn has_port(&self, port: u16) -> bool {
        self.kept.keys().chain(self.passed.keys()).any(|address| address.port() == port)
    }

    /// The names of those that an earlier run bound, which nobody wanted.
    pub fn take_kept(&mut self) -> impl Iterator<Item = String> {
        std::mem::take(&mut self.kept).into_values().flatten().map(|(name, _)| name)
    }
}

/// Sockets and keys.
#[derive(Default)]
pub struct Inherited {
    pub streams: Passed<TcpListener>,
    pub datagrams: Passed<UdpSocket>,
    /// Ticket keys of the run before.
    pub tickets: Option<OwnedFd>,
    /// Names of things in the store that are of no use.
    pub useless: Vec<String>,
}

impl Inherited {
    /// Takes what the environment says this very process was given. Call it once, first of all: later descriptors of the
    /// same numbers may be others.
    pub fn take() -> Inherited {
        let mut inherited = Inherited::default();
        for (descriptor, name) in descriptors() {
            // SAFETY: it is open (its flags were just set) and nobody else's: the service manager made it for this
            // process, and this is called once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            inherited.add(name, descriptor);
        }
        inherited
    }

    fn add(&mut self, name: String, descriptor: OwnedFd) {
        if name == store::TICKETS {
            self.tickets = Some(descriptor);
            return;
        }
        if let Err(error) = self.adopt(&name, descriptor) {
            tracing::warn!(%name, %error, "what the service manager passed is of no use");
            self.useless.extend(Some(name).filter(|name| store::is_ours(name)));
        }
    }

    fn adopt(&mut self, name: &str, descriptor: OwnedFd) -> io::Result<()> {
        if udp::bind::is_datagram(&descriptor) {
            let (socket, address, of_ipv4) = udp::bind::adopt(descriptor)?;
            let is_kept = is_kept(name, Transport::Udp, address)?;
            for at in of_ipv4.into_iter().chain([address]) {
                self.datagrams.add(is_kept, name, at, socket.try_clone()?);
            }
        } else {
            let (listener, address, of_ipv4) = socket::adopt(descriptor)?;
            let is_kept = is_kept(name, Transport::Tcp, address)?;
            for at in of_ipv4.into_iter().chain([address]) {
                self.streams.add(is_kept, name, at, listener.try_clone()?);
            }
        }
        Ok(())
    }

    /// What an earlier run put into the store and the store still has.
    pub fn kept_names(&self) -> impl Iterator<Item = &str> {
        let streams = self.streams.kept.values().flatten().map(|(name, _)| name.as_str());
        streams.chain(self.datagrams.kept.values().flatten().map(|(name, _)| name.as_str()))
    }
}

/// Does the name say that an earlier run bound this socket?
///
/// # Errors
/// It says that an earlier run bound another one.
fn is_kept(name: &str, transport: Transport, address: SocketAddr) -> io::Result<bool> {
    let is_kept = store::is_name_of(name, transport, address);
    if store::is_ours(name) && !is_kept {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is bound to {address} ({transport:?})")));
    }
    Ok(is_kept)
}

/// What was passed, with its names. Without names that fit it is passed all the same, and has none.
fn descriptors() -> Vec<(RawFd, String)> {
    let named = sd_notify::listen_fds_with_names().map(Iterator::collect::<Vec<_>>);
    let passed = named.or_else(|_| {
        let unnamed = sd_notify::listen_fds()?.map(|descriptor| (descriptor, String::new()));
        Ok::<_, io::Error>(unnamed.collect())
    });
    passed.unwrap_or_else(|error| {
        tracing::warn!(%error, "what the service manager passed cannot be taken");
        Vec::new()
    })
}
