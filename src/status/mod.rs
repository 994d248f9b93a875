//! *report*: what is written down for people and for the tools that read status.
//!
//! [`report()`] makes the documents, purely; [`merge`] keeps in them what other controllers wrote and when things last
//! changed.

pub mod certificate;
pub mod condition;
pub mod feature;
pub mod generated;
pub mod merge;
pub mod path;
pub mod report;
pub mod write;
pub mod yaml;

pub use report::{Published, ReportInput, StatusDocument, report};
