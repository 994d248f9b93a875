//! Kubernetes' core kinds, as far as gapi serves them.
//!
//! Unlike the kinds of the Gateway API, which a schema describes, these are read into Go structures and judged by
//! functions of the server: a null or missing text is the empty one, a null item of a list an empty item, and the types
//! inside `status` are judged too. Where gapi differs on purpose: addresses of this machine's loopback and link-local
//! addresses are taken as endpoints.

pub mod address;
pub mod config_map;
pub mod document;
pub mod endpoint_slice;
pub mod endpoints;
pub mod entry;
pub mod form;
pub mod namespace;
pub mod secret;
pub mod service;
pub mod service_address;
pub mod service_port;
pub mod structure;
#[cfg(test)]
mod tests;
