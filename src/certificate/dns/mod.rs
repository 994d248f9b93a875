//! DNS-01 (RFC 8555, 8.4): a TXT record at `_acme-challenge` of a name, put there by the provider that the solver says,
//! seen at the authoritative servers before the ACME server is told, and taken away again whatever comes of the order.
//!
//! [`proof`] goes through all that for an order; [`record`] keeps books on disk of what is up, so that a crash leaves
//! nothing behind; [`authority`] looks; [`provider`] is who changes the zone: `block` by cert-manager's own blocks,
//! `webhook` by the other names of the crate `dns-update`, `cloudflare` (by the global key), `acme_dns` and `exec` by themselves.

mod acme_dns;
pub mod authority;
mod block;
mod cloudflare;
mod exec;
pub mod proof;
pub mod provider;
pub mod record;
mod settings;
mod webhook;
