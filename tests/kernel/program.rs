//! The program on crafted packets (`BPF_PROG_TEST_RUN`): what it makes of them, byte for byte.

use std::{net::SocketAddr, path::PathBuf};

use aya::{
    maps::{HashMap, Map, MapData},
    programs::{SchedClassifier, TestRun, TestRunOptions},
};
use gapi::kernel::{
    PROGRAM, Settings,
    maps::{Connection, LAYOUT, Protocol, Tuple, flag},
    netlink::Netlink,
};

use crate::{
    packet::{ACK, Body, FIN, Packet, RST, SYN, checksum},
    stage::{BACKEND_LINK, CLIENT_LINK, FAMILIES, Family, GATEWAY_BACKEND_LINK, GATEWAY_CLIENT_LINK, Service, Stage},
};

/// What the program can say: up the stack, drop, send elsewhere.
const PASS: i32 = -1;
const DROP: i32 = 2;
pub const REDIRECT: i32 = 7;

pub const PORT: u16 = 80;
pub const BACKEND_PORT: u16 = 8080;

/// A stage with links whose neighbours are known, so that packets leave with their addresses.
pub struct Bench {
    pub stage: Stage,
    family: Family,
    pub interfaces: [u32; 2],
}

impl Bench {
    /// `services` are of the family; none without privilege.
    pub fn new(family: Family, settings: impl Fn(Settings) -> Settings, services: &[Service]) -> Option<Bench> {
        let stage = Stage::new()?;
        stage.forward(true);
        let link = |octets: [u8; 6]| octets.map(|octet| format!("{octet:02x}")).join(":");
        let neighbours = [
            (family.client(0), CLIENT_LINK, "g0"),
            (family.backend(0), BACKEND_LINK, "g1"),
            (family.other_backend(0), BACKEND_LINK, "g1"),
        ];
        for (address, own, name) in neighbours {
            let arguments = format!("neigh replace {} lladdr {} dev {name} nud permanent", address.ip(), link(own));
            stage.gateway.ip(&arguments);
        }
        stage.start(settings(stage.settings()));
        stage.publish(services);
        let interfaces = stage.gateway.run(|| {
            let all = Netlink::open().and_then(|mut netlink| netlink.interfaces()).expect("links");
            ["g0", "g1"].map(|name| all.iter().find(|interface| interface.name == name).expect("made").index)
        });
        Some(Bench { stage, family, interfaces })
    }

    /// A listener on all addresses, TCP and UDP, with one endpoint.
    fn simple(family: Family) -> Option<Bench> {
        let services = [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| Service::new(protocol, family.everywhere(PORT), &[family.backend(BACKEND_PORT)]));
        Bench::new(family, |settings| settings, &services)
    }

