//! `backendRefs`: one port of one Service, and where its endpoints are.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::{HashMap, HashSet};
use serde_json::Value;

use crate::{
    api::{
        Kind, ObjectReference,
        condition::*,
        core::{EndpointPort, EndpointSlice, Endpoints, ServicePort, ServiceSpec},
    },
    finding::Finding,
    manifest::Object,
};

use super::{
    grant::Crossing,
    index::Index,
    known::Before,
    problem::{Problem, warning},
};

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One port of one Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// HTTP/2 with prior knowledge rather than HTTP/1.1.
    pub h2c: bool,
    pub target: Target,
}

/// Where a backend's endpoints are.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Ready endpoints, sorted, each once.
    Addresses(Arc<[SocketAddr]>),
    /// An ExternalName.
    Name { host: String, port: u16 },
}

/// What goes to a backend. One port of a Service may be several backends, one for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Traffic {
    Http,
    Grpc,
    Tcp,
    Udp,
}

impl Traffic {
    /// What a route of this kind sends.
    fn of(kind: Kind) -> Traffic {
        match kind {
            Kind::GrpcRoute => Traffic::Grpc,
            Kind::TcpRoute | Kind::TlsRoute => Traffic::Tcp,
            Kind::UdpRoute => Traffic::Udp,
            _ => Traffic::Http,
        }
    }

    /// The end of a backend's key.
    fn suffix(self) -> &'static str {
        match self {
            Traffic::Http => "",
            Traffic::Grpc => "/grpc",
            Traffic::Tcp => "/tcp",
            Traffic::Udp => "/udp",
        }
    }

    /// `protocol` of the ports that it goes to.
    fn transport(self) -> &'static str {
        if self == Traffic::Udp { "UDP" } else { "TCP" }
    }

    /// What becomes of it without an endpoint.
    fn fate(self) -> &'static str {
        match self {
            Traffic::Http => "requests are answered 503",
            Traffic::Grpc => "calls are answered UNAVAILABLE",
            Traffic::Tcp => "connections are reset",
            Traffic::Udp => "datagrams are dropped",
        }
    }
}

/// Resolves references to backends, each Service's port once.
pub(super) struct Backends<'a> {
    index: &'a Index<'a>,
    before: &'a Before<'a>,
    /// EndpointSlices by namespace and Service; made when the first is asked for.
    slices: Option<SlicesByService<'a>>,
    usable: HashMap<Arc<str>, Backend>,
    unusable: HashMap<Arc<str>, Unusable>,
    /// Those of the usable ones about which there is something to say.
    noted: HashSet<Arc<str>>,
    findings: Vec<Finding>,
}

type SlicesByService<'a> = HashMap<(&'a str, &'a str), Vec<&'a Arc<Object>>>;

/// What the references of all routes came to.
pub(super) struct ResolvedBackends {
    pub usable: HashMap<Arc<str>, Backend>,
    pub noted: HashSet<Arc<str>>,
    pub findings: Vec<Finding>,
}

#[derive(Clone)]
struct Unusable {
    reason: &'static Reason,
    message: String,
    remedy: String,
}

