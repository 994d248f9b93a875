//! Every bound and deadline of the data plane with its default. Each has a flag of the same name on `gapi run`.

use std::time::Duration;

use ipnet::IpNet;

use super::elsewhere::Elsewhere;

/// The safe defaults of the data plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peers whose forwarding fields are believed (`--trusted-proxy`).
    pub trusted_proxies: Vec<IpNet>,
    /// Keep repeated slashes in paths (`--keep-repeated-slashes`).
    pub keep_repeated_slashes: bool,
    /// Request line and fields together, bytes: 431 (414 for the request line).
    pub max_head: usize,
    pub max_request_line: usize,
    pub max_fields: usize,
    /// From the first byte of a head to its end: 408.
    pub head_timeout: Duration,
    pub client_idle_timeout: Duration,
    pub backend_idle_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    pub connect_timeout: Duration,
    /// No byte in either direction while a message is under way.
    pub stall_timeout: Duration,
    /// The same for calls of gRPC.
    pub grpc_idle_timeout: Duration,
    /// The same for WebSockets and CONNECT streams.
    pub upgrade_idle_timeout: Duration,
    /// The same for connections of TCP and TLS listeners.
    pub tcp_idle_timeout: Duration,
    /// A UDP session ends when no datagram came for so long.
    pub udp_idle_timeout: Duration,
    /// The same once both sides have spoken.
    pub udp_stream_timeout: Duration,
    /// All workers together; beyond it the session that was silent for longest ends.
    pub max_udp_sessions: usize,
    pub max_trailers: usize,
    pub max_trailer_fields: usize,
    pub h2_max_streams: u32,
    pub h2_stream_window: u32,
    pub h2_connection_window: u32,
    pub h2_max_header_list: u32,
    /// What waits for an HTTP/2 client that does not read, bytes a connection.
    pub h2_max_send_buffer: usize,
    /// Bodies up to this size are kept for sending again or mirroring.
    pub max_retry_body: usize,
    /// After SIGTERM.
    pub drain_timeout: Duration,
    /// For connections whose listener left.
    pub listener_drain_timeout: Duration,
    /// All workers together; 0: nine tenths of the file descriptors, a client and a backend one for each connection.
    pub max_connections: usize,
    /// For one client address; 0: no bound.
    pub max_connections_per_client: usize,
    /// Idle connections kept to one endpoint by one worker.
    pub max_idle_per_endpoint: usize,
    /// JSON lines of requests to this file (`-` for standard output); none: off.
    pub access_log: Option<String>,
    /// Endpoints that are reached on another way than through these threads; set by the daemon, no flag.
    pub elsewhere: Elsewhere,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            trusted_proxies: Vec::new(),
            keep_repeated_slashes: false,
            max_head: 60 << 10,
            max_request_line: 8 << 10,
            max_fields: 128,
            head_timeout: Duration::from_secs(10),
            client_idle_timeout: Duration::from_secs(75),
            backend_idle_timeout: Duration::from_secs(55),
            tls_handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(60),
            grpc_idle_timeout: Duration::from_secs(3600),
            upgrade_idle_timeout: Duration::from_secs(3600),
            tcp_idle_timeout: Duration::from_secs(3600),
            udp_idle_timeout: Duration::from_secs(60),
            udp_stream_timeout: Duration::from_secs(180),
            max_udp_sessions: 65_536,
            max_trailers: 16 << 10,
            max_trailer_fields: 64,
            h2_max_streams: 128,
            h2_stream_window: 64 << 10,
            h2_connection_window: 1 << 20,
            h2_max_header_list: 64 << 10,
            h2_max_send_buffer: 1 << 20,
            max_retry_body: 64 << 10,
            drain_timeout: Duration::from_secs(30),
            listener_drain_timeout: Duration::from_secs(300),
            max_connections: 0,
            max_connections_per_client: 0,
            max_idle_per_endpoint: 64,
            access_log: None,
            elsewhere: Elsewhere::default(),
        }
    }
}