    /// Where that is pinned.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.stage.pins().join(format!("layout-{LAYOUT}")).join(name)
    }

    fn client(&self) -> SocketAddr {
        self.family.client(40_000)
    }

    pub fn service(&self) -> SocketAddr {
        self.family.gateway(PORT)
    }

    /// From the client to the service.
    pub fn of_client(&self, flags: u8) -> Packet {
        Packet::tcp(self.client(), self.service(), flags).over(GATEWAY_CLIENT_LINK, CLIENT_LINK)
    }

    fn datagram(&self, payload: &[u8]) -> Packet {
        Packet::udp(self.client(), self.service(), payload).over(GATEWAY_CLIENT_LINK, CLIENT_LINK)
    }

    /// From the backend to the gateway's address in `sent`.
    pub fn of_backend(&self, sent: &Packet, body: Body) -> Packet {
        Packet::new(sent.to, sent.from, body).over(GATEWAY_BACKEND_LINK, BACKEND_LINK)
    }

    pub fn run(&self, bytes: &[u8]) -> (i32, Vec<u8>) {
        self.run_as(bytes, 0)
    }

    /// `segment` is of a packet that stands for several.
    fn run_as(&self, bytes: &[u8], segment: u32) -> (i32, Vec<u8>) {
        let interface = self.interfaces[usize::from(bytes[..6] != GATEWAY_CLIENT_LINK)];
        let pin = self.pin(PROGRAM);
        let bytes = bytes.to_vec();
        self.stage.gateway.run(move || {
            // struct __sk_buff: ifindex and gso_size.
            let mut context = [0; 192];
            context[40..44].copy_from_slice(&interface.to_ne_bytes());
            context[176..180].copy_from_slice(&segment.to_ne_bytes());
            let mut out = vec![0; bytes.len() + 256];
            let mut options = TestRunOptions::new();
            options.data_in = Some(&bytes);
            options.data_out = Some(&mut out);
            options.ctx_in = Some(&context);
            let program = SchedClassifier::from_pin(pin).expect("pinned");
            let result = program.test_run(options).expect("runs");
            out.truncate(result.data_size_out as usize);
            (result.return_value as i32, out)
        })
    }

    /// The packet as it is sent on.
    pub fn sent(&self, packet: &Packet) -> Packet {
        let (verdict, out) = self.run(&packet.bytes());
        assert_eq!(verdict, REDIRECT, "{packet:?}");
        Packet::read(&out).unwrap_or_else(|why| panic!("{why}: {out:x?}"))
    }

    /// It goes up unchanged.
    fn passes(&self, bytes: &[u8]) {
        let (verdict, out) = self.run(bytes);
        assert_eq!(verdict, PASS, "{bytes:x?}");
        assert_eq!(out, bytes);
    }

    /// The entries of both tables.
    pub fn connections(&self) -> Vec<(Tuple, Connection)> {
        let pins = ["gapi_connections", "gapi_brief"].map(|name| self.pin(name));
        self.stage.gateway.run(|| {
            let read = |pin| {
                let map = MapData::from_pin(pin).and_then(Map::from_map_data).expect("pinned");
                let map = HashMap::<_, Tuple, Connection>::try_from(map).expect("its types");
                map.iter().collect::<Result<Vec<_>, _>>().expect("readable")
            };
            pins.into_iter().flat_map(read).collect()
        })
    }

    /// An established connection: how its packets leave toward the backend.
    fn established(&self) -> Packet {
        let sent = self.sent(&self.of_client(SYN));
        self.sent(&self.of_backend(&sent, Body::Tcp { flags: SYN | ACK, payload: Vec::new() }));
        self.sent(&self.of_client(ACK));
        sent
    }
}

/// Runs a test with both families.
fn each(test: impl Fn(Bench)) {
    FAMILIES.into_iter().filter_map(Bench::simple).for_each(test);
}

#[test]
fn tcp_goes_both_ways() {
    each(|bench| {
        let (family, syn) = (bench.family, bench.of_client(SYN));
        let sent = bench.sent(&syn);
        assert_eq!((sent.link, sent.ttl), ([BACKEND_LINK, GATEWAY_BACKEND_LINK], 63));
        assert_eq!((sent.to, sent.from.ip()), (family.backend(BACKEND_PORT), family.source(0).ip()));
        assert!((61_000..=65_535).contains(&sent.from.port()), "{}", sent.from);
        assert_eq!(sent.body, syn.body);

        let answered = bench.sent(&bench.of_backend(&sent, Body::Tcp { flags: SYN | ACK, payload: Vec::new() }));
        assert_eq!((answered.from, answered.to), (bench.service(), bench.client()));
        assert_eq!((answered.link, answered.ttl), ([CLIENT_LINK, GATEWAY_CLIENT_LINK], 63));

        for (flags, of_client, expected) in [
            (ACK, true, flag::ANSWERED),
            (ACK | FIN, true, flag::ANSWERED | flag::FIN_OF_CLIENT),
            (ACK | FIN, false, flag::ANSWERED | flag::FIN_OF_CLIENT | flag::FIN_OF_BACKEND),
        ] {
            let body = Body::Tcp { flags, payload: b"odd".to_vec() };
            let packet = match of_client {
                true => Packet { body: body.clone(), ..bench.of_client(flags) },
                false => bench.of_backend(&sent, body.clone()),
            };
            let again = bench.sent(&packet);
            assert_eq!(again.body, body);
            let ends = if of_client { (sent.from, sent.to) } else { (bench.service(), bench.client()) };
            assert_eq!((again.from, again.to), ends);
            let connections = bench.connections();
            assert_eq!(connections.len(), 2);
            for (_, connection) in connections {
                // That there is one endpoint, and the direction, are flags too.
                assert_eq!(connection.flags & 0b11_1110, expected);
            }
        }
        // Both are done: a SYN is a new connection, over another port.
        let next = bench.sent(&syn);
        assert_ne!(next.from.port(), sent.from.port());
        assert_eq!(bench.connections().len(), 2);
    });
}

