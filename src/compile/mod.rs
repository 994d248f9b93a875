//! *compile*: from the plan to the snapshot. The one place that sees both vocabularies.
//!
//! Expressions are built, keys are loaded, header values are made ready to send. Whatever is equal to what the previous
//! plan had is taken from the previous snapshot, so that a pass costs what changed. What cannot be compiled answers 500,
//! by itself: a rule is broken, a backend's share is, a certificate is left out.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::HashMap;
use rustls::sign::CertifiedKey;

use crate::{
    finding::{Finding, Severity},
    plan::{self, BackendPlan, BackendProtocol, EndpointsPlan, HostPlan, ListenerPlan, Plan, SocketPlan},
    snapshot::{Backend, BackendKey, Host, HostPattern, Listener, ListenerProtocol, Protocol, Snapshot, Socket},
};

mod certificate;
mod challenge;
mod expression;
mod filter;
mod host;

/// Makes the snapshot for `plan`. `previous` is the plan before with the snapshot made from it. `resolved_names` holds
/// what the names of ExternalName backends resolve to.
///
/// # Findings
/// Errors of the reasons `InvalidCertificate`, `InvalidExpression` and `InvalidValue`, where the stages before let
/// something pass that cannot be compiled.
pub fn compile(
    plan: &Plan,
    previous: Option<(&Plan, &Arc<Snapshot>)>,
    resolved_names: &BTreeMap<String, Vec<IpAddr>>,
) -> (Snapshot, Vec<Finding>) {
    let mut compiler = Compiler::default();
    if let Some((plan, snapshot)) = previous {
        compiler.remember(plan, snapshot);
    }
    let backends = compile_backends(plan, previous, resolved_names);
    let socket = |(address, socket): (&SocketAddr, &SocketPlan)| {
        let old = previous.and_then(|(plan, old)| Some((plan.sockets.get(address)?, old.sockets.get(address)?)));
        (*address, compiler.socket(*address, socket, old))
    };
    let sockets = plan.sockets.iter().map(socket).collect();
    let datagram_socket = |(address, socket): (&SocketAddr, &SocketPlan)| {
        let old = previous
            .and_then(|(plan, old)| Some((plan.datagram_sockets.get(address)?, old.datagram_sockets.get(address)?)));
        (*address, compiler.socket(*address, socket, old))
    };
    let datagram_sockets = plan.datagram_sockets.iter().map(datagram_socket).collect();
    let generation = previous.map_or(0, |(_, snapshot)| snapshot.generation) + 1;
    let challenges = challenge::compile(&plan.challenges);
    (Snapshot { generation, sockets, datagram_sockets, backends, challenges }, compiler.findings)
}

/// What is compiled once although several listeners or sockets have it.
#[derive(Default)]
struct Compiler {
    /// By the digest of chain and key.
    certificates: HashMap<String, Option<Arc<CertifiedKey>>>,
    /// By the identity of the plan's value; the plan outlives the compiler.
    hosts: HashMap<*const HostPlan, Arc<Host>>,
    findings: Vec<Finding>,
}

impl Compiler {
    /// Keys that were loaded before.
    fn remember(&mut self, plan: &Plan, snapshot: &Snapshot) {
        for (address, socket) in &plan.sockets {
            let Some(compiled) = snapshot.sockets.get(address) else { continue };
            for (listener, compiled) in socket.listeners.iter().zip(compiled.listeners.iter()) {
                // Where one was left out, it is not known which.
                if listener.certificates.len() == compiled.certificates.len() {
                    let keys = listener.certificates.iter().zip(&compiled.certificates);
                    self.certificates.extend(keys.map(|(plan, key)| (plan.digest.clone(), Some(key.clone()))));
                }
            }
        }
    }

    fn socket(
        &mut self,
        address: SocketAddr,
        plan: &SocketPlan,
        old: Option<(&SocketPlan, &Arc<Socket>)>,
    ) -> Arc<Socket> {
        let find_old = |key: &str| {
            let (plan, socket) = old?;
            let index = plan.listeners.iter().position(|old| old.key == key)?;
            Some((&plan.listeners[index], &socket.listeners[index]))
        };
        let listener = |plan: &ListenerPlan| self.listener(plan, find_old(&plan.key));
        let listeners: Vec<_> = plan.listeners.iter().map(listener).collect();
        match old {
            Some((_, old)) if old.tls == plan.tls && same(&old.listeners, &listeners) => old.clone(),
            _ => Arc::new(Socket { address, tls: plan.tls, listeners: listeners.into() }),
        }
    }

