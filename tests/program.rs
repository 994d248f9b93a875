//! Programs of other authors through gapi: PostgreSQL, BIND and dig, gRPC's own library for Python, nginx and curl. Each is
//! run as it is installed, on loopback, and each test has servers, directories and ports of its own.
//!
//! `scripts/setup test` installs them.

mod support;

#[path = "program/process.rs"]
mod process;

#[path = "program/dns.rs"]
mod dns;
#[path = "program/grpc.rs"]
mod grpc;
#[path = "program/passthrough.rs"]
mod passthrough;
#[path = "program/postgresql.rs"]
mod postgresql;