#[test]
fn udp_goes_both_ways_and_keeps_its_endpoint() {
    each(|bench| {
        let sent = bench.sent(&bench.datagram(b"question"));
        assert_eq!(sent.body, Body::Udp { payload: b"question".to_vec() });
        assert_eq!(sent.to, bench.family.backend(BACKEND_PORT));
        for payload in [&b""[..], b"x", b"answer"] {
            let answer = bench.sent(&bench.of_backend(&sent, Body::Udp { payload: payload.to_vec() }));
            assert_eq!((answer.from, answer.to), (bench.service(), bench.client()));
            assert_eq!(answer.body, Body::Udp { payload: payload.to_vec() });
        }
        let again = bench.sent(&bench.datagram(b"more"));
        assert_eq!((again.from, again.to), (sent.from, sent.to));
        assert_eq!(bench.connections().len(), 2);
    });
}

#[test]
fn a_datagram_without_a_checksum_stays_without() {
    let Some(bench) = Bench::simple(Family::V4) else { return };
    let mut bytes = bench.datagram(b"plain").bytes();
    bytes[40..42].copy_from_slice(&[0, 0]);
    let (verdict, out) = bench.run(&bytes);
    assert_eq!((verdict, &out[40..42]), (REDIRECT, &[0, 0][..]));
    Packet::read(&out).expect("in order");
}

#[test]
fn what_is_of_no_service_goes_up_untouched() {
    each(|bench| {
        let elsewhere = [
            Packet { to: bench.family.gateway(81), ..bench.of_client(SYN) },
            // All addresses of this machine, and no other's.
            Packet { to: bench.family.backend(PORT), ..bench.of_client(SYN) },
            // To another link address than ours.
            bench.of_client(SYN).over([2, 9, 9, 9, 9, 9], CLIENT_LINK),
            bench.of_client(SYN).over([0xff; 6], CLIENT_LINK),
            // From an address of this machine, and from nowhere.
            Packet { from: bench.family.source(40_000), ..bench.of_client(SYN) },
            Packet { from: bench.family.everywhere(40_000), ..bench.of_client(SYN) },
        ];
        for packet in &elsewhere {
            bench.passes(&packet.bytes());
        }
        let mut arp = bench.of_client(SYN).bytes();
        arp[12..14].copy_from_slice(&[8, 6]);
        bench.passes(&arp);
        assert_eq!(bench.connections(), []);
    });
}

#[test]
fn only_a_syn_alone_begins_a_connection() {
    each(|bench| {
        for flags in [0, ACK, RST, FIN, SYN | ACK, SYN | FIN, SYN | RST, FIN | RST | ACK, 0xff] {
            bench.passes(&bench.of_client(flags).bytes());
        }
        assert_eq!(bench.connections(), []);
        assert_eq!(bench.stage.reason("passed: no connection"), 9);
    });
}

#[test]
fn short_and_inconsistent_packets_go_up_untouched() {
    each(|bench| {
        let network = if bench.family == Family::V4 { 20 } else { 40 };
        let transport = 14 + network;
        for packet in [bench.of_client(SYN), bench.datagram(b"")] {
            let whole = packet.bytes();
            // With less of it the kernel does not run a test.
            for length in transport..whole.len() {
                bench.passes(&whole[..length]);
            }
        }
        let bad: [(usize, u8); 5] = [
            (14, 0x10),
            // The header of TCP: too short, longer than the packet.
            (transport + 12, 0x40),
            (transport + 12, 0xf0),
            // The length.
            (if bench.family == Family::V4 { 16 } else { 18 }, 0xff),
            (if bench.family == Family::V4 { 17 } else { 19 }, 1),
        ];
        for (at, value) in bad {
            let mut bytes = bench.of_client(SYN).bytes();
            bytes[at] = value;
            bench.passes(&bytes);
        }
        let mut datagram = bench.datagram(b"four").bytes();
        for length in [7, 13] {
            datagram[transport + 5] = length;
            bench.passes(&datagram);
        }
        assert_eq!(bench.connections(), []);
        assert!(bench.stage.reason("passed: malformed") > 10);
    });
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    each(|bench| {
        bench.established();
        let mut bytes = bench.of_client(ACK).bytes();
        *bytes.last_mut().expect("a payload") ^= 1;
        let (verdict, out) = bench.run(&bytes);
        assert_eq!(verdict, REDIRECT);
        assert!(Packet::read(&out).expect_err("it is broken").contains("checksum of protocol 6"));
        if bench.family == Family::V4 {
            let mut bytes = bench.of_client(ACK).bytes();
            bytes[24] ^= 0x40;
            let (_, out) = bench.run(&bytes);
            assert!(Packet::read(&out).expect_err("it is broken").contains("IPv4 header"));
        }
    });
}

