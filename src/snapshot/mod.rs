//! The immutable run-time configuration that the workers read.
//!
//! A leaf: made whole by *compile*, never changed, freed on the control thread. No lock, no atomic and no cell in it but
//! in [`cell`]. Everything is resolved: expressions are built, keys are loaded, filters hold header values ready to send.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use foldhash::HashMap;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;
use rustls::sign::CertifiedKey;

pub mod cell;
pub mod challenge;
pub mod deny;
pub mod host;
pub mod hostname;
pub mod path;

pub use challenge::Challenges;
pub use host::{Host, Matched, Rule};
pub use hostname::ByHostname;

/// All of it. Keys of maps come from the configuration alone, so that a fast hash is enough.
#[derive(Default)]
pub struct Snapshot {
    /// Counts publishes, from 1.
    pub generation: u64,
    /// By the bound address.
    pub sockets: HashMap<SocketAddr, Arc<Socket>>,
    /// UDP sockets, likewise: an address may be bound for both.
    pub datagram_sockets: HashMap<SocketAddr, Arc<Socket>>,
    pub backends: HashMap<BackendKey, Arc<Backend>>,
    /// What proves this machine's names to an ACME server.
    pub challenges: Challenges,
}

/// A bound address and the listeners that share it.
pub struct Socket {
    pub address: SocketAddr,
    pub tls: bool,
    /// The most specific hostname first; at most one takes every name, and it is last.
    pub listeners: ByHostname<Arc<Listener>>,
}

impl Socket {
    /// Do its connections go to a backend as they are?
    pub fn is_tcp(&self) -> bool {
        self.listeners.iter().next().is_some_and(|listener| listener.protocol == ListenerProtocol::Tcp)
    }
}

/// A listener of a Gateway.
pub struct Listener {
    /// `namespace/gateway/listener`.
    pub key: Arc<str>,
    pub protocol: ListenerProtocol,
    pub hostname: HostPattern,
    /// In the order of `certificateRefs`; empty for HTTP, or when none is usable.
    pub certificates: Box<[Arc<CertifiedKey>]>,
    /// Changes when anything that a TLS client agreed to changes: established connections of another value are drained.
    pub tls_digest: u64,
    /// The most specific hostname first.
    pub hosts: ByHostname<Arc<Host>>,
}

impl Listener {
    /// The one rule for connections that are not looked into, and for sessions of UDP: that of the most specific host for
    /// `name`, the server name of TLS, empty where there is none.
    pub fn stream_rule(&self, name: &str) -> Option<&Rule> {
        self.hosts.find(name).next()?.rules.first()
    }
}

/// What a listener speaks with its clients. HTTPS and TLS listeners share a socket, and the server name decides; an HTTP,
/// TCP or UDP listener shares none with another protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ListenerProtocol {
    #[default]
    Http,
    Https,
    /// A connection goes to the one rule of the first host, whatever its bytes are.
    Tcp,
    /// TLS that the backend terminates: by the server name to the one rule of its host.
    TlsPassthrough,
    /// TLS that ends here, with whatever is inside it: likewise.
    TlsTerminate,
    /// A datagram goes to the one rule of the first host.
    Udp,
}

/// A hostname to match, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostPattern {
    Exact(Box<str>),
    /// The part behind the star, with its dot: `.example.com`. Matches one or more labels before it.
    Wildcard(Box<str>),
    Any,
}

impl HostPattern {
    /// `None` is [`HostPattern::Any`]. `name` is lower case.
    pub fn new(name: Option<&str>) -> HostPattern {
        match name {
            None | Some("") => HostPattern::Any,
            Some(name) => match name.strip_prefix('*') {
                Some(suffix) => HostPattern::Wildcard(suffix.into()),
                None => HostPattern::Exact(name.into()),
            },
        }
    }

    /// Does `host` (lower case, no port) fall under this pattern?
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            HostPattern::Any => true,
        }
    }
}

/// A filter, ready to be applied.
pub enum Filter {
    Cors(Cors),
    Mirror { backend: Option<BackendKey>, numerator: u32, denominator: u32 },
    Redirect(Redirect),
    RequestHeaders(Headers),
    ResponseHeaders(Headers),
    Rewrite { hostname: Option<HeaderValue>, path: Option<PathModifier> },
}

/// Header modification: set, then add, then remove.
#[derive(Default)]
pub struct Headers {
    pub set: Box<[(HeaderName, HeaderValue)]>,
    pub add: Box<[(HeaderName, HeaderValue)]>,
    pub remove: Box<[HeaderName]>,
}

/// A redirect.
pub struct Redirect {
    pub scheme: Option<Box<str>>,
    pub hostname: Option<Box<str>>,
    pub path: Option<PathModifier>,
    pub port: Option<u16>,
    pub status: StatusCode,
}

/// `path` of a redirect or rewrite.
pub enum PathModifier {
    Full(Box<str>),
    /// Replaces the prefix that matched; without a trailing slash.
    Prefix(Box<str>),
}

/// A CORS policy (Fetch standard, section 3.3).
pub struct Cors {
    pub origins: Origins,
    pub allow_credentials: bool,
    pub allow_methods: Names,
    pub allow_headers: Names,
    pub expose_headers: Names,
    pub max_age: HeaderValue,
}

/// Which origins are let in.
pub enum Origins {
    All,
    /// Origins in lower case, those with a star as expressions.
    Some {
        exact: Box<[Box<str>]>,
        patterns: Box<[Regex]>,
    },
}

/// A list of names for a CORS answer.
pub enum Names {
    All,
    None,
    /// Joined with commas, ready to send.
    Some(HeaderValue),
}

/// `backendRefs[]`: an invalid one has no backend and answers 500.
pub struct WeightedBackend {
    pub backend: Option<BackendKey>,
    pub weight: u32,
    pub filters: Box<[Filter]>,
}

/// When and how often to send again.
pub struct Retry {
    pub codes: Box<[u16]>,
    /// In addition to the first attempt.
    pub attempts: u32,
    pub backoff: Duration,
}

/// Stable across snapshots: `namespace/service:port`. Cheap to clone; compared by content.
pub type BackendKey = Arc<str>;

/// One port of one Service.
pub struct Backend {
    pub key: BackendKey,
    pub protocol: Protocol,
    /// Ready endpoints; empty answers 503. For an ExternalName, what it resolved to last.
    pub endpoints: Box<[SocketAddr]>,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Protocol {
    Http1,
    H2c,
}

/// A match that a request must satisfy besides its path.
pub struct Conditions {
    pub method: Option<Method>,
    pub headers: Box<[(HeaderName, Value)]>,
    pub query: Box<[(Box<str>, Value)]>,
}

/// A value to match.
pub enum Value {
    Exact(Box<str>),
    /// Anchored at both ends.
    Regex(Regex),
}
