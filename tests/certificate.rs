//! Certificates: what cert-manager does in a cluster, by the real binary.

mod support;

#[path = "certificate/acme.rs"]
mod acme;
#[path = "certificate/admission.rs"]
mod admission;
#[path = "certificate/asked.rs"]
mod asked;
#[path = "certificate/bind.rs"]
mod bind;
#[path = "certificate/dns01.rs"]
mod dns01;
#[path = "certificate/dns_double.rs"]
mod dns_double;
#[path = "certificate/dns_provider.rs"]
mod dns_provider;
#[path = "certificate/double.rs"]
mod double;
#[path = "certificate/harness.rs"]
mod harness;
#[path = "certificate/local.rs"]
mod local;
#[path = "certificate/pebble.rs"]
mod pebble;
#[path = "certificate/rollover.rs"]
mod rollover;
