//! Kubernetes' core kinds, as far as gapi serves them.

pub mod config_map;
pub mod endpoint_slice;
pub mod endpoints;
pub mod namespace;
pub mod secret;
pub mod service;
