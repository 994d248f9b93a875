//! What the kernel knows of interfaces, addresses and routes, asked over rtnetlink (RFC 3549; rtnetlink(7)).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

const NEWLINK: u16 = libc::RTM_NEWLINK;
const GETLINK: u16 = libc::RTM_GETLINK;
const NEWADDR: u16 = libc::RTM_NEWADDR;
const GETADDR: u16 = libc::RTM_GETADDR;
const NEWROUTE: u16 = libc::RTM_NEWROUTE;
const GETROUTE: u16 = libc::RTM_GETROUTE;
const DELQDISC: u16 = libc::RTM_DELQDISC;
const NEWTFILTER: u16 = libc::RTM_NEWTFILTER;
const GETTFILTER: u16 = libc::RTM_GETTFILTER;
/// The handle of clsact, where it is, and its two lists of filters (linux/pkt_sched.h).
const CLSACT: u32 = 0xffff_0000;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// Bytes of `struct nlmsghdr` and of an attribute's header.
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
/// Room for what one call receives: more than the kernel sends at once.
const ROOM: usize = 64 << 10;
/// The kernel answers at once; a lost answer must not hold anybody up.
const PATIENCE: Duration = Duration::from_secs(2);

/// A link of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// `ARPHRD_…`: whether its packets begin with an Ethernet header.
    pub kind: u16,
    pub is_up: bool,
    pub is_loopback: bool,
    /// It is a port of a bridge, a bond, or a member of a VRF.
    pub has_master: bool,
}

impl Interface {
    pub fn is_ethernet(&self) -> bool {
        self.kind == libc::ARPHRD_ETHER
    }
}

/// Where this machine would send a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// To itself.
    Local,
    /// Out of an interface, from an address of its own.
    Out {
        interface: u32,
        source: IpAddr,
    },
    Nowhere,
}

/// A socket that asks.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// As of `socket(2)`.
    pub fn open() -> io::Result<Netlink> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// All links.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        // struct ifinfomsg.
        let messages = self.dump(GETLINK, NEWLINK, &[0; 16])?;
        Ok(messages.iter().filter_map(|message| interface(message)).collect())
    }

    /// All addresses of this machine.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        // struct ifaddrmsg.
        let messages = self.dump(GETADDR, NEWADDR, &[0; 8])?;
        let own = |message: &Vec<u8>| {
            let attributes = || attributes(message.get(8..).unwrap_or_default());
            // Of a point-to-point link, IFA_ADDRESS is the other end's.
            let local = attributes().find(|(kind, _)| *kind == libc::IFA_LOCAL);
            local.or_else(|| attributes().find(|(kind, _)| *kind == libc::IFA_ADDRESS)).and_then(|(_, value)| ip(value))
        };
        Ok(messages.iter().filter_map(own).collect())
    }

    /// The route to `ip`, as a socket of this machine would take it.
    ///
    /// # Errors
    /// When the kernel does not answer; that there is no route is no error.
    pub fn route(&mut self, to: IpAddr) -> io::Result<Route> {
        let (family, octets) = match to {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        // struct rtmsg, and the attribute RTA_DST.
        let mut body = vec![family as u8, octets.len() as u8 * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        body.extend(((ATTRIBUTE + octets.len()) as u16).to_ne_bytes());
        body.extend(libc::RTA_DST.to_ne_bytes());
        body.extend(octets);
        match self.ask(GETROUTE, libc::NLM_F_REQUEST as u16, &body, NEWROUTE) {
            Ok(messages) => Ok(messages.first().map_or(Route::Nowhere, |message| route(message))),
            Err(error) if error.raw_os_error().is_some_and(is_no_route) => Ok(Route::Nowhere),
            Err(error) => Err(error),
        }
    }

    /// Removes the qdisc clsact of an interface unless it has filters.
    ///
    /// # Errors
    /// When the kernel does not answer, or there is none.
    pub fn remove_clsact(&mut self, interface: u32) -> io::Result<()> {
        for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
            if !self.dump(GETTFILTER, NEWTFILTER, &traffic_control(interface, 0, parent))?.is_empty() {
                return Ok(());
            }
        }
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        self.ask(DELQDISC, flags, &traffic_control(interface, CLSACT, TC_H_CLSACT), 0).map(drop)
    }

    fn dump(&mut self, kind: u16, answer: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.ask(kind, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, body, answer)
    }

    /// The bodies of the answers: of one, or of all that a dump brings.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], answer: u16) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4]);
        request.extend(body);
        self.socket.send(&request)?;
        let is_dump = flags & libc::NLM_F_DUMP as u16 != 0;
        let mut room = vec![0; ROOM];
        let mut answers = Vec::new();
        loop {
            let length = io::Read::read(&mut &self.socket, &mut room)?;
            for (header, body) in messages(&room[..length]) {
                if header.sequence != self.sequence {
                    continue;
                }
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(answers),
                    libc::NLMSG_ERROR => return failure(body).map_or(Ok(answers), Err),
                    _ if header.kind == answer => answers.push(body.to_vec()),
                    _ => {}
                }
                if !is_dump {
                    return Ok(answers);
                }
            }
        }
    }
}

