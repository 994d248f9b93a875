//! Issuance: what cert-manager does in a cluster. It stands beside the pass: it reads the certificates wanted of the
//! graph, writes Secrets into its store, and causes the next pass.
//!
//! [`decide`] says what is to be done now (pure); the [`Engine`] does it, one task for each Certificate: [`sign`] makes
//! self-signed certificates and those of a CA, [`acme`] has an ACME server make them, with challenges in DNS by [`dns`]; [`key`] makes the keys, [`secret`]
//! the Secret's manifest, [`store`] keeps both. A challenge that is pending goes into the next plan.

pub mod acme;
pub mod anyone;
pub mod decide;
mod der;
pub mod dns;
mod engine;
mod event;
pub mod key;
mod request;
pub mod secret;
pub mod sign;
pub mod store;
mod task;

pub use dns::authority::{Resolvers, nameserver};
pub use engine::{Engine, EngineOptions};