#[test]
fn ip_options_are_kept() {
    let Some(bench) = Bench::simple(Family::V4) else { return };
    for words in [1, 5, 10] {
        let options = vec![1; words * 4];
        let from = bench.family.client(50_000 + words as u16);
        let sent = bench.sent(&Packet { options: options.clone(), from, ..bench.of_client(SYN) });
        assert_eq!((sent.options, sent.to), (options, bench.family.backend(BACKEND_PORT)));
    }
}

#[test]
fn extension_headers_go_up() {
    let Some(bench) = Bench::simple(Family::V6) else { return };
    let packet = bench.of_client(SYN).bytes();
    let mut bytes = packet[..54].to_vec();
    bytes[20] = 0;
    bytes[19] += 8;
    bytes.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    bytes.extend(&packet[54..]);
    bench.passes(&bytes);
}

/// A fragment of a datagram: from byte `at` of what follows the network header, `length` bytes.
fn fragment(whole: &[u8], at: usize, length: usize) -> Vec<u8> {
    let is_v4 = whole[12..14] == [8, 0];
    let header = if is_v4 { 34 } else { 54 };
    let is_last = header + at + length == whole.len();
    let mut bytes = whole[..header].to_vec();
    if is_v4 {
        bytes[16..18].copy_from_slice(&((20 + length) as u16).to_be_bytes());
        let offset = (at / 8) as u16 | if is_last { 0 } else { 0x2000 };
        bytes[20..22].copy_from_slice(&offset.to_be_bytes());
        bytes[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&[&bytes[14..34]]);
        bytes[24..26].copy_from_slice(&sum);
    } else {
        bytes[18..20].copy_from_slice(&((8 + length) as u16).to_be_bytes());
        let next = std::mem::replace(&mut bytes[20], 44);
        let offset = at as u16 | u16::from(!is_last);
        bytes.extend([next, 0]);
        bytes.extend(offset.to_be_bytes());
        bytes.extend([0, 0, 0, 77]);
    }
    bytes.extend(&whole[header + at..header + at + length]);
    bytes
}

