//! The service manager's file-descriptor store (sd_pid_notify_with_fds(3)): what stays open there while this process ends
//! and the next one starts. A socket in it keeps its queue of connections.

use std::{
    collections::BTreeSet,
    env, io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use sd_notify::{NotifyState, notify, notify_with_fds};

/// Name of the ticket keys.
pub const TICKETS: &str = "gapi-tickets";

/// What a socket speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    const ALL: [Transport; 2] = [Transport::Tcp, Transport::Udp];

    /// What the names of its sockets begin with.
    fn prefix(self) -> &'static str {
        match self {
            Transport::Tcp => "gapi-tcp-",
            Transport::Udp => "gapi-udp-",
        }
    }
}

/// The store, where the service manager has one.
pub struct Store {
    names: BTreeSet<String>,
    /// How many descriptors it takes, where the service manager says it (systemd 254 and later).
    room: Option<usize>,
    complained: bool,
}

impl Store {
    /// None without a service manager, or with one that says that it keeps nothing.
    pub fn find() -> Option<Store> {
        env::var_os("NOTIFY_SOCKET")?;
        let room = env::var("FDSTORE").ok().and_then(|room| room.parse().ok());
        (room != Some(0)).then_some(Store { names: BTreeSet::new(), room, complained: false })
    }

    /// Remembers what is in it from before.
    pub fn know(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// Puts one more socket that is bound to `address` into it; returns its name.
    pub fn keep_socket(&mut self, transport: Transport, address: SocketAddr, socket: impl AsFd) -> String {
        let name = self.new_name(transport, address);
        self.keep(&name, socket);
        name
    }

    fn new_name(&self, transport: Transport, address: SocketAddr) -> String {
        let prefix = prefix(transport, address);
        let name = (0..).map(|number| format!("{prefix}{number}")).find(|name| !self.names.contains(name));
        name.expect("fewer sockets than numbers")
    }

    /// Puts a descriptor into it.
    pub fn keep(&mut self, name: &str, descriptor: impl AsFd) {
        self.know(name);
        if let Some(room) = self.room.filter(|room| self.names.len() > *room && !self.complained) {
            self.complained = true;
            tracing::warn!(
                room,
                wanted = self.names.len(),
                "the service manager keeps too few descriptors for a restart without a lost connection; \
                 raise FileDescriptorStoreMax= of the unit"
            );
        }
        // Without FDPOLL=0 the service manager may drop a socket that has an error to tell.
        let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        if let Err(error) = notify_with_fds(&states, &[descriptor.as_fd()]) {
            tracing::warn!(name, %error, "the service manager cannot be given a descriptor to keep");
        }
    }

    /// Takes out what has the name.
    pub fn remove(&mut self, name: &str) {
        self.names.remove(name);
        if let Err(error) = notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]) {
            tracing::warn!(name, %error, "the service manager cannot be told to close a descriptor");
        }
    }
}

/// Names may not have colons: `gapi-tcp-127.0.0.1_80-0`, the first socket of 127.0.0.1:80.
fn prefix(transport: Transport, address: SocketAddr) -> String {
    format!("{}{}-", transport.prefix(), address.to_string().replace(':', "_"))
}

/// Did [`Store::keep_socket`] give this name to a socket of `address`?
pub fn is_name_of(name: &str, transport: Transport, address: SocketAddr) -> bool {
    let number = name.strip_prefix(&prefix(transport, address));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Is it a name such as this store gives?
pub fn is_ours(name: &str) -> bool {
    Transport::ALL.iter().any(|transport| name.starts_with(transport.prefix())) || name == TICKETS
}

/// `bytes` in memory that nobody can change any more, and that is never on a disk but by swapping.
///
/// # Errors
/// Those of the system.
pub fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create(TICKETS, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let written = rustix::io::pwrite(&memory, bytes, 0)?;
    if written != bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// What [`seal`] was given.
///
/// # Errors
/// It is not sealed memory of at most `max` bytes.
pub fn unseal(memory: &OwnedFd, max: usize) -> io::Result<Vec<u8>> {
    let wrong = |fact| Err(io::Error::new(io::ErrorKind::InvalidData, fact));
    if !fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(SEALS)) {
        return wrong("it is no sealed memory");
    }
    let length = usize::try_from(fstat(memory)?.st_size).unwrap_or(usize::MAX);
    if length > max {
        return wrong("it is too long");
    }
    let mut bytes = vec![0; length];
    if rustix::io::pread(memory, &mut bytes[..], 0)? != length {
        return wrong("it cannot be read whole");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_colon_and_tell_addresses_and_transports_apart() {
        let addresses = ["127.0.0.1:80", "127.0.0.1:8", "[::1]:80", "[::]:80", "0.0.0.0:80", "[fe80::1%3]:80"];
        let addresses = addresses.map(|address| address.parse::<SocketAddr>().expect("an address"));
        let sockets = || Transport::ALL.iter().flat_map(|transport| addresses.map(|address| (*transport, address)));
        let mut store = Store { names: BTreeSet::new(), room: None, complained: false };
        for socket in sockets() {
            let name = store.new_name(socket.0, socket.1);
            store.know(&name);
            let second = store.new_name(socket.0, socket.1);
            assert!(name != second && !name.contains(':') && name.is_ascii() && is_ours(&name), "{name}");
            for other in sockets() {
                assert_eq!(is_name_of(&name, other.0, other.1), other == socket, "{name} {other:?}");
            }
        }
        assert!(!is_name_of("gapi-tcp-127.0.0.1_80-", Transport::Tcp, addresses[0]));
        assert!(!is_name_of("gapi.socket", Transport::Tcp, addresses[0]));
    }

    #[test]
    fn sealed_memory_cannot_be_changed_and_other_things_are_refused() {
        let memory = seal(b"keys").expect("there is memory");
        assert_eq!(unseal(&memory, 4).expect("sealed"), b"keys");
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&memory, 1).is_err());
        assert!(unseal(&memory, 3).is_err(), "too long");
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("there is memory");
        assert!(unseal(&open, 100).is_err(), "not sealed");
        let file = std::fs::File::open("/proc/self/exe").expect("ourselves");
        assert!(unseal(&file.into(), usize::MAX).is_err(), "a file");
    }
}
