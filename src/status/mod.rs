//! *report*: what is written down for people and for the tools that read status.

pub mod yaml;
