//! Programs of other authors through gapi: PostgreSQL, BIND and dig, gRPC's own library for Python, nginx and curl. Each is
//! run as it is installed, on loopback or between
//! network namespaces, and each test has servers, directories and ports of its own.
//!
//! `scripts/setup test` installs them.

mod support;

// Tests of the kernel path use more of it.
#[allow(dead_code)]
#[cfg(feature = "kernel")]
#[path = "kernel_path/stage.rs"]
mod stage;

#[path = "program/process.rs"]
mod process;

#[path = "program/dns.rs"]
mod dns;
#[path = "program/grpc.rs"]
mod grpc;
#[cfg(feature = "kernel")]
#[path = "program/kernel_path.rs"]
mod kernel_path;
#[path = "program/passthrough.rs"]
mod passthrough;
#[path = "program/postgresql.rs"]
mod postgresql;
