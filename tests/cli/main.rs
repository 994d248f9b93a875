//! The commands, run as a person runs them: against a daemon that answers from a fixed view, and against status files.

mod check;
mod echo;
mod get;
mod pages;
mod secret;
mod support;
