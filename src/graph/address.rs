//! Which addresses a Gateway has: the machine's, those of a pool, or those it asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::api::{
    condition::{GATEWAY_ADDRESS_NOT_ASSIGNED, GATEWAY_ADDRESS_NOT_USABLE, GATEWAY_UNSUPPORTED_ADDRESS},
    gateway::GatewayAddress,
};

use super::{gateway::Gateway, problem::Problem};

/// The addresses that Gateways may have: an input of the pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addresses {
    /// What is bound for a Gateway that asks for no address: the unspecified addresses, or those of `--address`.
    pub bind: Vec<IpAddr>,
    /// What `status.addresses` says for them: the machine's own addresses.
    pub advertised: Vec<IpAddr>,
    /// With `--address-pool`: addresses in the pool, to be given one to a Gateway.
    pub pool: Option<IpNet>,
    /// What a Gateway (`namespace/name`) of a pool has been given before; kept across passes and restarts.
    pub assigned: BTreeMap<String, IpAddr>,
}

impl Addresses {
    /// May a Gateway ask for this very address?
    fn has(&self, ip: IpAddr) -> bool {
        let everywhere = self.bind.iter().any(|bind| bind.is_unspecified() && bind.is_ipv4() == ip.is_ipv4());
        !ip.is_unspecified()
            && (self.pool.is_some_and(|pool| pool.contains(&ip))
                || self.bind.contains(&ip)
                || self.advertised.contains(&ip)
                || everywhere && ip.is_loopback())
    }
}

/// Gives every Gateway its addresses and returns the pool's new assignments. Gateways come the oldest first: an
/// assignment once made stays, new ones take the lowest address that nobody has or asks for.
pub(super) fn assign(gateways: &mut [Gateway], addresses: &Addresses) -> BTreeMap<String, IpAddr> {
    for gateway in gateways.iter_mut() {
        refuse_unsupported(gateway);
    }
    let assigned = from_pool(gateways, addresses);
    for gateway in gateways.iter_mut().filter(|gateway| gateway.refused.is_empty()) {
        let own = assigned.get(&gateway.name()).copied();
        if gateway.spec.addresses.is_empty() {
            by_default(gateway, addresses, own);
        } else {
            as_requested(gateway, addresses, own);
        }
    }
    assigned
}

fn refuse_unsupported(gateway: &mut Gateway) {
    for (i, address) in gateway.spec.addresses.iter().enumerate() {
        if !is_ip(address) {
            let message = format!("addresses of type {:?} are not supported", address.type_);
            let field = format!("spec.addresses[{i}].type");
            gateway.refused.push(Problem::new(GATEWAY_UNSUPPORTED_ADDRESS, field, message, "use type IPAddress"));
        }
    }
}

fn is_ip(address: &GatewayAddress) -> bool {
    matches!(address.type_.as_str(), "" | "IPAddress")
}

fn written(address: &GatewayAddress) -> Option<&str> {
    address.value.as_deref().filter(|value| !value.is_empty())
}

/// Does the Gateway want an address that it does not name?
fn wants_any(gateway: &Gateway) -> bool {
    let addresses = &gateway.spec.addresses;
    gateway.refused.is_empty() && (addresses.is_empty() || addresses.iter().any(|address| written(address).is_none()))
}

fn from_pool(gateways: &[Gateway], addresses: &Addresses) -> BTreeMap<String, IpAddr> {
    let Some(pool) = addresses.pool else { return BTreeMap::new() };
    let mut assigned = BTreeMap::new();
    let picked = gateways.iter().flat_map(|gateway| &gateway.spec.addresses);
    let mut taken: BTreeSet<IpAddr> = picked.filter_map(|address| written(address)?.parse().ok()).collect();
    for gateway in gateways {
        // Refused Gateways keep what they have: their clients find them where they were once they are mended.
        if let Some(ip) = addresses.assigned.get(&gateway.name()).filter(|ip| pool.contains(*ip)) {
            assigned.insert(gateway.name(), *ip);
            taken.insert(*ip);
        }
    }
    let mut free = pool.hosts().filter(|ip| *ip != pool.network() || pool.prefix_len() + 1 >= pool.max_prefix_len());
    for gateway in gateways.iter().filter(|gateway| wants_any(gateway)) {
        if assigned.contains_key(&gateway.name()) {
            continue;
        }
        let Some(ip) = free.find(|ip| !taken.contains(ip)) else { break };
        assigned.insert(gateway.name(), ip);
    }
    assigned
}