impl<'a> Backends<'a> {
    pub fn new(index: &'a Index<'a>, before: &'a Before<'a>) -> Backends<'a> {
        Backends {
            index,
            before,
            slices: None,
            usable: HashMap::default(),
            unusable: HashMap::default(),
            noted: HashSet::default(),
            findings: Vec::new(),
        }
    }

    pub fn finish(self) -> ResolvedBackends {
        ResolvedBackends { usable: self.usable, noted: self.noted, findings: self.findings }
    }

    /// The key of the backend that a route of kind `kind` in namespace `from` refers to at `field`.
    ///
    /// # Errors
    /// The problem, with the reason of `ResolvedRefs`.
    pub fn resolve(
        &mut self,
        kind: Kind,
        from: &str,
        reference: &ObjectReference,
        field: &dyn Display,
    ) -> Result<Arc<str>, Problem> {
        if !reference.group.is_empty() || !matches!(reference.kind.as_str(), "" | "Service") {
            let group =
                if reference.group.is_empty() { String::new() } else { format!(" of group {}", reference.group) };
            let message = format!("kind {}{group} cannot be a backend", reference.kind);
            return Err(Problem::new(ROUTE_INVALID_KIND, format!("{field}.kind"), message, "refer to a Service"));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(from);
        let crossing = Crossing {
            from_kind: kind.names().name,
            from_namespace: from,
            to_group: "",
            to_kind: "Service",
            to_namespace: namespace,
            to_name: &reference.name,
        };
        if !crossing.is_permitted(self.index) {
            let message = format!("no ReferenceGrant lets this route use Service {namespace}/{}", reference.name);
            return Err(Problem::new(ROUTE_REF_NOT_PERMITTED, field.to_string(), message, crossing.remedy()));
        }
        let Some(service) = self.index.get(Kind::Service, namespace, &reference.name) else {
            let message = format!("Service {namespace}/{} does not exist", reference.name);
            let remedy = format!("write the Service, or correct the name{}", self.suggestion(namespace));
            return Err(Problem::new(ROUTE_BACKEND_NOT_FOUND, format!("{field}.name"), message, remedy));
        };
        let Some(port) = reference.port else {
            let message = format!("a reference to {} needs a port", service.key);
            return Err(Problem::new(
                ROUTE_BACKEND_NOT_FOUND,
                field.to_string(),
                message,
                "write the port of the Service",
            ));
        };
        let traffic = Traffic::of(kind);
        let key: Arc<str> = format!("{namespace}/{}:{port}{}", reference.name, traffic.suffix()).into();
        match self.at(&key, service, port, traffic) {
            Ok(()) => Ok(key),
            Err(Unusable { reason, message, remedy }) => {
                Err(Problem::new(reason, format!("{field}.port"), message.as_str(), remedy.as_str()))
            }
        }
    }

    /// Is the backend of this key, which [`Backends::resolve`] gave in an earlier pass, there and usable now?
    pub fn is_usable(&mut self, key: &Arc<str>) -> bool {
        if self.usable.contains_key(key) || self.take_over(key) {
            return true;
        }
        let service = parts(key).and_then(|(namespace, name, port, traffic)| {
            Some((self.index.get(Kind::Service, namespace, name)?, port, traffic))
        });
        service.is_some_and(|(service, port, traffic)| self.at(key, service, port, traffic).is_ok())
    }

    fn at(&mut self, key: &Arc<str>, service: &'a Object, port: u16, traffic: Traffic) -> Result<(), &Unusable> {
        if !self.usable.contains_key(key) && !self.unusable.contains_key(key) && !self.take_over(key) {
            let said = self.findings.len();
            match self.backend(service, port, traffic) {
                Ok(backend) => _ = self.usable.insert(key.clone(), backend),
                Err(unusable) => _ = self.unusable.insert(key.clone(), unusable),
            }
            if self.findings.len() > said {
                self.noted.insert(key.clone());
            }
        }
        self.unusable.get(key).map_or(Ok(()), Err)
    }

    /// Takes the backend as it was in the pass before, where that still holds.
    fn take_over(&mut self, key: &Arc<str>) -> bool {
        let before = self.before.backend(key);
        before.map(|backend| self.usable.insert(key.clone(), backend.clone())).is_some()
    }

    fn suggestion(&self, namespace: &str) -> String {
        let services = self.index.all(Kind::Service).iter().filter(|service| &*service.key.namespace == namespace);
        let names: Vec<&str> = services.map(|service| &*service.key.name).take(6).collect();
        match names.as_slice() {
            [] => String::new(),
            [.., _] if names.len() > 5 => String::new(),
            names => format!("; namespace {namespace} has {}", names.join(", ")),
        }
    }

    fn backend(&mut self, object: &'a Object, number: u16, traffic: Traffic) -> Result<Backend, Unusable> {
        let not_found = |message: String, remedy: &str| Unusable {
            reason: ROUTE_BACKEND_NOT_FOUND,
            message,
            remedy: remedy.into(),
        };
        let spec: &ServiceSpec = object.typed(Some("spec")).map_err(|error| not_found(error, ""))?;
        let transport = traffic.transport();
        let port = spec.ports.iter().find(|port| port.port == number && protocol(&port.protocol) == transport);
        if port.is_none() && spec.ports.iter().any(|port| port.port == number) {
            let message = format!("port {number} of {} is not {transport}", object.key);
            let remedy = format!("name a {transport} port");
            return Err(Unusable { reason: ROUTE_UNSUPPORTED_PROTOCOL, message, remedy });
        }
        if spec.type_ == "ExternalName" {
            return external(object, spec, port, number, traffic);
        }
        let Some(port) = port else {
            let ports: Vec<String> = spec.ports.iter().map(number_of).collect();
            let has = if ports.is_empty() { "it has none".into() } else { format!("it has {}", ports.join(", ")) };
            return Err(not_found(format!("{} has no port {number}; {has}", object.key), ""));
        };
        let h2c = is_h2c(object, port, traffic)?;
        Ok(Backend { h2c, target: Target::Addresses(self.endpoints(object, port, traffic)) })
    }

    /// Ready endpoints: of the EndpointSlices, or, where there is none, of the Endpoints object.
    fn endpoints(&mut self, service: &'a Object, port: &ServicePort, traffic: Traffic) -> Arc<[SocketAddr]> {
        let (namespace, name) = (&*service.key.namespace, &*service.key.name);
        let by_service = self.slices.get_or_insert_with(|| by_service(self.index));
        let slices = by_service.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
        let endpoints = self.index.get(Kind::Endpoints, namespace, name);
        let mut found = Found::default();
        for slice in slices {
            found.add_slice(slice, port);
        }
        if let (true, Some(endpoints)) = (slices.is_empty(), endpoints) {
            found.add_endpoints(endpoints, port);
        }
        if found.addresses.is_empty() {
            let fate = traffic.fate();
            let (message, remedy) = if slices.is_empty() && endpoints.is_none() {
                let remedy = format!("write an EndpointSlice with label kubernetes.io/service-name: {name}");
                (format!("port {} has no endpoints: {fate}", port.port), remedy)
            } else if !found.port {
                let named = port.name.as_deref().filter(|name| !name.is_empty());
                let named = named.map_or("without a name".to_string(), |name| format!("named {name}"));
                let message =
                    format!("port {} has no endpoints: no EndpointSlice or Endpoints has a port {named}", port.port);
                (message, "name the port there as in the Service".to_string())
            } else {
                (format!("port {} has no ready endpoint: {fate}", port.port), String::new())
            };
            self.findings.push(warning(service, "spec.ports", "NoEndpoints", message, remedy));
        }
        found.addresses.sort_unstable();
        found.addresses.dedup();
        found.addresses.into()
    }
}

