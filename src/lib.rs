//! gapi: Gateway API semantics without Kubernetes, for one Linux machine.
//!
//! The daemon reads Kubernetes Gateway API manifests from a directory, serves the traffic that they describe, and writes
//! the status that a cluster would have shown.
//!
//! # One pass
//!
//! ```text
//!  files ──watch──▶ tree ──parse──▶ objects ──resolve──▶ graph ──plan──▶ plan ──compile──▶ snapshot ──publish──▶ sockets
//!                     manifest/                graph/            plan/        compile/               publish, dataplane/
//!                                                 │                                                       │
//!                                                 └───────────────────▶ report ◀──────────────────────────┘
//!                                                                       status/
//! ```
//!
//! The [`daemon`] is a function called again and again: files in, a snapshot and findings out; the same input gives the
//! same output. Only the ends do I/O (watch, publish, report); the stages between are pure and never fail: what is wrong
//! with a document is a [`finding`], and what can still be served is served.
//!
//! - [`manifest`]: *watch* and *parse*. Files become admitted, defaulted objects, each with its place; the accepted-object
//!   store keeps the last good version of each.
//! - [`graph`]: *resolve*. What attaches to what, which references are granted, every condition and its reason.
//! - [`mod@plan`]: *plan*. Sockets, hosts, ordered matches, backends; no word of the Gateway API is left.
//! - [`mod@compile`]: *compile*, the one bridge from plan to [`snapshot`], which the data plane reads.
//! - [`publish`] and [`dataplane`]: sockets are bound, the snapshot is swapped, requests are served.
//! - [`status`]: *report*. The graph's conditions written down, never computed a second time.
//! - [`cli`], [`view`], [`observe`]: what people see of it.
//!
//! # Import rule
//!
//! `api`, `snapshot` and `observe` import nothing from the crate; `compile` alone sees both the plan and the snapshot; the
//! data plane never sees a Gateway API type, the control plane never sees a socket. `tests/architecture.rs` has the table.
//!
//! # Decisions
//!
//! Where the code differs from the plan of record, and why.
//!
//! - 2026-11-24: core kinds (Service, Secret, …) are small types of our own, not those of `k8s-openapi`: admission needs
//!   its own table of field names either way, since that crate ignores unknown ones, and a cold build is 17 s shorter.
//! - 2026-11-24: a file that is being written (opened and not yet closed) keeps what was last read of it for up to a second:
//!   a document that is not there yet would else count as deleted.
//! - 2026-11-24: the accepted-object store has one file for each object; more than eight changes at once are made durable by
//!   one `syncfs` instead of an fsync each.
//! - 2026-11-24: the fsyncs of the store run beside resolve and compile, and the report beside the loop.
//! - 2026-11-24: a pass takes over what did not change since the one before: accepted objects, routes and backends about
//!   which there is nothing to say (`graph::known`), hosts (`plan::Hosts`). Recomputing them whole took 6 to 9 µs a route;
//!   `tests/known.rs` holds that it comes to the same. `make bench-reload`, both builds in turn on a busy machine of two
//!   cores (load 12), with 3,000 routes, from rename to served, least and median: a route on its own host 36/46 → 12/14
//!   ms, all on one host 35/39 → 13/15, each with a Service and an EndpointSlice of its own 64/73 → 16/19, one
//!   EndpointSlice changed 60/76 → 15/20. So the 17 ms hold there for up to two files' worth of objects a route; half of
//!   what is left is one `stat` a file (2 µs each on that machine).
//! - 2026-11-24: every look still visits every file. Events could name the one that changed, but hard links, swapped
//!   directories and lost events are then noticed by the slow poll alone.
//! - 2026-11-24: a certificate that is served in place of an unusable Secret is kept in `<state-dir>/certificates.json`
//!   (0600) as long as that lasts; else the accepted Secret is all that a restart needs.
//! - 2026-11-24: a Service of the user's with the name of the one that gapi shows for a Gateway is theirs alone: it is
//!   routed to, the generated one is left out, and a warning says so. With the generated one's label it is that one.
//! - 2026-11-24: the budget of 1.6 times the bare relay is not reached: 2.0 measured (26.4 µs against 13.2; nginx 1.5, HAProxy
//!   1.5) while compilers ran on both cores.

pub mod api;
pub mod cli;
pub mod compile;
pub mod daemon;
pub mod dataplane;
pub mod finding;
pub mod graph;
pub mod manifest;
pub mod observe;
pub mod plan;
pub mod publish;
pub mod snapshot;
pub mod status;
pub mod view;
