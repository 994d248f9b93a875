//! gapi: Gateway API semantics without Kubernetes, for one Linux machine.

pub mod api;
pub mod compile;
pub mod dataplane;
pub mod finding;
pub mod manifest;
pub mod plan;
pub mod publish;
pub mod snapshot;
