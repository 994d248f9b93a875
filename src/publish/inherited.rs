//! What did the service manager start this process with? Sockets and keys of the run before, and sockets of socket units
//! (`LISTEN_FDS`, sd_listen_fds(3)).

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use super::store;
use crate::dataplane::socket;

/// A listening socket and the name that the service manager has for it.
pub type Named = (String, TcpListener);

/// Sockets by the address that they are bound to, and keys.
#[derive(Default)]
pub struct Inherited {
    /// Out of the file-descriptor store: an earlier run of gapi bound them.
    pub kept: BTreeMap<SocketAddr, Vec<Named>>,
    /// Of socket units: theirs for good, whatever becomes of this process.
    pub passed: BTreeMap<SocketAddr, Vec<Named>>,
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
        match socket::adopt(descriptor) {
            Ok((listener, address, of_ipv4)) => {
                let sockets = if store::is_name_of(&name, address) { &mut self.kept } else { &mut self.passed };
                if let Some((of_ipv4, listener)) = of_ipv4.zip(listener.try_clone().ok()) {
                    sockets.entry(of_ipv4).or_default().push((name.clone(), listener));
                }
                sockets.entry(address).or_default().push((name, listener));
            }
            Err(error) => {
                tracing::warn!(%name, %error, "what the service manager passed is of no use");
                self.useless.extend(Some(name).filter(|name| store::is_ours(name)));
            }
        }
    }

    /// Has it a socket of this port? It is then no stranger's port that cannot be bound.
    pub fn has_port(&self, port: u16) -> bool {
        self.kept.keys().chain(self.passed.keys()).any(|address| address.port() == port)
    }
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
