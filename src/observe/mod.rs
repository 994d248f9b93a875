//! How the daemon is looked at from outside: the admin socket and the log.

pub mod admin;
pub mod log;
