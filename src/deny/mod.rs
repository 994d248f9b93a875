//! The deny list's file: what it says, what is wrong with it, and when it says something else.
//!
//! Followed on a thread of its own, beside the passes: a new list is in force without one. What is wrong with a line is a
//! [`Finding`](crate::finding::Finding), and the other lines count; a file that is gone leaves the last list in force.

pub mod parse;
pub mod source;
pub mod watch;

pub use source::{Source, State};
pub use watch::Watch;
