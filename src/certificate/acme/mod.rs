//! Certificates of an ACME server (RFC 8555), by instant-acme.
//!
//! `account` registers, `order` goes from names to a chain, [`solver`] picks the challenge for a name (pure),
//! `inquiry` asks when to renew, `client` speaks HTTPS within bounds, `fault` reads what servers say is wrong.

mod account;
mod client;
mod fault;
mod inquiry;
mod order;
pub mod solver;

pub use account::Accounts;
pub use inquiry::{inquirable, inquire};
pub use order::obtain;
