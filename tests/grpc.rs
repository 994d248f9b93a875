//! Calls of gRPC over real sockets, at the level of plans: what passes, and what the gateway itself says.

// Tests of HTTP use more of it.
#[allow(dead_code)]
#[path = "connection/harness.rs"]
mod harness;

#[path = "grpc/call.rs"]
mod call;
#[path = "grpc/stage.rs"]
mod stage;

#[path = "grpc/end.rs"]
mod end;
#[path = "grpc/own.rs"]
mod own;
#[path = "grpc/pass.rs"]
mod pass;
#[path = "grpc/stream.rs"]
mod stream;
