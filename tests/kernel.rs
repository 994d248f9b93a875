//! The kernel path: crafted packets by test-run, and connections between network namespaces.
#![cfg(feature = "kernel")]

#[path = "kernel/end_to_end.rs"]
mod end_to_end;
#[path = "kernel/full.rs"]
mod full;
#[path = "kernel/namespace.rs"]
mod namespace;
#[path = "kernel/packet.rs"]
mod packet;
#[path = "kernel/program.rs"]
mod program;
#[path = "kernel/stage.rs"]
mod stage;
