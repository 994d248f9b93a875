//! Plans of layer 4 and the backends that they lead to.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use gapi::plan::{
    BackendPlan, CertificatePlan, EndpointsPlan, HostPlan, ListenerPlan, ListenerProtocol, MatchPlan, PathPlan, Plan,
    RulePlan, SocketPlan, WeightedBackendPlan,
};

/// A backend of a rule: its weight and its endpoints; none for an invalid reference.
pub type Share<'a> = (u32, Option<&'a [SocketAddr]>);

/// Puts plans together.
#[derive(Default)]
pub struct Stage {
    pub plan: Plan,
}

impl Stage {
    pub fn tcp(address: SocketAddr, shares: &[Share<'_>]) -> Stage {
        let mut stage = Stage::default();
        stage.listen_tcp(address, shares);
        stage
    }

    pub fn udp(address: SocketAddr, shares: &[Share<'_>]) -> Stage {
        let mut stage = Stage::default();
        stage.listen_udp(address, shares);
        stage
    }

    pub fn listen_tcp(&mut self, address: SocketAddr, shares: &[Share<'_>]) {
        let host = self.host(None, &format!("tcp-{address}"), shares);
        let listener = listener_of("tcp", ListenerProtocol::Tcp, None, &[], vec![host]);
        self.plan.sockets.insert(address, SocketPlan { tls: false, listeners: vec![listener] });
    }

    pub fn listen_udp(&mut self, address: SocketAddr, shares: &[Share<'_>]) {
        let host = self.host(None, &format!("udp-{address}"), shares);
        let listener = listener_of("udp", ListenerProtocol::Udp, None, &[], vec![host]);
        self.plan.datagram_sockets.insert(address, SocketPlan { tls: false, listeners: vec![listener] });
    }

    pub fn listen_tls(&mut self, address: SocketAddr, listeners: Vec<ListenerPlan>) {
        self.plan.sockets.insert(address, SocketPlan { tls: true, listeners });
    }

    /// A host with one rule, `route`.
    pub fn host(&mut self, hostname: Option<&str>, route: &str, shares: &[Share<'_>]) -> Arc<HostPlan> {
        let mut backends = Vec::new();
        for (index, (weight, endpoints)) in shares.iter().enumerate() {
            let key = format!("test/{route}-{index}:1");
            if let Some(endpoints) = endpoints {
                let endpoints = EndpointsPlan::Addresses(endpoints.to_vec().into());
                self.plan.backends.insert(key.as_str().into(), BackendPlan { endpoints, ..BackendPlan::default() });
            }
            let backend = endpoints.map(|_| key);
            backends.push(WeightedBackendPlan { backend, weight: *weight, filters: Vec::new() });
        }
        let rule = RulePlan { route: format!("test/{route}"), backends, ..RulePlan::default() };
        let all = MatchPlan {
            path: PathPlan::Prefix(String::new()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            rule: 0,
        };
        Arc::new(HostPlan { hostname: hostname.map(str::to_owned), matches: vec![all], rules: vec![rule] })
    }
}

pub fn listener_of(
    name: &str,
    protocol: ListenerProtocol,
    hostname: Option<&str>,
    certificates: &[&CertificatePlan],
    hosts: Vec<Arc<HostPlan>>,
) -> ListenerPlan {
    ListenerPlan {
        key: format!("test/gateway/{name}"),
        protocol,
        hostname: hostname.map(str::to_owned),
        certificates: certificates.iter().map(|plan| (*plan).clone()).collect(),
        hosts,
    }
}

/// How often each of `all` is among `seen`.
pub fn tally<T: Ord>(seen: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    seen.into_iter().for_each(|one| *tally.entry(one).or_default() += 1);
    tally
}
