//! Control messages of UDP sockets (cmsg(3)): the local address of a datagram, and the length of each of several that the
//! kernel passes as one (udp(7), UDP_GRO and UDP_SEGMENT).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for an address and a length, received or sent.
pub const ROOM: usize = 96;

const WORD: usize = size_of::<usize>();
/// A word for the length, then level and type.
const HEAD: usize = WORD + 8;

/// A buffer of control messages, aligned as the kernel writes them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control {
    pub bytes: [u8; ROOM],
    pub length: usize,
}

impl Default for Control {
    fn default() -> Control {
        Control { bytes: [0; ROOM], length: 0 }
    }
}

/// What the kernel says of a datagram besides its bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Said {
    /// The address of this machine that answers have to come from.
    pub local: Option<IpAddr>,
    /// Where several came as one: the length of each but the last.
    pub segment: Option<usize>,
}

impl Control {
    /// For sending: from `source`, cut into pieces of `segment` bytes.
    pub fn new(source: Option<IpAddr>, segment: Option<u16>) -> Control {
        let mut control = Control::default();
        match source {
            Some(IpAddr::V4(ip)) => {
                // struct in_pktinfo: the interface, the local address, the one in the header.
                let mut packet = [0; 12];
                packet[4..8].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &packet);
            }
            Some(IpAddr::V6(ip)) => {
                // struct in6_pktinfo: the address, the interface.
                let mut packet = [0; 20];
                packet[..16].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &packet);
            }
            None => {}
        }
        if let Some(segment) = segment {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        control
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let length = HEAD + data.len();
        let message = &mut self.bytes[self.length..];
        message[..WORD].copy_from_slice(&length.to_ne_bytes());
        message[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        message[WORD + 4..HEAD].copy_from_slice(&kind.to_ne_bytes());
        message[HEAD..length].copy_from_slice(data);
        self.length += length.next_multiple_of(WORD);
    }

    /// What was received.
    pub fn said(&self) -> Said {
        let mut said = Said::default();
        let mut rest = &self.bytes[..self.length.min(ROOM)];
        while let Some((message, after)) = next(rest) {
            rest = after;
            match message {
                (libc::IPPROTO_IP, libc::IP_PKTINFO, data) => {
                    said.local = array(data, 4).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data) => {
                    said.local = array(data, 0).map(|octets: [u8; 16]| Ipv6Addr::from(octets).into());
                }
                (libc::SOL_UDP, libc::UDP_GRO, data) => {
                    said.segment = array(data, 0).and_then(|length| usize::try_from(i32::from_ne_bytes(length)).ok());
                }
                _ => {}
            }
        }
        said
    }
}

type Message<'a> = (i32, i32, &'a [u8]);

/// The first message, and what is behind it.
fn next(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::from_ne_bytes(array(bytes, 0)?);
    let level = i32::from_ne_bytes(array(bytes, WORD)?);
    let kind = i32::from_ne_bytes(array(bytes, WORD + 4)?);
    let data = bytes.get(HEAD..length)?;
    let after = bytes.get(length.next_multiple_of(WORD)..).unwrap_or_default();
    Some(((level, kind, data), after))
}

fn array<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_again() {
        for source in ["127.0.0.2", "2001:db8::1"] {
            let ip: IpAddr = source.parse().expect("an address");
            let mut control = Control::new(Some(ip), Some(1200));
            assert_eq!(control.said(), Said { local: Some(ip), segment: None });
            control.push(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
            assert_eq!(control.said(), Said { local: Some(ip), segment: Some(1200) });
        }
        assert_eq!(Control::default().said(), Said::default());
    }

    #[test]
    fn broken_lengths_end_it() {
        for length in [0, 1, HEAD - 1, ROOM, usize::MAX] {
            let mut control = Control::new(Some(IpAddr::from([127, 0, 0, 1])), None);
            control.bytes[..WORD].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(control.said().segment, None, "{length}");
        }
    }
}
