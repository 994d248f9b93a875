//! BIND behind a UDPRoute and a TCPRoute with the same port, asked by dig.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    process::{Server, begin, program, route, run, scratch, service, to, unprivileged, write},
    support::{Directory, Gapi, free_port, gapi::Start, loopback, manifest},
};

/// Hosts with an address each.
pub const HOSTS: usize = 1000;
/// Bytes in the strings of the names `big` and `huge`: more than 512, and more than the 4096 of EDNS.
pub const BIG: usize = 12 * 200;
const HUGE: usize = 120 * 200;

struct Name {
    // Ends before its directory.
    server: Server,
    directory: Directory,
    gapi: Gapi,
    port: u16,
}

impl Name {
    fn start() -> Name {
        let directory = scratch();
        let own = free_port();
        let server = named(directory.path(), loopback(own));
        let port = free_port();
        let mut documents = vec![
            manifest::gateway(
                "gate",
                &[
                    json!({"name": "dns-tcp", "protocol": "TCP", "port": port}),
                    json!({"name": "dns-udp", "protocol": "UDP", "port": port}),
                ],
            ),
            route("TCPRoute", "dns", "dns-tcp", &json!({"rules": to("dns")})),
            route("UDPRoute", "dns", "dns-udp", &json!({"rules": to("dns")})),
        ];
        documents.extend(service("dns", &[("tcp", "TCP", None, loopback(own)), ("udp", "UDP", None, loopback(own))]));
        let gapi = Start::new().file("dns.yaml", manifest::file(&documents)).serve();
        Name { server, directory, gapi, port }
    }

    fn dig(&self) -> Command {
        let mut dig = Command::new(program("dig"));
        // Without a person's ~/.digrc; one try: an answer that got lost is a failure.
        dig.args(["-r", "@127.0.0.1", "-p", &self.port.to_string(), "+tries=1", "+timeout=20"]);
        dig
    }

    fn ask(&self, words: &str) -> String {
        let mut dig = self.dig();
        dig.args(words.split(' '));
        run(dig, Vec::new()).text()
    }
}

/// BIND with the zone at an address of this thread's network.
pub fn named(path: &Path, on: SocketAddr) -> Server {
    write(path, "zone", zone());
    let listen = match on.ip() {
        IpAddr::V4(ip) => format!("listen-on port {} {{ {ip}; }}; listen-on-v6 {{ none; }};", on.port()),
        IpAddr::V6(ip) => format!("listen-on {{ none; }}; listen-on-v6 port {} {{ {ip}; }};", on.port()),
    };
    let config = format!(
        "options {{
            directory \"{0}\"; pid-file \"{0}/pid\"; session-keyfile \"{0}/session.key\";
            {listen}
            recursion no; dnssec-validation no; notify no; querylog yes;
            max-udp-size 4096; edns-udp-size 4096; allow-transfer {{ any; }};
        }};
        controls {{ }};
        logging {{ channel out {{ stderr; severity info; print-category yes; }};
            category default {{ out; }}; category queries {{ out; }}; }};
        zone \"example.test\" {{ type primary; file \"{0}/zone\"; }};",
        path.display()
    );
    let config = write(path, "named.conf", config);
    let mut named = unprivileged(&copy(path), "KILL");
    named.args(["-g", "-n", "2", "-c"]).arg(config).current_dir(path);
    Server::start(named, path.join("log"), Signal::KILL).wait_until(|server| server.log().contains(" running\n"))
}

/// AppArmor lets Debian's `named` read nothing but its own directories: that goes by the program's path.
fn copy(directory: &Path) -> PathBuf {
    let copy = directory.join("named");
    fs::copy(program("named"), &copy).expect("programs can be read");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("the copy is our own");
    copy
}

fn zone() -> String {
    let strings = |bytes: usize| (0..bytes / 200).map(|n| format!("\"{n:0200}\"")).collect::<Vec<_>>().join(" ");
    let hosts: String = (0..HOSTS).map(|n| format!("host-{n} A {}\n", address(n))).collect();
    format!(
        "$TTL 60\n@ SOA ns.example.test. root.example.test. 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.1\n\
        big TXT ( {} )\nhuge TXT ( {} )\n{hosts}",
        strings(BIG),
        strings(HUGE)
    )
}

