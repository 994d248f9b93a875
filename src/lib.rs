//! gapi: Gateway API semantics without Kubernetes, for one Linux machine.

pub mod api;
pub mod cli;
pub mod daemon;
pub mod dataplane;
pub mod finding;
pub mod graph;
pub mod manifest;
pub mod observe;
pub mod plan;
pub mod snapshot;
pub mod status;
pub mod view;
