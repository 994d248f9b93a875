//! Certificates of an ACME server (RFC 8555), by instant-acme.
//!
//! `account` registers and `rollover` changes its key, `order` goes from names to a chain and `chain` picks among several,
//! [`solver`] picks the challenge for a name (pure), `inquiry` asks when to renew, `client` speaks HTTPS within bounds,
//! `signed` makes the requests that the library does not, `fault` reads what servers say is wrong.

mod account;
mod chain;
mod client;
mod fault;
mod inquiry;
mod order;
mod rollover;
mod signed;
pub mod solver;

pub use account::{Accounts, Registered};
pub use inquiry::{inquirable, inquire};
pub use order::obtain;
