//! Plans as a GRPCRoute makes them, and the gateways that serve them.

use std::{net::SocketAddr, sync::Arc};

use gapi::{
    dataplane::{Settings, outcome::Reason},
    plan::{
        BackendPlan, BackendProtocol, CertificatePlan, EndpointsPlan, FilterPlan, HostPlan, ListenerPlan,
        ListenerProtocol, MatchPlan, PathPlan, Plan, RulePlan, SocketPlan, WeightedBackendPlan,
    },
};

use crate::harness::{Gateway, all_bound, free_address};

pub const HOST: &str = "a.example";

/// The rules of one host.
#[derive(Default)]
pub struct Routes {
    plan: Plan,
    matches: Vec<MatchPlan>,
    rules: Vec<RulePlan>,
    pub settings: Settings,
}

/// A gateway, which stops when dropped, and where it listens.
pub struct Served {
    pub gateway: Gateway,
    pub address: SocketAddr,
}

pub fn method(path: &str) -> PathPlan {
    PathPlan::Exact(path.to_owned())
}

pub fn service(path: &str) -> PathPlan {
    PathPlan::Prefix(path.to_owned())
}

impl Routes {
    /// Everything goes to one backend.
    pub fn to(endpoint: SocketAddr) -> Routes {
        Routes::default().backend("b", &[endpoint]).rule(service(""), &["b"])
    }

    pub fn backend(mut self, key: &str, endpoints: &[SocketAddr]) -> Routes {
        let endpoints = EndpointsPlan::Addresses(endpoints.into());
        self.plan.backends.insert(key.into(), BackendPlan { protocol: BackendProtocol::H2c, endpoints });
        self
    }

    /// A rule whose backends have equal weights; "" is an invalid one.
    pub fn rule(mut self, path: PathPlan, backends: &[&str]) -> Routes {
        let weighted = |name: &&str| WeightedBackendPlan {
            backend: Some((*name).to_owned()).filter(|name| !name.is_empty()),
            weight: 1,
            filters: Vec::new(),
        };
        let (index, backends) = (self.rules.len(), backends.iter().map(weighted).collect());
        self.matches.push(MatchPlan { path, method: None, headers: Vec::new(), query: Vec::new(), rule: index });
        self.rules.push(RulePlan { route: "test/route".into(), index, backends, ..RulePlan::default() });
        self
    }

    /// Changes the rule that was added last.
    pub fn edit(mut self, edit: impl FnOnce(&mut RulePlan)) -> Routes {
        edit(self.rules.last_mut().expect("a rule comes first"));
        self
    }

    pub fn filter(self, filter: FilterPlan) -> Routes {
        self.edit(|rule| rule.filters.push(filter))
    }

    pub fn settings(mut self, edit: impl FnOnce(&mut Settings)) -> Routes {
        edit(&mut self.settings);
        self
    }

    pub fn start(self) -> Served {
        self.serve(None)
    }

    pub fn start_tls(self, certificate: &CertificatePlan) -> Served {
        self.serve(Some(certificate))
    }

    fn serve(mut self, certificate: Option<&CertificatePlan>) -> Served {
        let host = HostPlan { hostname: Some(HOST.into()), matches: self.matches, rules: self.rules };
        let listener = ListenerPlan {
            key: "test/gateway/grpc".into(),
            protocol: certificate.map_or(ListenerProtocol::Http, |_| ListenerProtocol::Https),
            hostname: None,
            certificates: certificate.into_iter().cloned().collect(),
            hosts: vec![Arc::new(host)],
        };
        let address = free_address();
        let socket = SocketPlan { tls: certificate.is_some(), listeners: vec![listener] };
        self.plan.sockets.insert(address, socket);
        let mut gateway = Gateway::start(self.settings);
        all_bound(&gateway.publish(self.plan));
        Served { gateway, address }
    }
}

impl Served {
    /// Exchanges that ended for `reason`.
    pub fn ended(&self, reason: Reason) -> u64 {
        self.gateway.plane.counters().map(|counters| counters.reason(reason)).sum()
    }
}
