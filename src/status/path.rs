//! `gapi.dev/KernelPath` of a TCPRoute's or UDPRoute's parent: which way its traffic takes, and why.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde_json::Value;

use crate::{
    api::{Condition, Kind, condition::*},
    graph::{Graph, Parent, Route, problem},
};

/// Which way the traffic of TCP and UDP listeners takes: by `namespace/gateway/listener`, at each of its addresses.
pub type Paths = BTreeMap<Arc<str>, Vec<Way>>;

/// Which way the traffic to one address of a listener takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Way {
    address: SocketAddr,
    /// `namespace/name` of the route that has the traffic.
    route: Arc<str>,
    load: Load,
}

/// Who carries it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Load {
    is_in_kernel: bool,
    /// Why user space carries all or a part of it.
    user: String,
}

/// So many reasons are told; the rest is counted.
const TOLD: usize = 8;

impl Way {
    /// `user` says why user space carries all or a part of it: nothing where the kernel carries all.
    pub fn new(address: SocketAddr, route: Arc<str>, is_in_kernel: bool, user: &[String]) -> Way {
        let mut told = user[..user.len().min(TOLD)].join(", ");
        if user.len() > TOLD {
            told += &format!(" and {} more", user.len() - TOLD);
        }
        Way { address, route, load: Load { is_in_kernel, user: told } }
    }
}

impl Load {
    fn is_in_user_space(&self) -> bool {
        !self.is_in_kernel || !self.user.is_empty()
    }

    /// `whose` begins the sentence.
    fn sentence(&self, whose: &str) -> String {
        match (self.is_in_kernel, self.is_in_user_space()) {
            (true, false) => format!("{whose} is carried by the kernel"),
            (true, true) => format!("{whose} is carried by the kernel, and a part by user space: {}", self.user),
            (false, _) => format!("{whose} is carried by user space: {}", self.user),
        }
    }
}

/// Do parents of such routes have the condition?
pub fn has_path(kind: Kind) -> bool {
    matches!(kind, Kind::TcpRoute | Kind::UdpRoute)
}

/// The condition; none where the parent gives the route no traffic.
pub(super) fn condition(graph: &Graph, route: &Route, parent: &Parent, paths: &Paths) -> Option<Condition> {
    let listeners = parent.listeners.iter().map(|(g, l)| &graph.gateways[*g].listeners[*l]);
    let ways: Vec<(&str, &Way)> = listeners
        .flat_map(|listener| {
            let ways = paths.get(listener.key.as_str()).into_iter().flatten();
            ways.map(|way| (listener.spec.name.as_str(), way))
        })
        .filter(|(_, way)| *way.route == *route.name)
        .collect();
    let is_in_kernel = ways.iter().any(|(_, way)| way.load.is_in_kernel);
    let is_in_user_space = ways.iter().any(|(_, way)| way.load.is_in_user_space());
    let reason = match (is_in_kernel, is_in_user_space) {
        (true, false) => ROUTE_IN_KERNEL,
        (true, true) => ROUTE_IN_KERNEL_AND_USER_SPACE,
        (false, true) => ROUTE_IN_USER_SPACE,
        (false, false) => return None,
    };
    Some(reason.with(problem::bounded(&message(&ways))))
}

/// By listener where they differ, and by address where those of one do. `ways` come with the names of their listeners,
/// which are together; there is one at least.
fn message(ways: &[(&str, &Way)]) -> String {
    if let Some(load) = common(ways) {
        return load.sentence("Traffic");
    }
    let listeners = ways.chunk_by(|(a, _), (b, _)| a == b);
    let sentences = listeners.flat_map(|ways| match (ways, common(ways)) {
        ([(name, _), ..], Some(load)) => vec![load.sentence(&format!("Traffic of listener {name}"))],
        _ => {
            let at = |(name, way): &(&str, &Way)| {
                way.load.sentence(&format!("Traffic of listener {name} at {}", way.address))
            };
            ways.iter().map(at).collect()
        }
    });
    sentences.collect::<Vec<_>>().join(". ")
}

/// What is the same of all.
fn common<'w>(ways: &[(&str, &'w Way)]) -> Option<&'w Load> {
    let (_, first) = ways.first()?;
    ways.iter().all(|(_, way)| way.load == first.load).then_some(&first.load)
}

/// The condition as it stood in this entry of `status.parents`, of the generation that it was said of.
pub(super) fn before(entry: &Value) -> Option<Condition> {
    let conditions = entry["conditions"].as_array()?;
    let own = conditions.iter().find(|condition| condition["type"] == ROUTE_IN_KERNEL.condition)?;
    serde_json::from_value(own.clone()).ok()
}

#[cfg(test)]
mod tests;
