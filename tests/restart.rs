//! Restart without a lost connection: the test is the service manager that keeps the sockets while the daemon is away.

mod support;

#[path = "restart/manager.rs"]
mod manager;

#[path = "restart/layer4.rs"]
mod layer4;
#[path = "restart/socket.rs"]
mod socket;
#[path = "restart/state.rs"]
mod state;
#[path = "restart/ticket.rs"]
mod ticket;
#[path = "restart/traffic.rs"]
mod traffic;
#[path = "restart/watchdog.rs"]
mod watchdog;