/// struct tcmsg.
fn traffic_control(interface: u32, handle: u32, parent: u32) -> Vec<u8> {
    [0, interface, handle, parent, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn is_no_route(error: i32) -> bool {
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN, libc::EINVAL, libc::EACCES, libc::EAFNOSUPPORT]
        .contains(&error)
}

struct Header {
    kind: u16,
    sequence: u32,
}

/// The messages in what was received; what is cut off ends them.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let header = Header { kind: short(bytes, 4)?, sequence: number(bytes, 8)? };
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// The attributes at the end of a message.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(short(bytes, 0)?), short(bytes, 2)?);
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The error in a message of that kind; 0 is none.
fn failure(body: &[u8]) -> Option<io::Error> {
    match number(body, 0).map(|number| number as i32) {
        Some(0) => None,
        Some(number) => Some(io::Error::from_raw_os_error(-number)),
        None => Some(io::ErrorKind::InvalidData.into()),
    }
}

fn interface(message: &[u8]) -> Option<Interface> {
    let (kind, index, flags) = (short(message, 2)?, number(message, 4)?, number(message, 8)?);
    let attributes = || attributes(message.get(16..).unwrap_or_default());
    let (_, name) = attributes().find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(Interface {
        index,
        name: String::from_utf8(name.to_vec()).ok()?,
        kind,
        is_up: flags & libc::IFF_UP as u32 != 0,
        is_loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
        has_master: attributes().any(|(kind, _)| kind == libc::IFLA_MASTER),
    })
}

fn route(message: &[u8]) -> Route {
    let kind = message.get(7).copied().unwrap_or_default();
    let (mut interface, mut source) = (None, None);
    for (kind, value) in attributes(message.get(12..).unwrap_or_default()) {
        match kind {
            libc::RTA_OIF => interface = number(value, 0),
            libc::RTA_PREFSRC => source = ip(value),
            _ => {}
        }
    }
    match (kind, interface, source) {
        (libc::RTN_LOCAL, ..) => Route::Local,
        (libc::RTN_UNICAST, Some(interface), Some(source)) => Route::Out { interface, source },
        _ => Route::Nowhere,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).map(IpAddr::from)).ok()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_and_local() {
        let mut netlink = Netlink::open().expect("a netlink socket");
        let interfaces = netlink.interfaces().expect("links");
        let lo = interfaces.iter().find(|interface| interface.is_loopback).expect("loopback");
        assert!(lo.name == "lo" && !lo.is_ethernet() && !lo.has_master);
        assert!(netlink.addresses().expect("addresses").contains(&Ipv4Addr::LOCALHOST.into()));
        assert_eq!(netlink.route(Ipv4Addr::LOCALHOST.into()).expect("answered"), Route::Local);
        assert_eq!(
            netlink.route(Ipv4Addr::new(240, 0, 0, 1).into()).map(|route| route == Route::Local).ok(),
            Some(false)
        );
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend([0; 16]);
        for length in 0..message.len() {
            assert_eq!(messages(&message[..length]).count(), 0);
        }
        assert_eq!(messages(&message).count(), 1);
        assert_eq!(attributes(&[3, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(route(&[]), Route::Nowhere);
        assert_eq!(interface(&[0; 16]), None);
    }
}
