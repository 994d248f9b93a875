//! TCP, TLS and UDP listeners over real sockets, at the level of plans.

// Tests of HTTP use more of it.
#[allow(dead_code)]
#[path = "connection/harness.rs"]
mod harness;

#[path = "layer4/stage.rs"]
mod stage;

#[path = "layer4/inherited.rs"]
mod inherited;
#[path = "layer4/tcp.rs"]
mod tcp;
#[path = "layer4/tls.rs"]
mod tls;
#[path = "layer4/udp.rs"]
mod udp;