fn by_default(gateway: &mut Gateway, addresses: &Addresses, own: Option<IpAddr>) {
    match (addresses.pool, own) {
        (None, _) => {
            gateway.bind = addresses.bind.clone();
            gateway.advertised = addresses.advertised.clone();
        }
        (Some(_), Some(ip)) => {
            gateway.bind = vec![ip];
            gateway.advertised = vec![ip];
        }
        (Some(pool), None) => gateway.unassigned.push(exhausted("spec.addresses".into(), pool)),
    }
}

fn exhausted(field: String, pool: IpNet) -> Problem {
    let message = format!("the address pool {pool} has no free address left");
    Problem::new(GATEWAY_ADDRESS_NOT_ASSIGNED, field, message, "remove a Gateway, or give gapi a larger --address-pool")
}

/// One address for each entry of `spec.addresses` that can be had.
fn as_requested(gateway: &mut Gateway, addresses: &Addresses, own: Option<IpAddr>) {
    let mut given: Vec<IpAddr> = Vec::new();
    for (i, address) in gateway.spec.addresses.clone().iter().enumerate() {
        match entry(address, i, addresses, own, &given) {
            Ok(ip) if !given.contains(&ip) => given.push(ip),
            Ok(_) => {}
            Err(problem) => gateway.unassigned.push(problem),
        }
    }
    gateway.bind = given.clone();
    gateway.advertised = given;
}

fn entry(
    address: &GatewayAddress,
    i: usize,
    addresses: &Addresses,
    own: Option<IpAddr>,
    given: &[IpAddr],
) -> Result<IpAddr, Problem> {
    let field = format!("spec.addresses[{i}]");
    if let Some(scope) = address.routability.as_deref().filter(|scope| !scope.is_empty()) {
        let message = format!("routability {scope} is not supported");
        return Err(Problem::new(
            GATEWAY_ADDRESS_NOT_ASSIGNED,
            format!("{field}.routability"),
            message,
            "remove it, and name an address with the reach that you want in value",
        ));
    }
    let Some(value) = written(address) else {
        let any = match addresses.pool {
            Some(_) => own.filter(|ip| !given.contains(ip)),
            None => addresses.advertised.iter().find(|ip| !given.contains(ip)).copied(),
        };
        return any.ok_or_else(|| match addresses.pool {
            Some(pool) if own.is_none() => exhausted(field, pool),
            _ => {
                let message = "there is no further address for this Gateway";
                Problem::new(GATEWAY_ADDRESS_NOT_ASSIGNED, field, message, "remove the entry, or write a value")
            }
        });
    };
    let unusable = |message: String| {
        let known: Vec<String> = addresses.pool.iter().map(|pool| format!("an address of {pool}")).collect();
        let known: Vec<String> =
            known.into_iter().chain(addresses.advertised.iter().map(ToString::to_string)).collect();
        let remedy = if known.is_empty() { String::new() } else { format!("use {}", known.join(" or ")) };
        Problem::new(GATEWAY_ADDRESS_NOT_USABLE, format!("{field}.value"), message, remedy)
    };
    match value.parse::<IpAddr>() {
        Err(_) => Err(unusable(format!("{value:?} is not an IP address"))),
        Ok(ip) if addresses.has(ip) => Ok(ip),
        Ok(ip) => Err(unusable(format!("{ip} is not an address of this machine"))),
    }
}
