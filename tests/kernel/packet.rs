//! Packets as they are on a wire: made, and read with every checksum verified.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

const ETHERNET: usize = 14;

/// What a packet is made of.
#[derive(Clone, Debug)]
pub struct Packet {
    pub link: [[u8; 6]; 2],
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ttl: u8,
    /// Of IPv4, whole words.
    pub options: Vec<u8>,
    pub body: Body,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    Tcp {
        flags: u8,
        payload: Vec<u8>,
    },
    Udp {
        payload: Vec<u8>,
    },
    /// Type, code, the four bytes of the type's own, and the quoted packet from its network header on.
    Icmp {
        kind: u8,
        code: u8,
        own: [u8; 4],
        quote: Vec<u8>,
    },
}

impl Packet {
    pub fn new(from: SocketAddr, to: SocketAddr, body: Body) -> Packet {
        Packet { link: [[0; 6]; 2], from, to, ttl: 64, options: Vec::new(), body }
    }

    pub fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Packet {
        let payload = if flags & SYN == 0 { b"hello".to_vec() } else { Vec::new() };
        Packet::new(from, to, Body::Tcp { flags, payload })
    }

    pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Packet {
        Packet::new(from, to, Body::Udp { payload: payload.to_vec() })
    }

    pub fn over(mut self, receiver: [u8; 6], sender: [u8; 6]) -> Packet {
        self.link = [receiver, sender];
        self
    }

    /// With an Ethernet header.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.link.concat();
        bytes.extend(if self.from.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        bytes.extend(self.network());
        bytes
    }

    /// From the network header on.
    pub fn network(&self) -> Vec<u8> {
        let transport = self.transport();
        let protocol = self.protocol();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = 20 + self.options.len();
                let mut ip = vec![0x40 | (header / 4) as u8, 0];
                ip.extend(((header + transport.len()) as u16).to_be_bytes());
                ip.extend([0x12, 0x34, 0x40, 0, self.ttl, protocol, 0, 0]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                ip.extend(&self.options);
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum);
                ip.extend(transport);
                ip
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend((transport.len() as u16).to_be_bytes());
                ip.extend([protocol, self.ttl]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                ip.extend(transport);
                ip
            }
            _ => panic!("one family"),
        }
    }

    fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp { .. } => 6,
            Body::Udp { .. } => 17,
            Body::Icmp { .. } if self.from.is_ipv4() => 1,
            Body::Icmp { .. } => 58,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let ports = || [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        let (mut bytes, at) = match &self.body {
            Body::Tcp { flags, payload } => {
                let mut bytes = ports();
                bytes.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, *flags, 0x20, 0, 0, 0, 0, 0]);
                bytes.extend(payload);
                (bytes, 16)
            }
            Body::Udp { payload } => {
                let mut bytes = ports();
                bytes.extend((8 + payload.len() as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(payload);
                (bytes, 6)
            }
            Body::Icmp { kind, code, own, quote } => {
                let mut bytes = vec![*kind, *code, 0, 0];
                bytes.extend(own);
                bytes.extend(quote);
                (bytes, 2)
            }
        };
        let pseudo = self.pseudo(bytes.len());
        let sum = checksum(&[&pseudo, &bytes]);
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        match (self.from.ip(), self.to.ip()) {
            _ if self.protocol() == 1 => Vec::new(),
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut pseudo = [from.octets(), to.octets()].concat();
                pseudo.extend([0, self.protocol()]);
                pseudo.extend((length as u16).to_be_bytes());
                pseudo
            }
            (from, to) => {
                let octets = |ip| match ip {
                    IpAddr::V6(ip) => Ipv6Addr::octets(&ip),
                    IpAddr::V4(_) => panic!("one family"),
                };
                let mut pseudo = [octets(from), octets(to)].concat();
                pseudo.extend((length as u32).to_be_bytes());
                pseudo.extend([0, 0, 0, self.protocol()]);
                pseudo
            }
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Packet, String> {
        let mut packet = Packet::read_network(bytes.get(ETHERNET..).ok_or("short")?)?;
        packet.link = [bytes[..6].try_into().expect("six"), bytes[6..12].try_into().expect("six")];
        Ok(packet)
    }

    /// Likewise, from the network header on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_network(ip: &[u8]) -> Result<Packet, String> {
        let octets = |at: usize, length: usize| ip.get(at..at + length).ok_or("short");
        let (from, to, ttl, protocol, options, transport): (IpAddr, IpAddr, _, _, _, _) = match ip[0] >> 4 {
            4 => {
                let header = usize::from(ip[0] & 15) * 4;
                let whole = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
                if checksum(&[&ip[..header]]) != [0, 0] {
                    return Err("the checksum of the IPv4 header is wrong".into());
                }
                let address = |at| Ok::<_, String>(<[u8; 4]>::try_from(octets(at, 4)?).expect("four").into());
                let transport = ip.get(header..whole).ok_or("short")?;
                (address(12)?, address(16)?, ip[8], ip[9], ip[20..header].to_vec(), transport)
            }
            6 => {
                let whole = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
                let address = |at| Ok::<_, String>(<[u8; 16]>::try_from(octets(at, 16)?).expect("sixteen").into());
                (address(8)?, address(24)?, ip[7], ip[6], Vec::new(), ip.get(40..40 + whole).ok_or("short")?)
            }
            version => return Err(format!("version {version}")),
        };
        let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
        let (ports, body) = match protocol {
            6 => {
                let header = usize::from(transport[12] >> 4) * 4;
                let body = Body::Tcp { flags: transport[13], payload: transport[header..].to_vec() };
                ((port(0), port(2)), body)
            }
            17 => ((port(0), port(2)), Body::Udp { payload: transport[8..].to_vec() }),
            1 | 58 => {
                let body = Body::Icmp {
                    kind: transport[0],
                    code: transport[1],
                    own: transport[4..8].try_into().expect("four"),
                    quote: transport[8..].to_vec(),
                };
                ((0, 0), body)
            }
            other => return Err(format!("protocol {other}")),
        };
        let (from, to) = ((from, ports.0).into(), (to, ports.1).into());
        let packet = Packet { link: [[0; 6]; 2], from, to, ttl, options, body };
        let has_none = protocol == 17 && transport[6..8] == [0, 0];
        if !has_none && checksum(&[&packet.pseudo(transport.len()), transport]) != [0, 0] {
            return Err(format!("the checksum of protocol {protocol} is wrong"));
        }
        Ok(packet)
    }
}

/// RFC 1071, over pieces of even length but the last.
pub fn checksum(pieces: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u32;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