/// The datagram that its fragments make.
fn reassembled(first: &[u8], second: &[u8]) -> Packet {
    let is_v4 = first[12..14] == [8, 0];
    let skip = if is_v4 { 0 } else { 8 };
    let header = if is_v4 { 34 } else { 54 };
    let mut whole = first[..header].to_vec();
    whole.extend(&first[header + skip..]);
    whole.extend(&second[header + skip..]);
    let length = whole.len() - header;
    if is_v4 {
        whole[16..18].copy_from_slice(&((20 + length) as u16).to_be_bytes());
        whole[20..22].copy_from_slice(&[0, 0]);
        whole[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&[&whole[14..34]]);
        whole[24..26].copy_from_slice(&sum);
    } else {
        whole[18..20].copy_from_slice(&(length as u16).to_be_bytes());
        whole[20] = first[54];
    }
    Packet::read(&whole).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn fragments_follow_their_first_both_ways() {
    each(|bench| {
        let payload: Vec<u8> = (0..100).collect();
        let whole = bench.datagram(&payload).bytes();
        let (first, second) = (fragment(&whole, 0, 48), fragment(&whole, 48, 60));
        // Before its first, nobody knows whose it is.
        bench.passes(&second);
        assert_eq!(bench.stage.reason("passed: fragment without its first"), 1);
        let (verdicts, sent): (Vec<i32>, Vec<Vec<u8>>) = [first, second].iter().map(|bytes| bench.run(bytes)).unzip();
        assert_eq!(verdicts, [REDIRECT, REDIRECT]);
        let sent = reassembled(&sent[0], &sent[1]);
        assert_eq!(
            (sent.to, &sent.body),
            (bench.family.backend(BACKEND_PORT), &Body::Udp { payload: payload.clone() })
        );

        let whole = bench.of_backend(&sent, Body::Udp { payload: payload.clone() }).bytes();
        let back: Vec<Vec<u8>> =
            [fragment(&whole, 0, 48), fragment(&whole, 48, 60)].iter().map(|bytes| bench.run(bytes).1).collect();
        let back = reassembled(&back[0], &back[1]);
        assert_eq!((back.from, back.to, back.body), (bench.service(), bench.client(), Body::Udp { payload }));
    });
}

#[test]
fn vlan_tags_are_for_their_own_interface() {
    each(|bench| {
        let plain = bench.of_client(SYN).bytes();
        for tags in [&[0x81, 0, 0, 7][..], &[0x88, 0xa8, 0, 3, 0x81, 0, 0, 7]] {
            let mut bytes = plain[..12].to_vec();
            bytes.extend(tags);
            bytes.extend(&plain[12..]);
            bench.passes(&bytes);
        }
    });
}

#[test]
fn the_last_hop_is_told() {
    each(|bench| {
        // User space is the other end then: no hop is lost.
        bench.passes(&Packet { ttl: 1, ..bench.of_client(SYN) }.bytes());
        let sent = bench.established();
        let expiring = Packet { ttl: 1, ..bench.of_client(ACK) };
        let told = bench.sent(&expiring);
        assert_eq!((told.from.ip(), told.to.ip()), (bench.service().ip(), bench.client().ip()));
        assert_eq!(told.link, [CLIENT_LINK, GATEWAY_CLIENT_LINK]);
        let Body::Icmp { kind, code, quote, .. } = told.body else { panic!("{told:?}") };
        assert_eq!((kind, code), if bench.family == Family::V4 { (11, 0) } else { (3, 0) });
        assert!(quote.len() >= 28 && expiring.network().starts_with(&quote));

        let back = Packet { ttl: 1, ..bench.of_backend(&sent, Body::Tcp { flags: ACK, payload: Vec::new() }) };
        let told = bench.sent(&back);
        assert_eq!((told.to.ip(), told.link[0]), (bench.family.backend(0).ip(), BACKEND_LINK));
        assert_eq!(bench.stage.reason("answered: time exceeded"), 2);
    });
}

#[test]
fn what_is_too_big_for_the_way_is_told() {
    each(|bench| {
        let sent = bench.established();
        bench.stage.gateway.ip("link set g1 mtu 1280");
        let big = |length| Body::Tcp { flags: ACK, payload: vec![7; length] };
        let packet = Packet { body: big(1300), ..bench.of_client(ACK) };
        let told = bench.sent(&packet);
        assert_eq!((told.from.ip(), told.to.ip()), (bench.service().ip(), bench.client().ip()));
        let Body::Icmp { kind, code, own, quote } = told.body else { panic!("{told:?}") };
        assert_eq!((kind, code), if bench.family == Family::V4 { (3, 4) } else { (2, 0) });
        assert_eq!(u32::from_be_bytes(own), 1280);
        assert!(packet.network().starts_with(&quote) && quote.len() >= 48);
        // What fits passes: the packet that stands for segments by what each of them has.
        let header = if bench.family == Family::V4 { 40 } else { 60 };
        bench.sent(&Packet { body: big(1280 - header), ..bench.of_client(ACK) });
        let (verdict, _) = bench.run_as(&packet.bytes(), 1280 - header as u32);
        assert_eq!(verdict, REDIRECT);
        let (_, out) = bench.run_as(&packet.bytes(), 1281 - header as u32);
        assert!(matches!(Packet::read(&out).expect("in order").body, Body::Icmp { .. }));
        // The other way has room.
        bench.sent(&bench.of_backend(&sent, big(1300)));
    });
}

/// An ICMP error of `sender` about a packet, with what `own` says.
fn error(sender: SocketAddr, about: &Packet, kind: u8, code: u8, own: [u8; 4]) -> Packet {
    let quote = about.network();
    Packet::new(sender, about.from, Body::Icmp { kind, code, own, quote })
}

#[test]
fn icmp_errors_are_translated_both_ways() {
    each(|bench| {
        let (family, sent) = (bench.family, bench.established());
        let kinds: &[(u8, u8)] =
            if family == Family::V4 { &[(3, 1), (3, 4), (11, 0), (12, 0)] } else { &[(1, 0), (2, 0), (3, 0), (4, 1)] };
        let own = [0, 0, 5, 0];
        let of_client = Packet { ttl: 60, ..bench.of_client(ACK) };
        let to_backend = bench.sent(&of_client);
        assert_eq!(to_backend.from, sent.from);
        let of_backend = bench.of_backend(&sent, Body::Tcp { flags: ACK, payload: b"data".to_vec() });
        let to_client = bench.sent(&of_backend);
        // The backend itself, and a router on the way.
        for sender in [family.backend(0), family.other_backend(0)] {
            for &(kind, code) in kinds {
                let packet = error(sender, &to_backend, kind, code, own).over(GATEWAY_BACKEND_LINK, BACKEND_LINK);
                let told = bench.sent(&packet);
                assert_eq!((told.from.ip(), told.to.ip()), (bench.service().ip(), bench.client().ip()));
                assert_eq!(told.link[0], CLIENT_LINK);
                let Body::Icmp { kind: k, code: c, own: o, quote } = told.body else { panic!("{told:?}") };
                assert_eq!((k, c, o), (kind, code, own));
                assert_quotes(&quote, &of_client);
            }
        }
        for &(kind, code) in kinds {
            let packet = error(bench.client(), &to_client, kind, code, own).over(GATEWAY_CLIENT_LINK, CLIENT_LINK);
            let told = bench.sent(&packet);
            assert_eq!((told.from.ip(), told.to.ip()), (sent.from.ip(), family.backend(0).ip()));
            let Body::Icmp { quote, .. } = told.body else { panic!("{told:?}") };
            assert_quotes(&quote, &of_backend);
        }
    });
}

/// The network header in order, with the addresses and ports of `packet`.
fn assert_quotes(quote: &[u8], packet: &Packet) {
    let length = if packet.from.is_ipv4() { 20 } else { 40 };
    if packet.from.is_ipv4() {
        assert_eq!(checksum(&[&quote[..20]]), [0, 0], "the quoted header's checksum");
    }
    let network = packet.network();
    let addresses = if packet.from.is_ipv4() { 12..20 } else { 8..40 };
    assert_eq!(quote[addresses.clone()], network[addresses]);
    assert_eq!(quote[length..length + 4], network[length..length + 4]);
}

#[test]
fn spoofed_icmp_goes_up() {
    each(|bench| {
        let sent = bench.established();
        let unreachable = if bench.family == Family::V4 { (3, 1) } else { (1, 0) };
        let about = |packet: &Packet| {
            error(bench.family.backend(0), packet, unreachable.0, unreachable.1, [0; 4])
                .over(GATEWAY_BACKEND_LINK, BACKEND_LINK)
        };
        let unknown = Packet { from: SocketAddr::new(sent.from.ip(), 1), ..sent.clone() };
        let of_tcp = about(&sent);
        let not_to_its_sender = Packet { to: bench.service(), ..of_tcp.clone() };
        let echo = if bench.family == Family::V4 { 8 } else { 128 };
        let ping = error(bench.family.backend(0), &sent, echo, 0, [0; 4]).over(GATEWAY_BACKEND_LINK, BACKEND_LINK);
        for packet in [about(&unknown), not_to_its_sender, ping] {
            bench.passes(&packet.bytes());
        }
        let whole = of_tcp.bytes();
        let header = if bench.family == Family::V4 { 20 } else { 40 };
        // Without the ports, and the network header alone.
        for quoted in [header + 3, header, 7, 0] {
            let length = 14 + header + 8 + quoted;
            let mut bytes = whole[..length].to_vec();
            let total = (8 + quoted + if header == 20 { 20 } else { 0 }) as u16;
            let at = if header == 20 { 16 } else { 18 };
            bytes[at..at + 2].copy_from_slice(&total.to_be_bytes());
            bench.passes(&bytes);
        }
        // It had no effect.
        bench.sent(&bench.of_client(ACK));
    });
}

/// Two endpoints, so that there is another.
fn two(family: Family, protocol: Protocol) -> Option<Bench> {
    let endpoints = [family.backend(BACKEND_PORT), family.other_backend(BACKEND_PORT)];
    let service = Service::new(protocol, family.everywhere(PORT), &endpoints);
    Bench::new(family, |settings| settings, &[service])
}

#[test]
fn a_refused_connection_is_tried_again_by_user_space() {
    for family in FAMILIES {
        let Some(bench) = two(family, Protocol::Tcp) else { return };
        let sent = bench.sent(&bench.of_client(SYN));
        let refusal = bench.of_backend(&sent, Body::Tcp { flags: RST | ACK, payload: Vec::new() });
        assert_eq!(bench.run(&refusal.bytes()).0, DROP);
        bench.passes(&bench.of_client(SYN).bytes());
        assert_eq!(bench.connections(), []);
        assert_eq!(bench.stage.reason("passed: tried again"), 1);

        // Likewise when a router says that it cannot be reached.
        let sent = bench.sent(&bench.of_client(SYN));
        let (kind, code) = if family == Family::V4 { (3, 1) } else { (1, 3) };
        let told = error(family.backend(0), &sent, kind, code, [0; 4]).over(GATEWAY_BACKEND_LINK, BACKEND_LINK);
        assert_eq!(bench.run(&told.bytes()).0, DROP);
        bench.passes(&bench.of_client(SYN).bytes());
    }
}

#[test]
fn the_refusal_of_the_only_endpoint_is_told_at_once() {
    each(|bench| {
        let sent = bench.sent(&bench.of_client(SYN));
        let refused = bench.sent(&bench.of_backend(&sent, Body::Tcp { flags: RST | ACK, payload: Vec::new() }));
        assert_eq!((refused.to, refused.from), (bench.client(), bench.service()));
    });
}

#[test]
fn a_session_whose_endpoint_is_not_there_goes_elsewhere() {
    for family in FAMILIES {
        let Some(bench) = two(family, Protocol::Udp) else { return };
        let first = bench.sent(&bench.datagram(b"one"));
        let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
        let told = error(first.to, &first, kind, code, [0; 4]).over(GATEWAY_BACKEND_LINK, BACKEND_LINK);
        assert_eq!(bench.sent(&told).to.ip(), bench.client().ip());
        // Each try is another place in the table: soon one is of the other endpoint.
        let elsewhere = (0..32).any(|_| {
            let next = bench.sent(&bench.datagram(b"again"));
            if next.to != first.to {
                return true;
            }
            let told = error(next.to, &next, kind, code, [0; 4]).over(GATEWAY_BACKEND_LINK, BACKEND_LINK);
            bench.sent(&told);
            false
        });
        assert!(elsewhere, "it stays with {}", first.to);
    }
}

#[test]
fn a_mixed_service_keeps_its_weights() {
    for family in FAMILIES {
        let local = SocketAddr::new(
            if family == Family::V4 { [127, 0, 0, 1].into() } else { "::1".parse().expect("an address") },
            9,
        );
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let backends = vec![(family.backend(BACKEND_PORT), 3), (local, 1)];
            let service = Service { protocol, socket: family.everywhere(PORT), backends };
            let Some(bench) = Bench::new(family, |settings| settings, &[service]) else { return };
            let all = 400;
            let in_kernel = (0..all)
                .filter(|index| {
                    let from = family.client(20_000 + index);
                    let packet = match protocol {
                        Protocol::Tcp => Packet { from, ..bench.of_client(SYN) },
                        Protocol::Udp => Packet { from, ..bench.datagram(b"x") },
                    };
                    let (verdict, _) = bench.run(&packet.bytes());
                    // What is chosen once stays.
                    assert_eq!(bench.run(&packet.bytes()).0, verdict);
                    verdict == REDIRECT
                })
                .count();
            assert!((260..340).contains(&in_kernel), "{in_kernel} of {all} for 3 of 4");
            if protocol == Protocol::Udp {
                // Sessions of user space stay there when all endpoints are the kernel's.
                let user: Vec<SocketAddr> = bench
                    .connections()
                    .iter()
                    .filter(|(_, connection)| connection.is(flag::IN_USER_SPACE))
                    .map(|(tuple, _)| {
                        SocketAddr::new(gapi::kernel::maps::ip(tuple.from), u16::from_be_bytes(tuple.from_port))
                    })
                    .collect();
                assert_eq!(user.len(), usize::from(all) - in_kernel);
                bench.stage.publish(&[Service::new(
                    protocol,
                    family.everywhere(PORT),
                    &[family.backend(BACKEND_PORT)],
                )]);
                for from in user {
                    bench.passes(&Packet { from, ..bench.datagram(b"x") }.bytes());
                }
            }
        }
    }
}

