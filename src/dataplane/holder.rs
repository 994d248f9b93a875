//! Which process listens on an address, by `/proc`.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// A process that has a listening socket.
#[derive(Debug, Eq, PartialEq)]
pub struct Holder {
    pub name: String,
    pub id: u32,
}

/// The process that listens on `address`, or on an address that overlaps with it. None where `/proc` does not tell:
/// another user's process, for one.
pub fn of(address: SocketAddr) -> Option<Holder> {
    const LISTEN: &str = "0A";
    find(["/proc/net/tcp", "/proc/net/tcp6"], LISTEN, address)
}

/// The same for UDP: the process that takes datagrams from anybody.
pub fn of_datagrams(address: SocketAddr) -> Option<Holder> {
    const UNCONNECTED: &str = "07";
    find(["/proc/net/udp", "/proc/net/udp6"], UNCONNECTED, address)
}

fn find(tables: [&str; 2], state: &str, address: SocketAddr) -> Option<Holder> {
    let sockets: Vec<String> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| sockets(&table, state, address))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|id: u32| {
        let process = Path::new("/proc").join(id.to_string());
        let mut open = fs::read_dir(process.join("fd")).ok()?.flatten();
        open.find(|file| {
            fs::read_link(file.path()).is_ok_and(|to| sockets.iter().any(|socket| to.as_os_str() == &**socket))
        })?;
        let name = fs::read_to_string(process.join("comm")).ok()?.trim().to_owned();
        Some(Holder { name, id })
    })
}

/// The sockets of a state in a table of `/proc/net` that overlap with `address`, as links of `/proc/*/fd` name them.
fn sockets(table: &str, wanted: &str, address: SocketAddr) -> Vec<String> {
    let overlapping = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (ip, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let taken = state == wanted && u16::from_str_radix(port, 16).ok()? == address.port();
        (taken && overlap(parse_ip(ip)?, address.ip())).then(|| format!("socket:[{inode}]"))
    });
    overlapping.collect()
}

/// Words of 32 bits, each in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let words = hex
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok().map(u32::to_ne_bytes));
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

fn overlap(taken: IpAddr, wanted: IpAddr) -> bool {
    // A socket of `::` may take IPv4 as well.
    let takes_all = taken == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let one_family = taken.is_ipv4() == wanted.is_ipv4();
    takes_all || (one_family && (taken == wanted || taken.is_unspecified() || wanted.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4343 1 0 20 4 30 10 -1
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4444 1 0 100 0 0 10 0\n";

    #[test]
    fn finds_listening_sockets_that_overlap() {
        let found = |address: &str| sockets(TABLE, "0A", address.parse().expect("an address"));
        assert_eq!(found("127.0.0.1:8080"), ["socket:[4242]"]);
        assert_eq!(found("0.0.0.0:8080"), ["socket:[4242]"]);
        assert_eq!(found("10.0.0.1:8080"), [""; 0]);
        assert_eq!(found("10.0.0.1:80"), ["socket:[4444]"]);
        assert_eq!(found("[::1]:80"), [""; 0]);
    }

    #[test]
    fn names_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let holder = of(listener.local_addr().expect("bound"));
        assert_eq!(holder.map(|holder| holder.id), Some(std::process::id()));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let holder = of_datagrams(socket.local_addr().expect("bound"));
        assert_eq!(holder.map(|holder| holder.id), Some(std::process::id()));
    }
}
