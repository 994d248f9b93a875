//! *plan*: what the data plane is to do, in its own vocabulary: sockets, listeners, hosts, ordered matches, rules,
//! backends. Sorted, comparable, serialisable; no Gateway API type is left in it.
//!
//! Made by [`lower`] from the graph, read by *compile*. Every list is in its final order: *compile* and the data plane
//! never sort.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::api::Kind;

mod challenge;
mod duration;
mod lower;
pub mod precedence;
mod rule;
mod shadow;

pub use crate::graph::{Addresses, expression};
pub use challenge::{ChallengePlan, TlsChallengePlan};
pub use lower::{Hosts, lower};
pub use shadow::shadowed;

/// All of the run-time configuration. Equal plans need no compile and no publish.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Plan {
    /// By the address to bind; an unspecified IP stands for all addresses of that family.
    pub sockets: BTreeMap<SocketAddr, SocketPlan>,
    /// UDP sockets, likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub datagram_sockets: BTreeMap<SocketAddr, SocketPlan>,
    /// Every backend that a rule names, by its key (`echo/echo-1:8080`).
    pub backends: BTreeMap<Arc<str>, BackendPlan>,
    /// ACME challenges to be answered.
    #[serde(default, skip_serializing_if = "ChallengePlan::is_empty")]
    pub challenges: ChallengePlan,
}

/// One bound socket.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SocketPlan {
    /// True for HTTPS and TLS, false for HTTP, TCP and UDP. A socket never mixes the two: *resolve* marks such listeners
    /// Conflicted.
    pub tls: bool,
    /// By hostname, the most specific first: exact names, then wildcards from the longest, then the one without.
    pub listeners: Vec<ListenerPlan>,
}

/// One listener of one Gateway at one socket. Hostnames are unique within a socket.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListenerPlan {
    /// `namespace/gateway/listener`.
    pub key: String,
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// Lower case; `*.example.com` for a wildcard; none takes every name.
    pub hostname: Option<String>,
    /// For TLS listeners, in the order of `certificateRefs`; empty when none is usable (the handshake is refused).
    pub certificates: Vec<CertificatePlan>,
    /// By hostname as written in the routes, the most specific first. Those of TCP, TLS and UDP listeners have one rule and
    /// one match, which takes everything; TCP and UDP listeners have at most one host.
    pub hosts: Vec<Arc<HostPlan>>,
}

/// What a listener speaks with its clients.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    #[default]
    Http,
    Https,
    Tcp,
    TlsPassthrough,
    TlsTerminate,
    Udp,
}

/// A certificate chain with its key. Compared by content.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct CertificatePlan {
    /// `namespace/secret`.
    pub key: String,
    /// SHA-256 of chain and key, hexadecimal: what golden files show.
    pub digest: String,
    #[serde(skip)]
    pub chain_pem: Vec<u8>,
    #[serde(skip)]
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for CertificatePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatePlan").field("key", &self.key).field("digest", &self.digest).finish()
    }
}

/// All that the routes with one hostname, as written, have to say at one listener. `Eq`, so that comparing a shared one
/// with itself costs nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HostPlan {
    /// Lower case, `*.example.com` for a wildcard; none for routes without hostnames.
    pub hostname: Option<String>,
    /// In the order of precedence: the first that matches has the request.
    pub matches: Vec<MatchPlan>,
    /// What matches refer to by index.
    pub rules: Vec<RulePlan>,
}

/// One match of one rule.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MatchPlan {
    pub path: PathPlan,
    pub method: Option<String>,
    /// Names in lower case.
    pub headers: Vec<ValuePlan>,
    pub query: Vec<ValuePlan>,
    /// Index into [`HostPlan::rules`].
    pub rule: usize,
}

/// How the path is matched.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathPlan {
    Exact(String),
    /// By segments; without a trailing slash, `/` itself is `""`.
    Prefix(String),
    /// Matches the whole path.
    Regex(String),
}

/// A header or query parameter match.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ValuePlan {
    pub name: String,
    pub regex: bool,
    pub value: String,
}

/// What is done with a request that matched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RulePlan {
    /// The kind of the route: those of different kinds may have the same name.
    #[serde(default = "http_route", skip_serializing_if = "is_http_route")]
    pub kind: Kind,
    /// `namespace/route`.
    pub route: String,
    /// Index of the rule in the route.
    pub index: usize,
    pub name: Option<String>,
    /// Set where the rule cannot be served (an expression that does not compile, a filter that gapi does not have):
    /// it answers 500, and this says why.
    pub broken: Option<String>,
    /// In the order written.
    pub filters: Vec<FilterPlan>,
    /// Answers 500 when empty and no filter answers by itself.
    pub backends: Vec<WeightedBackendPlan>,
    /// From the request's head to the end of the answer's head, over all attempts.
    pub request_timeout: Option<Duration>,
    /// The same for one attempt.
    pub backend_timeout: Option<Duration>,
    pub retry: Option<RetryPlan>,
}

impl Default for RulePlan {
    fn default() -> RulePlan {
        RulePlan {
            kind: http_route(),
            route: String::new(),
            index: 0,
            name: None,
            broken: None,
            filters: Vec::new(),
            backends: Vec::new(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        }
    }
}

fn http_route() -> Kind {
    Kind::HttpRoute
}

fn is_http_route(kind: &Kind) -> bool {
    *kind == Kind::HttpRoute
}

/// `rules[].retry`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RetryPlan {
    pub codes: Vec<u16>,
    /// In addition to the first attempt.
    pub attempts: u32,
    pub backoff: Option<Duration>,
}

/// A filter of a rule or of a backendRef.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FilterPlan {
    Cors(CorsPlan),
    Mirror {
        /// Key into [`Plan::backends`]; none for a backend that cannot be resolved: nothing is sent.
        backend: Option<String>,
        numerator: u32,
        denominator: u32,
    },
    Redirect {
        scheme: Option<String>,
        hostname: Option<String>,
        path: Option<PathModifierPlan>,
        port: Option<u16>,
        status: u16,
    },
    RequestHeaders(HeadersPlan),
    ResponseHeaders(HeadersPlan),
    Rewrite {
        hostname: Option<String>,
        path: Option<PathModifierPlan>,
    },
}

/// Header modification: set, then add, then remove. Names in lower case.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeadersPlan {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// `path` of a redirect or rewrite.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathModifierPlan {
    Full(String),
    /// Replaces the prefix that matched, by segments.
    Prefix(String),
}

/// `cors`, as written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CorsPlan {
    pub allow_origins: Vec<String>,
    pub allow_credentials: bool,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: u32,
}

/// `backendRefs[]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WeightedBackendPlan {
    /// Key into [`Plan::backends`]; none for an invalid reference, whose share is answered 500.
    pub backend: Option<String>,
    pub weight: u32,
    pub filters: Vec<FilterPlan>,
}

/// One port of one Service.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct BackendPlan {
    pub protocol: BackendProtocol,
    pub endpoints: EndpointsPlan,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendProtocol {
    /// HTTP/1.1, WebSocket upgrades included.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge, `appProtocol: kubernetes.io/h2c`.
    H2c,
}

/// Where a backend's endpoints are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointsPlan {
    /// Ready endpoints, sorted; empty answers 503.
    Addresses(Arc<[SocketAddr]>),
    /// An ExternalName, resolved at run time.
    Name { host: String, port: u16 },
}

impl Default for EndpointsPlan {
    fn default() -> Self {
        EndpointsPlan::Addresses([].into())
    }
}
