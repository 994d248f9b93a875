//! The addresses that Gateways may have: an input of the pass, found out here.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use crate::{durable::replace, finding::Finding, graph::Addresses, manifest::accepted::state_finding};

/// `Gateway.status.addresses` holds no more than this.
const MAX_ADVERTISED: usize = 16;

/// What is bound and advertised. Without `--address`, all addresses of the machine.
pub fn addresses(wanted: &[IpAddr], pool: Option<ipnet::IpNet>, assigned: BTreeMap<String, IpAddr>) -> Addresses {
    let bind = match wanted {
        [] => all_families(),
        some => some.to_vec(),
    };
    let mut advertised = Vec::new();
    for address in &bind {
        if address.is_unspecified() {
            advertised.extend(own_addresses().into_iter().filter(|own| own.is_ipv4() == address.is_ipv4()));
        } else {
            advertised.push(*address);
        }
    }
    if advertised.is_empty() {
        advertised.push(Ipv4Addr::LOCALHOST.into());
    }
    advertised.dedup();
    advertised.truncate(MAX_ADVERTISED);
    Addresses { bind, advertised, pool, assigned }
}

fn all_families() -> Vec<IpAddr> {
    let mut families = vec![IpAddr::from(Ipv4Addr::UNSPECIFIED)];
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    if UdpSocket::bind(v6).is_ok() {
        families.push(v6.ip());
    }
    families
}

/// The machine's own addresses that others can reach: no loopback, no link-local; IPv4 first.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<IpAddr> = interfaces
        .iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Which Gateway of a pool has which address, kept in the state directory so that it stays.
pub fn read_assigned(path: &Path) -> io::Result<BTreeMap<String, IpAddr>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// Writes the assignment aside and renames it. A finding where that fails: it is in force all the same.
pub fn keep_assigned(path: &Path, assigned: &BTreeMap<String, IpAddr>) -> Option<Finding> {
    let write = || -> io::Result<()> {
        replace(path, &path.with_extension("tmp"), &serde_json::to_vec_pretty(assigned)?, 0o644)
    };
    let error = write().err()?;
    Some(state_finding(
        format!("the Gateways' addresses cannot be kept in {}: {error}", path.display()),
        "make room, or make it writable",
    ))
}