/// Namespace, Service and port of a backend's key, and what goes there.
fn parts(key: &str) -> Option<(&str, &str, u16, Traffic)> {
    let (namespace, rest) = key.split_once('/')?;
    let (name, port) = rest.rsplit_once(':')?;
    let all = [Traffic::Grpc, Traffic::Tcp, Traffic::Udp, Traffic::Http];
    let (port, traffic) = all.iter().find_map(|traffic| Some((port.strip_suffix(traffic.suffix())?, *traffic)))?;
    Some((namespace, name, port.parse().ok()?, traffic))
}

/// `protocol` of a port, which is TCP where nothing is written.
fn protocol(written: &str) -> &str {
    if written.is_empty() { "TCP" } else { written }
}

/// A port as people write it: `53`, `53/UDP`.
fn number_of(port: &ServicePort) -> String {
    match protocol(&port.protocol) {
        "TCP" => port.port.to_string(),
        other => format!("{}/{other}", port.port),
    }
}

/// The namespace and name of the Service of a backend's key.
pub(super) fn service_of_key(key: &str) -> Option<(&str, &str)> {
    parts(key).map(|(namespace, name, ..)| (namespace, name))
}

/// The namespace and name of the Service that an object is, or has the endpoints of.
pub(super) fn service_of(object: &Object) -> Option<(&str, &str)> {
    let name = match object.kind {
        Kind::Service | Kind::Endpoints => &*object.key.name,
        Kind::EndpointSlice => object.meta.labels.get(SERVICE_NAME)?,
        _ => return None,
    };
    Some((&object.key.namespace, name))
}

fn by_service<'a>(index: &Index<'a>) -> SlicesByService<'a> {
    let mut slices = SlicesByService::default();
    for object in index.all(Kind::EndpointSlice) {
        if let Some(service) = service_of(object) {
            slices.entry(service).or_default().push(object);
        }
    }
    slices
}

