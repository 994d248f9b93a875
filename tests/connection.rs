//! Connections over real sockets: what a client meets before, between and after requests.

#[path = "connection/harness.rs"]
mod harness;

#[path = "connection/forward.rs"]
mod forward;
#[path = "connection/http1.rs"]
mod http1;
#[path = "connection/http2.rs"]
mod http2;
#[path = "connection/publish.rs"]
mod publish;
#[path = "connection/tls.rs"]
mod tls;