#[test]
fn the_address_of_the_listener_counts() {
    for family in FAMILIES {
        let services = [
            Service::new(Protocol::Tcp, family.gateway(PORT), &[family.backend(1)]),
            Service::new(Protocol::Tcp, family.everywhere(PORT), &[family.backend(2)]),
        ];
        let Some(bench) = Bench::new(family, |settings| settings, &services) else { return };
        assert_eq!(bench.sent(&bench.of_client(SYN)).to, family.backend(1));
        let other = Packet { to: family.source(PORT), ..bench.of_client(SYN) };
        assert_eq!(bench.sent(&other).to, family.backend(2));
    }
}

#[test]
fn a_client_is_kept_where_that_is_wanted() {
    each(|bench| {
        let service = Service::new(Protocol::Tcp, bench.family.everywhere(PORT), &[bench.family.backend(BACKEND_PORT)]);
        bench.stage.publish_keeping(&[service], true);
        let sent = bench.sent(&bench.of_client(SYN));
        assert_eq!((sent.from, sent.to), (bench.client(), bench.family.backend(BACKEND_PORT)));
        let answered = bench.sent(&bench.of_backend(&sent, Body::Tcp { flags: SYN | ACK, payload: Vec::new() }));
        assert_eq!((answered.from, answered.to), (bench.service(), bench.client()));
        // The same client at another of our addresses would look the same to the backend.
        bench.passes(&Packet { to: bench.family.source(PORT), ..bench.of_client(SYN) }.bytes());
        assert_eq!(bench.stage.reason("passed: no source port free"), 1);
    });
}