/// An ExternalName is reached at the port of the reference: it has no target ports.
fn external(
    object: &Object,
    spec: &ServiceSpec,
    port: Option<&ServicePort>,
    number: u16,
    traffic: Traffic,
) -> Result<Backend, Unusable> {
    if port.is_none() && !spec.ports.is_empty() {
        let ports: Vec<String> = spec.ports.iter().map(number_of).collect();
        let message = format!("{} has no port {number}; it has {}", object.key, ports.join(", "));
        return Err(Unusable { reason: ROUTE_BACKEND_NOT_FOUND, message, remedy: String::new() });
    }
    let h2c = port.map_or(Ok(traffic == Traffic::Grpc), |port| is_h2c(object, port, traffic))?;
    let host = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    // An address written as a name needs no resolver.
    let target = match host.parse::<IpAddr>() {
        Ok(ip) => Target::Addresses([SocketAddr::new(ip, number)].into()),
        Err(_) => Target::Name { host, port: number },
    };
    Ok(Backend { h2c, target })
}

/// `appProtocol`: the Kubernetes standard names (KEP-3726), and the plain words that charts use for the same. gRPC is
/// HTTP/2 where it says HTTP, and what goes through TCP or UDP is nobody's business.
fn is_h2c(object: &Object, port: &ServicePort, traffic: Traffic) -> Result<bool, Unusable> {
    if matches!(traffic, Traffic::Tcp | Traffic::Udp) {
        return Ok(false);
    }
    match port.app_protocol.as_deref().unwrap_or_default() {
        "" | "http" | "HTTP" => Ok(traffic == Traffic::Grpc),
        "kubernetes.io/ws" if traffic == Traffic::Http => Ok(false),
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Ok(true),
        other => Err(Unusable {
            reason: ROUTE_UNSUPPORTED_PROTOCOL,
            message: match traffic {
                Traffic::Grpc => {
                    format!("port {} of {} has appProtocol {other}, which is not gRPC", port.port, object.key)
                }
                _ => format!("port {} of {} has appProtocol {other}, which gapi cannot speak", port.port, object.key),
            },
            remedy: match traffic {
                Traffic::Grpc => "use kubernetes.io/h2c or grpc".into(),
                _ => "use http, kubernetes.io/h2c or kubernetes.io/ws".into(),
            },
        }),
    }
}

/// What the slices of a Service, or its Endpoints, have for one port.
#[derive(Default)]
struct Found {
    addresses: Vec<SocketAddr>,
    /// Some list has a port of this name.
    port: bool,
}

impl Found {
    fn add_slice(&mut self, object: &Object, port: &ServicePort) {
        let Ok(slice) = object.typed::<EndpointSlice>(None) else { return };
        let Some(number) = self.number(&slice.ports, port) else { return };
        if slice.address_type == "FQDN" {
            return;
        }
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false)) {
            self.add(endpoint.addresses.iter().map(String::as_str), number);
        }
    }

    fn add_endpoints(&mut self, object: &Object, port: &ServicePort) {
        let Ok(endpoints) = object.typed::<Endpoints>(None) else { return };
        for subset in &endpoints.subsets {
            let Some(number) = self.number(&subset.ports, port) else { continue };
            self.add(subset.addresses.iter().map(|address| address.ip.as_str()), number);
        }
    }

    /// The port's number where the endpoints are: matched by the name of the Service's port. A list without a number
    /// leaves it to the Service.
    fn number(&mut self, ports: &[EndpointPort], port: &ServicePort) -> Option<u16> {
        let name = port.name.as_deref().unwrap_or_default();
        let transport = protocol(&port.protocol);
        let same = |one: &&EndpointPort| protocol(one.protocol.as_deref().unwrap_or_default()) == transport;
        let own = ports.iter().filter(same).find(|one| one.name.as_deref().unwrap_or_default() == name)?;
        self.port = true;
        own.port.or_else(|| match &port.target_port {
            Some(Value::Number(number)) => u16::try_from(number.as_u64()?).ok(),
            _ => Some(port.port),
        })
    }

    fn add<'b>(&mut self, addresses: impl Iterator<Item = &'b str>, port: u16) {
        let parsed = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
        self.addresses.extend(parsed.map(|ip| SocketAddr::new(ip, port)));
    }
}
