//! The programs on crafted frames, by the kernel's test run. Needs the privilege to load them; says so without.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use aya::programs::{TestRunOptions, TestRunResult};

use super::*;

const LISTENER: &str = "192.0.2.1:80";
const FOE: [u8; 4] = [198, 51, 100, 7];
const FRIEND: [u8; 4] = [203, 0, 113, 1];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A deny list in the kernel with listeners on 192.0.2.1:80/tcp, 0.0.0.0:53/udp, [2001:db8::1]:80/tcp and [::]:53/udp.
fn deny(prefixes: &[&str]) -> Option<Deny> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut deny = match Deny::load(directory.path()) {
        Ok(deny) => deny,
        Err(error) if rustix::process::geteuid().is_root() => panic!("root may load them: {error:?}"),
        Err(error) => {
            eprintln!("skipped: no privilege to load programs ({error})");
            return None;
        }
    };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let listeners = [
        Listener::tcp(address(LISTENER)),
        Listener::udp(address("0.0.0.0:53")),
        Listener::tcp(address("[2001:db8::1]:80")),
        Listener::udp(address("[::]:53")),
    ];
    deny.listen(listeners.into()).expect("there is room");
    deny.replace(list(prefixes)).expect("there is room");
    Some(deny)
}

fn list(prefixes: &[&str]) -> Arc<DenyList> {
    Arc::new(DenyList::new(prefixes.iter().map(|prefix| prefix.parse().expect("a prefix"))))
}

/// Are frames dropped? Both programs must agree.
fn drops(deny: &Deny, frame: &[u8]) -> bool {
    let by_tc = run(deny, Hook::Tc, frame, 1).return_value;
    let by_xdp = run(deny, Hook::Xdp, frame, 1).return_value;
    match (by_tc.cast_signed(), by_xdp) {
        (2, 1) => true,
        (-1, 2) => false,
        other => panic!("tc and XDP said {other:?} of {frame:02x?}"),
    }
}

fn run(deny: &Deny, hook: Hook, frame: &[u8], repeat: u32) -> TestRunResult {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
    deny.hooks.test_run(hook, options).expect("a frame that the test run takes")
}

/// An Ethernet frame to the interface itself.
fn ethernet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &protocol.to_be_bytes(), payload].concat()
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    segment
}

struct V4 {
    source: [u8; 4],
    to: [u8; 4],
    protocol: u8,
    port: u16,
    options: usize,
    fragment: u16,
}

impl V4 {
    fn syn(source: [u8; 4]) -> V4 {
        V4 { source, to: [192, 0, 2, 1], protocol: TCP, port: 80, options: 0, fragment: 0 }
    }

