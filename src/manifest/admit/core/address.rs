//! Addresses as the server reads them today: what two programs could read differently is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::manifest::{
    admit::{Judge, Reason, written},
    span::{Content, Node},
};

/// An IP address without leading zeros, not IPv4-mapped, without zone.
pub fn ip(judge: &mut Judge, node: &Node, text: &str) -> Option<IpAddr> {
    match parse(text) {
        Ok(address) => Some(address),
        Err(remedy) => {
            fault(judge, node, "an IP address", remedy);
            None
        }
    }
}

/// An IP address that traffic can be sent to. Loopback and link-local addresses, which the server refuses, are ordinary
/// on a single machine.
pub fn endpoint(judge: &mut Judge, node: &Node, text: &str) -> Option<IpAddr> {
    let address = ip(judge, node, text)?;
    let link_local_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() || link_local_multicast {
        fault(judge, node, "an address that traffic can be sent to", "the address of the host that answers");
    }
    Some(address)
}

/// An address from outside that a Service answers at: as [`endpoint`], and not of this machine alone.
pub fn external(judge: &mut Judge, node: &Node, text: &str) {
    let Some(address) = endpoint(judge, node, text) else { return };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_loopback() || link_local {
        fault(judge, node, "an address that others can reach", "one that is neither loopback nor link-local");
    }
}

/// Addresses with a prefix length, no bits set behind it; spaces around it are allowed.
pub fn cidr(judge: &mut Judge, node: &Node, text: &str) {
    if !is_cidr(text.trim()) {
        fault(judge, node, "a range of addresses", "the first address and a prefix length: 10.9.8.0/24, 2001:db8::/64");
    }
}

/// The one way in which an IPv6 address of an EndpointSlice may be written (RFC 5952).
pub fn canonical_ipv6(judge: &mut Judge, node: &Node, text: &str) {
    match endpoint(judge, node, text) {
        Some(IpAddr::V6(address)) if address.to_string() != text => {
            fault(judge, node, "in canonical form", &address.to_string());
        }
        Some(IpAddr::V4(_)) => fault(judge, node, "an IPv6 address", "one, or addressType: IPv4"),
        _ => {}
    }
}

/// An IPv4 address of an EndpointSlice.
pub fn ipv4(judge: &mut Judge, node: &Node, text: &str) {
    if let Some(IpAddr::V6(_)) = endpoint(judge, node, text) {
        fault(judge, node, "an IPv4 address", "one, or addressType: IPv6");
    }
}

/// Whether `text` is a range of addresses.
pub fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let canonical = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let (Ok(address), Ok(length)) = (parse(address), length.parse::<u8>()) else { return false };
    canonical && IpNet::new(address, length).is_ok_and(|net| net == net.trunc())
}

fn parse(text: &str) -> Result<IpAddr, &'static str> {
    const PLAIN: &str = "10.9.8.7 or 2001:db8::ffff";
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(IpAddr::V4(address));
    }
    match text.parse::<Ipv6Addr>() {
        Ok(address) if address.to_ipv4_mapped().is_some() => Err("the IPv4 address itself, not mapped into IPv6"),
        Ok(address) => Ok(IpAddr::V6(address)),
        Err(_) if text.contains('%') => Err("the address without zone"),
        Err(_) if text.parse::<std::net::SocketAddr>().is_ok() => Err("the address without port"),
        Err(_) => Err(PLAIN),
    }
}

fn fault(judge: &mut Judge, node: &Node, wanted: &str, remedy: &str) {
    let shown = match node.content {
        Content::Null => "an empty address".to_owned(),
        _ => written(node),
    };
    judge.fault(Reason::InvalidValue, node.place, format!("{shown} is not {wanted}"), format!("write {remedy}"));
}

#[cfg(test)]
mod tests {
    use super::{is_cidr, parse};

    #[test]
    fn addresses_that_programs_read_differently_are_refused() {
        for text in ["010.0.0.1", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3", "10.0.0.1:80", "[::1]", "", "00001::"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["10.0.0.1", "127.0.0.1", "::1", "FE80::1", "::1.2.3.4", "1:2:3:4:5:6:7::"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn ranges_have_no_bits_behind_the_prefix() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "FD00::/8", "::1/128"] {
            assert!(is_cidr(text), "{text}");
        }
        for text in ["10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0", "10.0.0.0/33", "::/", "1.0.0.0/8/8"] {
            assert!(!is_cidr(text), "{text}");
        }
    }
}