    fn listener(&mut self, plan: &ListenerPlan, old: Option<(&ListenerPlan, &Arc<Listener>)>) -> Arc<Listener> {
        let old_hosts: HashMap<_, _> = old
            .iter()
            .flat_map(|(plan, listener)| plan.hosts.iter().zip(listener.hosts.iter()))
            .map(|(plan, host)| (plan.hostname.as_deref(), (plan, host)))
            .collect();
        let host = |host: &Arc<HostPlan>| self.host(host, old_hosts.get(&host.hostname.as_deref()).copied());
        let hosts: Vec<_> = plan.hosts.iter().map(host).collect();
        let certificates: Vec<_> = plan.certificates.iter().filter_map(|plan| self.certificate(plan)).collect();
        let tls_digest = tls_digest(plan);
        match old {
            Some((_, old))
                if old.tls_digest == tls_digest
                    && old.protocol == protocol(plan.protocol)
                    && same(&old.hosts, &hosts)
                    && same(&old.certificates, &certificates) =>
            {
                old.clone()
            }
            _ => Arc::new(Listener {
                key: plan.key.as_str().into(),
                protocol: protocol(plan.protocol),
                hostname: HostPattern::new(plan.hostname.as_deref()),
                certificates: certificates.into(),
                tls_digest,
                hosts: hosts.into(),
            }),
        }
    }

    fn host(&mut self, plan: &Arc<HostPlan>, old: Option<(&Arc<HostPlan>, &Arc<Host>)>) -> Arc<Host> {
        if let Some(host) = self.hosts.get(&Arc::as_ptr(plan)) {
            return host.clone();
        }
        let host = match old {
            // What could not be compiled is tried again, so that it is found again.
            Some((old_plan, old)) if old_plan == plan && host::is_faultless(plan, old) => old.clone(),
            _ => Arc::new(host::compile(plan, &mut self.findings)),
        };
        self.hosts.insert(Arc::as_ptr(plan), host.clone());
        host
    }
}

/// Are both the same values, not merely equal ones?
fn same<T>(old: &[Arc<T>], new: &[Arc<T>]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new))
}

fn protocol(plan: plan::ListenerProtocol) -> ListenerProtocol {
    match plan {
        plan::ListenerProtocol::Http => ListenerProtocol::Http,
        plan::ListenerProtocol::Https => ListenerProtocol::Https,
        plan::ListenerProtocol::Tcp => ListenerProtocol::Tcp,
        plan::ListenerProtocol::TlsPassthrough => ListenerProtocol::TlsPassthrough,
        plan::ListenerProtocol::TlsTerminate => ListenerProtocol::TlsTerminate,
        plan::ListenerProtocol::Udp => ListenerProtocol::Udp,
    }
}

/// Of all that a TLS client has agreed to.
fn tls_digest(plan: &ListenerPlan) -> u64 {
    let mut hasher = DefaultHasher::new();
    plan.protocol.hash(&mut hasher);
    plan.hostname.hash(&mut hasher);
    // A connection to a backend goes on whatever certificate it began with.
    if plan.protocol != plan::ListenerProtocol::TlsTerminate {
        plan.certificates.iter().for_each(|certificate| certificate.digest.hash(&mut hasher));
    }
    hasher.finish()
}

fn compile_backends(
    plan: &Plan,
    previous: Option<(&Plan, &Arc<Snapshot>)>,
    resolved_names: &BTreeMap<String, Vec<IpAddr>>,
) -> foldhash::HashMap<BackendKey, Arc<Backend>> {
    let compile = |(key, plan): (&BackendKey, &BackendPlan)| {
        let endpoints = endpoints(&plan.endpoints, resolved_names);
        let protocol = match plan.protocol {
            BackendProtocol::Http1 => Protocol::Http1,
            BackendProtocol::H2c => Protocol::H2c,
        };
        let old = previous.and_then(|(_, snapshot)| snapshot.backends.get(key));
        match old {
            Some(old) if old.protocol == protocol && *old.endpoints == *endpoints => (old.key.clone(), old.clone()),
            _ => (key.clone(), Arc::new(Backend { key: key.clone(), protocol, endpoints: endpoints.into() })),
        }
    };
    plan.backends.iter().map(compile).collect()
}

fn endpoints<'p>(plan: &'p EndpointsPlan, resolved_names: &BTreeMap<String, Vec<IpAddr>>) -> Cow<'p, [SocketAddr]> {
    match plan {
        EndpointsPlan::Addresses(addresses) => Cow::Borrowed(addresses),
        EndpointsPlan::Name { host, port } => {
            let addresses = resolved_names.get(host).map(Vec::as_slice).unwrap_or_default();
            addresses.iter().map(|ip| SocketAddr::new(*ip, *port)).collect()
        }
    }
}

/// What could not be compiled; `message` names the object.
fn error(reason: &str, message: String, remedy: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        origin: None,
        object: None,
        field: String::new(),
        reason: reason.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests;