    fn packet(&self) -> Vec<u8> {
        let words = 5 + self.options;
        let mut packet = vec![0; words * 4];
        packet[0] = 0x40 | u8::try_from(words).expect("at most 15");
        packet[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        packet[8..10].copy_from_slice(&[64, self.protocol]);
        packet[12..16].copy_from_slice(&self.source);
        packet[16..20].copy_from_slice(&self.to);
        packet.extend(ports(40000, self.port));
        packet
    }

    fn frame(&self) -> Vec<u8> {
        ethernet(0x0800, &self.packet())
    }
}

fn v6(source: &str, to: &str, first: u8, rest: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
    let mut packet = vec![0x60, 0, 0, 0, 0, u8::try_from(rest.len()).expect("short"), first, 64];
    packet.extend(address(source));
    packet.extend(address(to));
    packet.extend(rest);
    ethernet(0x86dd, &packet)
}

#[test]
fn packets_of_denied_prefixes_to_listeners_are_dropped() {
    let Some(deny) = deny(&["198.51.100.0/24"]) else { return };
    assert!(drops(&deny, &V4::syn(FOE).frame()));
    assert!(!drops(&deny, &V4::syn(FRIEND).frame()));
    assert!(!drops(&deny, &V4 { port: 22, ..V4::syn(FOE) }.frame()), "another's port");
    assert!(!drops(&deny, &V4 { to: [192, 0, 2, 9], ..V4::syn(FOE) }.frame()), "another's address");
    assert!(!drops(&deny, &V4 { protocol: UDP, ..V4::syn(FOE) }.frame()), "another protocol");
    assert!(!drops(&deny, &V4 { protocol: 1, ..V4::syn(FOE) }.frame()), "ICMP");
    let everywhere = V4 { to: [10, 1, 2, 3], protocol: UDP, port: 53, ..V4::syn(FOE) };
    assert!(drops(&deny, &everywhere.frame()), "a listener on every address");
    assert_eq!(deny.dropped(), 4);
}

#[test]
fn odd_packets_of_ipv4() {
    let Some(deny) = deny(&["198.51.100.7/32"]) else { return };
    for options in 0..=10 {
        assert!(drops(&deny, &V4 { options, ..V4::syn(FOE) }.frame()), "{options} words of options");
    }
    assert!(drops(&deny, &V4 { fragment: 0x2000, ..V4::syn(FOE) }.frame()), "a first fragment");
    assert!(!drops(&deny, &V4 { fragment: 0x2001, ..V4::syn(FOE) }.frame()), "what follows has no ports");
    let tagged =
        |tag: u16, inner: u16, packet: &[u8]| ethernet(tag, &[&[0, 7], &inner.to_be_bytes()[..], packet].concat());
    let packet = V4::syn(FOE).packet();
    assert!(drops(&deny, &tagged(0x8100, 0x0800, &packet)), "a VLAN");
    let inner = [&[0, 9, 8, 0][..], &packet].concat();
    assert!(drops(&deny, &tagged(0x88a8, 0x8100, &inner)), "a VLAN in a VLAN");
    assert!(!drops(&deny, &ethernet(0x0806, &packet)), "ARP");
    let whole = V4::syn(FOE).frame();
    // The test run wants a header of IP where the frame says so.
    for length in 34..whole.len() {
        assert_eq!(drops(&deny, &whole[..length]), length >= 38, "cut after {length} bytes");
    }
    let mut wrong = whole.clone();
    for first in [0x44, 0x40, 0x65, 0x00, 0xff] {
        wrong[14] = first;
        assert!(!drops(&deny, &wrong), "version and length {first:#x}");
    }
}

#[test]
fn extension_headers_of_ipv6() {
    let Some(deny) = deny(&["2001:db8:bad::/48"]) else { return };
    let (foe, gateway) = ("2001:db8:bad::7", "2001:db8::1");
    let to = |port: u16, headers: &[(u8, &[u8])], protocol: u8| {
        let first = headers.first().map_or(protocol, |(kind, _)| *kind);
        let mut rest = Vec::new();
        for (index, (_, body)) in headers.iter().enumerate() {
            let mut body = body.to_vec();
            body[0] = headers.get(index + 1).map_or(protocol, |(kind, _)| *kind);
            rest.extend(body);
        }
        rest.extend(ports(40000, port));
        v6(foe, gateway, first, &rest)
    };
    let (eight, sixteen, ah): (&[u8], &[u8], &[u8]) =
        (&[0; 8], &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (first_fragment, later_fragment): (&[u8], &[u8]) = (&[0, 0, 0, 1, 0, 0, 0, 0], &[0, 0, 0, 9, 0, 0, 0, 0]);
    assert!(drops(&deny, &to(80, &[], TCP)));
    assert!(drops(&deny, &to(53, &[], UDP)), "a listener on every address");
    assert!(!drops(&deny, &to(22, &[], TCP)));
    assert!(drops(&deny, &to(80, &[(0, eight), (60, sixteen), (43, eight), (60, eight)], TCP)));
    assert!(drops(&deny, &to(80, &[(51, ah)], TCP)));
    assert!(drops(&deny, &to(80, &[(44, first_fragment)], TCP)));
    assert!(!drops(&deny, &to(80, &[(44, later_fragment)], TCP)));
    assert!(!drops(&deny, &to(80, &[(60, eight); 9], TCP)), "more than anybody sends");
    assert!(!drops(&deny, &to(80, &[], 59)), "nothing follows");
    assert!(!drops(&deny, &v6("2001:db8:900d::7", gateway, TCP, &ports(40000, 80))));
    assert!(!drops(&deny, &v6("::1", gateway, TCP, &ports(40000, 80))));
    let whole = to(80, &[(0, eight)], TCP);
    for length in 54..whole.len() {
        assert_eq!(drops(&deny, &whole[..length]), length >= 66, "cut after {length} bytes");
    }
}

#[test]
fn loopback_is_never_dropped() {
    let Some(deny) = deny(&["0.0.0.0/0", "::/0"]) else { return };
    assert!(drops(&deny, &V4::syn(FRIEND).frame()));
    assert!(!drops(&deny, &V4::syn([127, 0, 0, 1]).frame()));
    assert!(!drops(&deny, &V4::syn([127, 255, 0, 9]).frame()));
    assert!(drops(&deny, &v6("::2", "2001:db8::1", TCP, &ports(1, 80))));
    assert!(!drops(&deny, &v6("::1", "2001:db8::1", TCP, &ports(1, 80))));
}

#[test]
fn lists_and_listeners_are_replaced() {
    let Some(mut deny) = deny(&["198.51.100.0/24"]) else { return };
    // Much, and then little.
    let many: Vec<String> = (0..12_000).map(|i| format!("10.{}.{}.0/25", i / 250, i % 250)).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    let of = |source| V4::syn(source).frame();
    deny.replace(list(&many)).expect("there is room");
    assert!(drops(&deny, &of([10, 0, 7, 1])) && !drops(&deny, &of(FOE)));
    many[7] = "198.51.100.7/32";
    many[8] = "10.0.8.64/26";
    deny.replace(list(&many)).expect("there is room");
    assert!(drops(&deny, &of(FOE)) && !drops(&deny, &of([10, 0, 7, 1])));
    assert!(
        drops(&deny, &of([10, 0, 8, 100])) && !drops(&deny, &of([10, 0, 8, 1])) && drops(&deny, &of([10, 0, 9, 1]))
    );
    deny.replace(Arc::default()).expect("there is room");
    assert!(!drops(&deny, &of(FOE)) && !drops(&deny, &of([10, 0, 9, 1])));
    deny.replace(list(&["198.51.100.7/32"])).expect("there is room");
    assert!(drops(&deny, &of(FOE)));
    deny.listen(BTreeSet::from([Listener::tcp("192.0.2.1:81".parse().expect("an address"))])).expect("there is room");
    assert!(!drops(&deny, &of(FOE)));
    assert!(drops(&deny, &V4 { port: 81, ..V4::syn(FOE) }.frame()));
}

/// 100,000 prefixes: how long the kernel takes, and what a packet costs; `--nocapture` shows it.
#[test]
fn a_long_list() {
    let Some(mut deny) = deny(&[]) else { return };
    let nets = (0..100_000_u32).map(|i| Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + i * 2), 32).expect("at most 32"));
    let nets: Vec<Ipv4Net> = nets.collect();
    let list = |nets: &[Ipv4Net]| Arc::new(DenyList::new(nets.iter().copied().map(Into::into)));
    let took = |deny: &mut Deny, nets: &[Ipv4Net]| {
        let (list, start) = (list(nets), Instant::now());
        deny.replace(list).expect("there is room");
        start.elapsed()
    };
    let whole = took(&mut deny, &nets);
    let less = took(&mut deny, &nets[1..]);
    let more = took(&mut deny, &nets);
    eprintln!("100,000 prefixes: replaced in {whole:?}, one less in {less:?}, one more in {more:?}");
    for (what, source) in [("served", FRIEND), ("denied", [10, 0, 0, 8])] {
        for hook in [Hook::Tc, Hook::Xdp] {
            let result = run(&deny, hook, &V4::syn(source).frame(), 100_000);
            eprintln!("a {what} packet costs {:?} at {hook}", result.duration);
        }
    }
    assert!(drops(&deny, &V4::syn([10, 0, 0, 8]).frame()) && !drops(&deny, &V4::syn([10, 0, 0, 9]).frame()));
}

#[test]
fn only_what_changed_is_written() {
    let keys = |nets: &[&str]| list(nets).prefixes_v4().map(key_v4).collect::<Vec<_>>();
    let changes = |before: &[&str], after: &[&str]| {
        Changes::new(keys(before).into_iter(), keys(after).into_iter())
            .map(|(key, is_new)| (Ipv4Addr::from(key.data()).to_string(), key.prefix_len(), is_new))
            .collect::<Vec<_>>()
    };
    assert_eq!(changes(&["10.0.0.0/8", "11.0.0.0/9"], &["10.0.0.0/8", "11.0.0.0/9"]), []);
    let expected =
        [("10.0.0.0".to_owned(), 8, false), ("10.0.0.0".to_owned(), 9, true), ("12.0.0.0".to_owned(), 8, true)];
    assert_eq!(changes(&["10.0.0.0/8"], &["10.0.0.0/9", "12.0.0.0/8"]), expected);
}
