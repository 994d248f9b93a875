//! Requests over real sockets: what a backend sees of them, byte for byte, and what their clients get.

#[path = "request/harness.rs"]
mod harness;

#[path = "request/answer.rs"]
mod answer;
#[path = "request/corpus.rs"]
mod corpus;
#[path = "request/enter.rs"]
mod enter;
#[path = "request/filter.rs"]
mod filter;
#[path = "request/forward.rs"]
mod forward;
#[path = "request/h2.rs"]
mod h2;
#[path = "request/upgrade.rs"]
mod upgrade;