fn address(host: usize) -> String {
    format!("10.0.{}.{}", host / 250, host % 250)
}

/// Bytes in the strings of an answer in dig's short form.
pub fn string_bytes(text: &str) -> usize {
    text.split('"').skip(1).step_by(2).map(str::len).sum()
}

#[test]
fn answers_by_udp_and_by_tcp() {
    let name = Name::start();
    assert_eq!(name.ask("www.example.test A +short +notcp"), "192.0.2.1\n");
    let by_tcp = name.ask("www.example.test A +tcp");
    assert!(by_tcp.contains("192.0.2.1") && by_tcp.contains("(TCP)"), "{by_tcp}");
    assert!(name.ask("nothing.example.test A").contains("status: NXDOMAIN"));
    assert!(name.ask("example.org A").contains("status: REFUSED"));
}

#[test]
fn what_is_too_long_for_udp_comes_by_tcp() {
    let name = Name::start();
    // As RFC 1035 has it: 512 bytes.
    let cut = name.ask("big.example.test TXT +noedns +ignore +notcp");
    assert!(cut.contains("flags: qr aa tc ") && cut.contains("ANSWER: 0"), "{cut}");
    let whole = name.ask("big.example.test TXT +noedns");
    assert!(whole.contains("Truncated, retrying in TCP mode") && whole.contains("(TCP)"), "{whole}");
    assert_eq!(string_bytes(&name.ask("big.example.test TXT +noedns +short")), BIG);

    // EDNS: one datagram, which is longer than Ethernet has room for.
    let long = name.ask("big.example.test TXT +bufsize=4096");
    assert!(long.contains("flags: qr aa rd") && long.contains("(UDP)"), "{long}");
    let size = long.split("MSG SIZE  rcvd: ").nth(1).and_then(|rest| rest.trim().parse::<usize>().ok());
    assert!(size.is_some_and(|size| size > BIG), "{long}");
    assert_eq!(string_bytes(&name.ask("big.example.test TXT +bufsize=4096 +short +notcp +ignore")), BIG);
    // What is too long for that, too.
    let huge = name.ask("huge.example.test TXT +bufsize=4096");
    assert!(huge.contains("Truncated, retrying in TCP mode") && huge.contains("(TCP)"), "{huge}");
    assert_eq!(string_bytes(&name.ask("huge.example.test TXT +bufsize=4096 +short")), HUGE);
}

#[test]
fn a_whole_zone_by_tcp() {
    let name = Name::start();
    let zone = name.ask("example.test AXFR +noall +answer +onesoa");
    let hosts = zone.lines().filter(|line| line.starts_with("host-")).count();
    assert_eq!(hosts, HOSTS, "{zone}");
}

/// dig asks from another port each time.
#[test]
fn a_thousand_clients() {
    const AT_ONCE: usize = 4;
    let name = Name::start();
    let under_way: Vec<_> = (0..AT_ONCE)
        .map(|part| {
            let mine = (0..HOSTS).filter(|host| host % AT_ONCE == part);
            let questions: String = mine.clone().map(|host| format!("host-{host}.example.test A\n")).collect();
            let answers: String = mine.map(|host| address(host) + "\n").collect();
            let file = write(name.directory.path(), &format!("questions-{part}"), questions);
            let mut dig = name.dig();
            dig.args(["+short", "+notcp", "-f"]).arg(file);
            (begin(dig, Vec::new()), answers)
        })
        .collect();
    for (dig, answers) in under_way {
        let said = dig.finish();
        assert_eq!((said.code, said.text()), (Some(0), answers), "{}", said.errors);
    }
    // Each client has a session of its own, and so a port of its own towards BIND.
    let log = name.server.log();
    let asked = log.lines().filter(|line| line.contains("query: host-"));
    let ports: Vec<&str> = asked.filter_map(|line| line.split("127.0.0.1#").nth(1)?.split(' ').next()).collect();
    assert_eq!(ports.len(), HOSTS, "nothing was asked twice");
    let distinct: BTreeSet<&str> = ports.into_iter().collect();
    // Of a thousand draws out of 28,000 ports some are the same.
    assert!(distinct.len() > HOSTS * 9 / 10, "{} ports", distinct.len());
    let status = name.gapi.ask(&["status"]);
    assert_eq!(status.code, 0, "{}", status.text);
}