#[test]
fn without_a_free_port_user_space_has_it() {
    for family in FAMILIES {
        let service = Service::new(Protocol::Tcp, family.everywhere(PORT), &[family.backend(BACKEND_PORT)]);
        let few = |settings| Settings { ports: 61_000..=61_003, ..settings };
        let Some(bench) = Bench::new(family, few, &[service]) else { return };
        let mut used: Vec<u16> = Vec::new();
        for index in 0..40 {
            let packet = Packet { from: family.client(30_000 + index), ..bench.of_client(SYN) };
            let (verdict, out) = bench.run(&packet.bytes());
            if verdict == REDIRECT {
                used.push(Packet::read(&out).expect("in order").from.port());
            }
        }
        used.sort_unstable();
        assert_eq!(used, [61_000, 61_001, 61_002, 61_003]);
        assert_eq!(bench.stage.reason("passed: no source port free"), 36);
    }
}

#[test]
fn silence_ends_sessions_and_frees_ports() {
    for family in FAMILIES {
        let service = Service::new(Protocol::Udp, family.everywhere(PORT), &[family.backend(BACKEND_PORT)]);
        let short =
            |settings| Settings { ports: 61_000..=61_000, udp_idle: std::time::Duration::from_millis(200), ..settings };
        let Some(bench) = Bench::new(family, short, &[service]) else { return };
        let sent = bench.sent(&bench.datagram(b"one"));
        let other = Packet { from: family.client(40_001), ..bench.datagram(b"two") };
        let begun = std::time::Instant::now();
        while bench.run(&other.bytes()).0 == PASS {
            assert!(begun.elapsed().as_secs() < 20, "the port stays taken");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(begun.elapsed().as_millis() >= 150);
        // What the backend says to the first finds the second's: the port is its now.
        let answer = bench.sent(&bench.of_backend(&sent, Body::Udp { payload: b"late".to_vec() }));
        assert_eq!(answer.to, family.client(40_001));
        std::thread::sleep(std::time::Duration::from_millis(250));
        let swept = bench.stage.with(|path| path.sweep(std::time::Duration::ZERO)).expect("swept");
        // It has been answered: the longer time holds.
        assert_eq!((swept, bench.connections().len()), (0, 2));
    }
}

#[test]
fn what_was_evicted_is_made_again() {
    each(|bench| {
        let service = Service::new(Protocol::Tcp, bench.family.everywhere(PORT), &[bench.family.backend(BACKEND_PORT)]);
        bench.stage.publish(&[service]);
        let sent = bench.established();
        // It has seen an ACK of the client.
        let pin = bench.pin("gapi_connections");
        let remove = |tuple: Tuple| {
            let pin = pin.clone();
            bench.stage.gateway.run(move || {
                let map = MapData::from_pin(pin).and_then(Map::from_map_data).expect("pinned");
                HashMap::<_, Tuple, Connection>::try_from(map).expect("its types").remove(&tuple).expect("it is there");
            });
        };
        let forward = Tuple::new(bench.client(), bench.service(), Protocol::Tcp);
        let reverse = Tuple::new(sent.to, sent.from, Protocol::Tcp);
        let of_backend = bench.of_backend(&sent, Body::Tcp { flags: ACK, payload: Vec::new() });
        // At the latest after the time that an entry may be behind.
        for (gone, packet) in [(reverse, bench.of_client(ACK)), (forward, of_backend)] {
            remove(gone);
            let begun = std::time::Instant::now();
            while bench.connections().len() < 2 {
                assert!(begun.elapsed().as_secs() < 20, "it is not made again");
                bench.sent(&packet);
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        assert_eq!(bench.sent(&bench.of_client(ACK)).from, sent.from);
    });
}
