//! What the programs and this side both know: the types of `ebpf/gapi.h`, their sizes held on both sides.
//!
//! Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d`; ports are in network order.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Programs and pins of one layout understand each other.
pub const LAYOUT: u32 = 2;
/// How many numbers of endpoints there are; 0 is user space.
pub const ENDPOINTS: u32 = 16384;
/// How many Maglev tables there can be.
pub const TABLES: u32 = 4096;

/// An address as the programs see it.
pub type Address = [u8; 16];

/// `ip` as the programs see it.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The reverse of [`address`].
pub fn ip(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

/// A packet's addresses: the key of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Tuple {
    pub from: Address,
    pub to: Address,
    pub from_port: [u8; 2],
    pub to_port: [u8; 2],
    pub protocol: u8,
    pub zero: [u8; 3],
}

impl Tuple {
    pub fn new(from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Tuple {
        Tuple {
            from: address(from.ip()),
            to: address(to.ip()),
            from_port: from.port().to_be_bytes(),
            to_port: to.port().to_be_bytes(),
            protocol: protocol as u8,
            zero: [0; 3],
        }
    }
}

/// The numbers of IANA.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
}

/// One direction of a connection: what the addresses of its packets become.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connection {
    pub from: Address,
    pub to: Address,
    pub from_port: [u8; 2],
    pub to_port: [u8; 2],
    pub service: u32,
    pub endpoint: u32,
    pub interface: u32,
    /// By `CLOCK_MONOTONIC`, in nanoseconds.
    pub seen: u64,
    pub flags: u16,
    pub attempt: u8,
    pub zero: [u8; 5],
}

/// The flags of a [`Connection`].
pub mod flag {
    /// The entry is of packets from the backend.
    pub const REVERSE: u16 = 1;
    /// The backend has spoken.
    pub const ANSWERED: u16 = 2;
    pub const FIN_OF_CLIENT: u16 = 4;
    pub const FIN_OF_BACKEND: u16 = 8;
    pub const RESET: u16 = 16;
    /// The endpoint is not there.
    pub const FAILED: u16 = 32;
    /// User space has it.
    pub const IN_USER_SPACE: u16 = 128;
    /// It is in the table of connections that last.
    pub const LASTING: u16 = 512;
}

impl Connection {
    pub fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The tuple of the other direction.
    pub fn other_way(&self, protocol: u8) -> Tuple {
        Tuple { from: self.to, to: self.from, from_port: self.to_port, to_port: self.from_port, protocol, zero: [0; 3] }
    }
}

/// What a listener is bound to.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ServiceKey {
    pub address: Address,
    pub port: [u8; 2],
    pub protocol: u8,
    pub zero: u8,
}

impl ServiceKey {
    pub fn new(socket: SocketAddr, protocol: Protocol) -> ServiceKey {
        ServiceKey {
            address: address(socket.ip()),
            port: socket.port().to_be_bytes(),
            protocol: protocol as u8,
            zero: 0,
        }
    }
}

/// A service and the place of its Maglev table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service {
    pub id: u32,
    pub table: u32,
    pub slots: u32,
    pub flags: u32,
}

/// A flag of a [`Service`]: backends see the client's address.
pub const KEEP_CLIENT: u32 = 1;

/// A backend's address on another machine.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Endpoint {
    pub address: Address,
    /// This machine's address toward it.
    pub source: Address,
    pub port: [u8; 2],
    pub zero: [u8; 2],
    pub interface: u32,
    /// 0 for a number that is free.
    pub service: u32,
    pub zero2: u32,
}

/// What went to and from an endpoint; kept by each processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    pub connections: u64,
    pub packets_to: u64,
    pub bytes_to: u64,
    pub packets_from: u64,
    pub bytes_from: u64,
    /// Connections that did not come about.
    pub failed: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.connections += other.connections;
        self.packets_to += other.packets_to;
        self.bytes_to += other.bytes_to;
        self.packets_from += other.packets_from;
        self.bytes_from += other.bytes_from;
        self.failed += other.failed;
    }
}

/// What the programs are told. Times are in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Told {
    pub layout: u32,
    pub seed: u32,
    pub port_low: u16,
    pub port_high: u16,
    pub zero: u32,
    pub settle: u64,
    pub tcp_opening: u64,
    pub tcp_idle: u64,
    pub tcp_half_closed: u64,
    pub tcp_closed: u64,
    pub udp_idle: u64,
    pub udp_answered: u64,
}

/// What became of packets that were not sent on, in the order of `enum reason`. "Passed" is up the stack, where user space
/// may have them.
pub const REASONS: [&str; 12] = [
    "passed: malformed",
    "passed: fragment without its first",
    "passed: no connection",
    "passed: chosen for user space",
    "passed: no source port free",
    "passed: tried again",
    "passed: no route",
    "dropped: refused, another endpoint is next",
    "dropped: no route",
    "dropped: could not be rewritten",
    "answered: too big",
    "answered: time exceeded",
];

const _: () = {
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<Connection>() == 64);
    assert!(size_of::<ServiceKey>() == 20);
    assert!(size_of::<Service>() == 16);
    assert!(size_of::<Endpoint>() == 48);
    assert!(size_of::<Traffic>() == 48);
    assert!(size_of::<Told>() == 72);
};

macro_rules! plain {
    ($($kind:ty),+) => {
        // SAFETY: C layout of integers and byte arrays, without padding: the sizes above are the sums of their fields.
        $(unsafe impl aya::Pod for $kind {})+
    };
}

plain!(Tuple, Connection, ServiceKey, Service, Endpoint, Traffic, Told);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_mapped_and_back() {
        for text in ["10.1.2.3", "0.0.0.0", "2001:db8::1", "::"] {
            let parsed: IpAddr = text.parse().expect("an address");
            assert_eq!(ip(address(parsed)), parsed);
        }
        let mapped = address("10.1.2.3".parse().expect("an address"));
        assert_eq!(mapped, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
    }

    #[test]
    fn each_reason_has_its_word() {
        let header = include_str!("../../ebpf/gapi.h");
        let (_, reasons) = header.split_once("enum reason {").expect("it is there");
        let (reasons, _) = reasons.split_once("REASONS,").expect("it ends there");
        let names: Vec<&str> = reasons.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        assert_eq!(names.len(), REASONS.len());
        for (name, word) in names.iter().zip(REASONS) {
            let (verb, _) = word.split_once(':').expect("verb: why");
            assert!(name.to_lowercase().starts_with(verb), "{name} is {word}");
        }
    }
}
