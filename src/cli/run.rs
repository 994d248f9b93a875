//! `gapi run`: the flags of the daemon. Each has a `GAPI_…` variable of its name; the flag wins.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::PathBuf,
};

use clap::{
    ArgMatches, Args, CommandFactory, ValueEnum,
    builder::{BoolishValueParser, RangedU64ValueParser},
    parser::ValueSource,
};
use ipnet::IpNet;

use super::{
    Cli,
    quantity::{Size, Span, some, window},
};
use crate::{
    certificate::{EngineOptions, Resolvers, nameserver},
    dataplane::{Settings, elsewhere::Elsewhere},
    graph::issuance::CLUSTER_RESOURCE_NAMESPACE,
    manifest::span::Bounds,
    observe::log,
    view::Setting,
};

/// What the daemon is started with.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub config_dir: PathBuf,
    pub state_dir: PathBuf,
    pub runtime_dir: PathBuf,
    /// What Gateways without `spec.addresses` are bound to; empty: every address of the machine.
    pub addresses: Vec<IpAddr>,
    /// Gives each Gateway an address of its own; never together with `addresses`.
    pub address_pool: Option<IpNet>,
    /// Issuance.
    pub issuance: EngineOptions,
    /// None: one for each core.
    pub workers: Option<NonZeroUsize>,
    /// File of prefixes that are not served.
    pub deny_list: Option<PathBuf>,
    /// The kernel path.
    pub kernel: KernelOptions,
    /// Bounds on manifests.
    pub bounds: Bounds,
    /// What [`log::init`] takes.
    pub log_level: String,
    /// Bounds and deadlines of the data plane.
    pub settings: Settings,
    /// Every flag with its value and where it came from, for [`crate::view::View::settings`].
    pub in_force: Vec<Setting>,
}

#[derive(Args, Debug)]
pub struct RunFlags {
    /// Directory of manifests
    #[arg(long, env = "GAPI_CONFIG_DIR", default_value = "/etc/gapi", value_name = "DIR")]
    config_dir: PathBuf,
    /// Where accepted objects and certificates are kept
    #[arg(long, env = "GAPI_STATE_DIR", default_value = "/var/lib/gapi", value_name = "DIR")]
    state_dir: PathBuf,
    /// Where the admin socket and the status files are
    #[arg(long, env = "GAPI_RUNTIME_DIR", default_value = "/run/gapi", value_name = "DIR")]
    runtime_dir: PathBuf,
    /// Address to serve Gateways on, may be repeated [default: every address]
    #[arg(long, env = "GAPI_ADDRESS", value_name = "IP", value_delimiter = ',')]
    address: Vec<IpAddr>,
    /// Give each Gateway an address of its own out of this network
    #[arg(long, env = "GAPI_ADDRESS_POOL", value_name = "CIDR", conflicts_with = "address", value_parser = network)]
    address_pool: Option<IpNet>,
    /// Threads that serve traffic [default: one for each core]
    #[arg(long, env = "GAPI_WORKERS", value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// File of networks that are not served, one to a line; followed as it changes [default: none]
    #[arg(long, env = "GAPI_DENY_LIST", value_name = "FILE")]
    deny_list: Option<PathBuf>,
    /// error, warn, info, debug, trace, or directives such as info,gapi::publish=debug
    #[arg(long, env = "GAPI_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = log_level)]
    log_level: String,
    #[command(flatten)]
    kernel: KernelFlags,
    #[command(flatten)]
    issuance: IssuanceFlags,
    #[command(flatten)]
    parse: ParseFlags,
    #[command(flatten)]
    traffic: TrafficFlags,
}

/// What is to be done of the kernel path.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    pub use_: KernelUse,
    /// Source ports toward backends.
    pub ports: RangeInclusive<u16>,
    /// Room in the table of connections.
    pub connections: u32,
    /// Listeners (`namespace/gateway/listener`) whose backends see the client's address.
    pub keep_client: Vec<String>,
}

/// When TCP and UDP traffic to other machines goes through eBPF programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum KernelUse {
    /// When there is any, and the kernel and the privileges are there for it
    Auto,
    /// Never: no eBPF program is loaded
    Off,
    /// Always: no start without
    Require,
}

/// TCP and UDP traffic to other machines.
#[derive(Args, Debug)]
#[command(next_help_heading = "Kernel path")]
struct KernelFlags {
    /// TCP and UDP to other machines through eBPF: where it can be, never, or no start without
    #[arg(long, env = "GAPI_KERNEL", default_value = "auto", value_name = "WHEN")]
    kernel: KernelUse,
    /// Source ports of its own toward backends
    #[arg(long, env = "GAPI_KERNEL_PORTS", default_value = "61000-65535", value_name = "LOW-HIGH", value_parser = ports)]
    kernel_ports: RangeInclusive<u16>,
    /// Connections that the kernel path remembers
    #[arg(long, env = "GAPI_KERNEL_CONNECTIONS", default_value_t = 131_072, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    kernel_connections: u32,
    /// Listener whose backends see the client's address and route back through this machine, may be repeated [default: none]
    #[arg(long, env = "GAPI_KERNEL_KEEP_CLIENT", value_name = "NAMESPACE/GATEWAY/LISTENER", value_delimiter = ',')]
    kernel_keep_client: Vec<String>,
}

/// A range of ports: `61000-65535`.
fn ports(written: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let ends = written.split_once('-').and_then(|(low, high)| Some((port(low)?, port(high)?)));
    match ends {
        Some((low, high)) if low <= high => Ok(low..=high),
        _ => Err("write the first and the last port, such as 61000-65535".to_owned()),
    }
}

/// Certificates made here.
#[derive(Args, Debug)]
#[command(next_help_heading = "Certificates")]
struct IssuanceFlags {
    /// Where the Secrets are that a ClusterIssuer names
    #[arg(long, env = "GAPI_CLUSTER_RESOURCE_NAMESPACE", default_value = CLUSTER_RESOURCE_NAMESPACE, value_name = "NAMESPACE")]
    cluster_resource_namespace: String,
    /// Where HTTP-01 challenges come in; another one only where something in front sends port 80 there
    #[arg(long, env = "GAPI_ACME_HTTP_PORT", default_value_t = 80, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    acme_http_port: u16,
    /// Resolvers that are asked about DNS-01 challenges, in place of the system's
    #[arg(
        long,
        env = "GAPI_DNS01_RECURSIVE_NAMESERVERS",
        value_name = "ADDRESS[:PORT]",
        value_delimiter = ',',
        value_parser = nameserver
    )]
    dns01_recursive_nameservers: Vec<SocketAddr>,
    /// Look for DNS-01 records at the resolvers alone, not at the servers of the zone
    #[arg(long, env = "GAPI_DNS01_RECURSIVE_NAMESERVERS_ONLY", value_parser = BoolishValueParser::new())]
    dns01_recursive_nameservers_only: bool,
}

/// Bounds on manifests.
#[derive(Args, Debug)]
#[command(next_help_heading = "Bounds on manifests")]
pub(super) struct ParseFlags {
    /// Size of a file
    #[arg(long, env = "GAPI_MAX_FILE_SIZE", default_value = "32MiB", value_name = "SIZE")]
    max_file_size: Size,
    /// Values in a file, with aliases counted as what they expand to
    #[arg(long, env = "GAPI_MAX_NODES", default_value_t = 2_000_000, value_name = "N")]
    max_nodes: usize,
    /// Documents in a file
    #[arg(long, env = "GAPI_MAX_DOCUMENTS", default_value_t = 100_000, value_name = "N")]
    max_documents: usize,
    /// Values within values
    #[arg(long, env = "GAPI_MAX_DEPTH", default_value_t = 100, value_name = "N")]
    max_depth: usize,
}

impl ParseFlags {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            bytes: self.max_file_size.0,
            nodes: self.max_nodes,
            documents: self.max_documents,
            depth: self.max_depth,
        }
    }
}

/// A flag for each field of [`Settings`], with the default that stands there.
#[derive(Args, Debug)]
#[command(next_help_heading = "Bounds and deadlines of traffic")]
struct TrafficFlags {
    /// Peers whose X-Forwarded-* and Forwarded fields are believed, may be repeated
    #[arg(long, env = "GAPI_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    trusted_proxy: Vec<IpNet>,
    /// Keep repeated slashes in request paths
    #[arg(long, env = "GAPI_KEEP_REPEATED_SLASHES", value_parser = BoolishValueParser::new())]
    keep_repeated_slashes: bool,
    /// Request line and fields together: 431
    #[arg(long, env = "GAPI_MAX_HEAD", default_value_t = Size(Settings::default().max_head), value_name = "SIZE", value_parser = some::<Size>)]
    max_head: Size,
    /// Request line: 414
    #[arg(long, env = "GAPI_MAX_REQUEST_LINE", default_value_t = Size(Settings::default().max_request_line), value_name = "SIZE", value_parser = some::<Size>)]
    max_request_line: Size,
    /// Fields of a head: 431
    #[arg(long, env = "GAPI_MAX_FIELDS", default_value_t = Settings::default().max_fields, value_name = "N")]
    max_fields: usize,
    /// From the first byte of a head to its end: 408
    #[arg(long, env = "GAPI_HEAD_TIMEOUT", default_value_t = Span(Settings::default().head_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    head_timeout: Span,
    /// Idle connections from clients
    #[arg(long, env = "GAPI_CLIENT_IDLE_TIMEOUT", default_value_t = Span(Settings::default().client_idle_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    client_idle_timeout: Span,
    /// Idle connections to backends; shorter than the backends' own
    #[arg(long, env = "GAPI_BACKEND_IDLE_TIMEOUT", default_value_t = Span(Settings::default().backend_idle_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    backend_idle_timeout: Span,
    /// TLS handshake of a client
    #[arg(long, env = "GAPI_TLS_HANDSHAKE_TIMEOUT", default_value_t = Span(Settings::default().tls_handshake_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    tls_handshake_timeout: Span,
    /// Connect to a backend
    #[arg(long, env = "GAPI_CONNECT_TIMEOUT", default_value_t = Span(Settings::default().connect_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    connect_timeout: Span,
    /// No byte in either direction while a message is under way
    #[arg(long, env = "GAPI_STALL_TIMEOUT", default_value_t = Span(Settings::default().stall_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    stall_timeout: Span,
    /// The same for calls of gRPC
    #[arg(long, env = "GAPI_GRPC_IDLE_TIMEOUT", default_value_t = Span(Settings::default().grpc_idle_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    grpc_idle_timeout: Span,
    /// The same for WebSockets and CONNECT streams
    #[arg(long, env = "GAPI_UPGRADE_IDLE_TIMEOUT", default_value_t = Span(Settings::default().upgrade_idle_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    upgrade_idle_timeout: Span,
    /// No byte in either direction over a connection of a TCP or TLS listener
    #[arg(long, env = "GAPI_TCP_IDLE_TIMEOUT", default_value_t = Span(Settings::default().tcp_idle_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    tcp_idle_timeout: Span,
    /// No datagram in a UDP session
    #[arg(long, env = "GAPI_UDP_IDLE_TIMEOUT", default_value_t = Span(Settings::default().udp_idle_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    udp_idle_timeout: Span,
    /// The same once both sides have spoken
    #[arg(long, env = "GAPI_UDP_STREAM_TIMEOUT", default_value_t = Span(Settings::default().udp_stream_timeout), value_name = "DURATION", value_parser = some::<Span>)]
    udp_stream_timeout: Span,
    /// UDP sessions of all clients; beyond it the one that was silent for longest ends
    #[arg(long, env = "GAPI_MAX_UDP_SESSIONS", default_value_t = Settings::default().max_udp_sessions, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_udp_sessions: usize,
    /// Trailers of a message
    #[arg(long, env = "GAPI_MAX_TRAILERS", default_value_t = Size(Settings::default().max_trailers), value_name = "SIZE")]
    max_trailers: Size,
    /// Fields in them
    #[arg(long, env = "GAPI_MAX_TRAILER_FIELDS", default_value_t = Settings::default().max_trailer_fields, value_name = "N")]
    max_trailer_fields: usize,
    /// Streams of an HTTP/2 connection
    #[arg(long, env = "GAPI_H2_MAX_STREAMS", default_value_t = Settings::default().h2_max_streams, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    h2_max_streams: u32,
    /// Window of an HTTP/2 stream
    #[arg(long, env = "GAPI_H2_STREAM_WINDOW", default_value_t = Size(Settings::default().h2_stream_window as usize), value_name = "SIZE", value_parser = window)]
    h2_stream_window: Size,
    /// Window of an HTTP/2 connection
    #[arg(long, env = "GAPI_H2_CONNECTION_WINDOW", default_value_t = Size(Settings::default().h2_connection_window as usize), value_name = "SIZE", value_parser = window)]
    h2_connection_window: Size,
    /// Decoded fields of an HTTP/2 head
    #[arg(long, env = "GAPI_H2_MAX_HEADER_LIST", default_value_t = Size(Settings::default().h2_max_header_list as usize), value_name = "SIZE", value_parser = window)]
    h2_max_header_list: Size,
    /// What waits for an HTTP/2 client that does not read, for each connection
    #[arg(long, env = "GAPI_H2_MAX_SEND_BUFFER", default_value_t = Size(Settings::default().h2_max_send_buffer), value_name = "SIZE")]
    h2_max_send_buffer: Size,
    /// Bodies up to this size are kept for sending again or mirroring
    #[arg(long, env = "GAPI_MAX_RETRY_BODY", default_value_t = Size(Settings::default().max_retry_body), value_name = "SIZE")]
    max_retry_body: Size,
    /// For requests in flight after SIGTERM
    #[arg(long, env = "GAPI_DRAIN_TIMEOUT", default_value_t = Span(Settings::default().drain_timeout), value_name = "DURATION")]
    drain_timeout: Span,
    /// For connections whose listener is gone
    #[arg(long, env = "GAPI_LISTENER_DRAIN_TIMEOUT", default_value_t = Span(Settings::default().listener_drain_timeout), value_name = "DURATION")]
    listener_drain_timeout: Span,
    /// Connections of all clients; 0: as the limit of file descriptors allows
    #[arg(long, env = "GAPI_MAX_CONNECTIONS", default_value_t = Settings::default().max_connections, value_name = "N")]
    max_connections: usize,
    /// Connections of one client address; 0: no bound
    #[arg(long, env = "GAPI_MAX_CONNECTIONS_PER_CLIENT", default_value_t = Settings::default().max_connections_per_client, value_name = "N")]
    max_connections_per_client: usize,
    /// Idle connections that one worker keeps to one endpoint
    #[arg(long, env = "GAPI_MAX_IDLE_PER_ENDPOINT", default_value_t = Settings::default().max_idle_per_endpoint, value_name = "N")]
    max_idle_per_endpoint: usize,
    /// Write a JSON line for each request to this file, `-` for standard output [default: off]
    #[arg(long, env = "GAPI_ACCESS_LOG", value_name = "PATH")]
    access_log: Option<String>,
}

impl RunFlags {
    /// `matches` are those of the subcommand: they know where each value came from.
    pub fn options(self, matches: &ArgMatches) -> RunOptions {
        RunOptions {
            config_dir: self.config_dir,
            state_dir: self.state_dir,
            runtime_dir: self.runtime_dir,
            addresses: self.address,
            address_pool: self.address_pool,
            issuance: EngineOptions {
                cluster_namespace: self.issuance.cluster_resource_namespace,
                http_port: self.issuance.acme_http_port,
                resolvers: Resolvers {
                    recursive: self.issuance.dns01_recursive_nameservers,
                    only: self.issuance.dns01_recursive_nameservers_only,
                },
            },
            workers: self.workers,
            deny_list: self.deny_list,
            kernel: KernelOptions {
                use_: self.kernel.kernel,
                ports: self.kernel.kernel_ports,
                connections: self.kernel.kernel_connections,
                keep_client: self.kernel.kernel_keep_client,
            },
            bounds: self.parse.bounds(),
            log_level: self.log_level,
            settings: self.traffic.settings(),
            in_force: in_force(matches),
        }
    }
}

impl TrafficFlags {
    fn settings(self) -> Settings {
        let narrow = |size: Size| u32::try_from(size.0).expect("`window` let it pass");
        Settings {
            trusted_proxies: self.trusted_proxy,
            keep_repeated_slashes: self.keep_repeated_slashes,
            max_head: self.max_head.0,
            max_request_line: self.max_request_line.0,
            max_fields: self.max_fields,
            head_timeout: self.head_timeout.0,
            client_idle_timeout: self.client_idle_timeout.0,
            backend_idle_timeout: self.backend_idle_timeout.0,
            tls_handshake_timeout: self.tls_handshake_timeout.0,
            connect_timeout: self.connect_timeout.0,
            stall_timeout: self.stall_timeout.0,
            grpc_idle_timeout: self.grpc_idle_timeout.0,
            upgrade_idle_timeout: self.upgrade_idle_timeout.0,
            tcp_idle_timeout: self.tcp_idle_timeout.0,
            udp_idle_timeout: self.udp_idle_timeout.0,
            udp_stream_timeout: self.udp_stream_timeout.0,
            max_udp_sessions: self.max_udp_sessions,
            max_trailers: self.max_trailers.0,
            max_trailer_fields: self.max_trailer_fields,
            h2_max_streams: self.h2_max_streams,
            h2_stream_window: narrow(self.h2_stream_window),
            h2_connection_window: narrow(self.h2_connection_window),
            h2_max_header_list: narrow(self.h2_max_header_list),
            h2_max_send_buffer: self.h2_max_send_buffer.0,
            max_retry_body: self.max_retry_body.0,
            drain_timeout: self.drain_timeout.0,
            listener_drain_timeout: self.listener_drain_timeout.0,
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            max_idle_per_endpoint: self.max_idle_per_endpoint,
            access_log: self.access_log,
            // The daemon says, when it has a kernel path.
            elsewhere: Elsewhere::default(),
        }
    }
}

/// Every flag of `gapi run`, in the order of the help page.
fn in_force(matches: &ArgMatches) -> Vec<Setting> {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("`run` is a subcommand");
    let flags = run.get_arguments().filter_map(|arg| Some((arg.get_id().as_str(), arg.get_long()?)));
    flags.map(|(id, name)| setting(matches, id, name)).collect()
}

fn setting(matches: &ArgMatches, id: &str, name: &str) -> Setting {
    let source = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        _ => "default",
    };
    let values = matches.get_raw(id).into_iter().flatten();
    let value = values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
    Setting { name: name.to_owned(), value, source: source.to_owned() }
}

/// A network, or an address for the network of that one.
fn network(text: &str) -> Result<IpNet, String> {
    let address = |text: &str| text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address(text)).map_err(|_| "write it like 192.0.2.0/24 or 192.0.2.1".to_owned())
}

fn log_level(text: &str) -> Result<String, String> {
    log::check(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    fn options(words: &[&str]) -> Result<RunOptions, clap::Error> {
        let command = <RunFlags as Args>::augment_args(clap::Command::new("run"));
        let matches = command.try_get_matches_from([&["run"], words].concat())?;
        Ok(RunFlags::from_arg_matches(&matches)?.options(&matches))
    }

    #[test]
    fn without_flags_the_data_plane_has_its_own_defaults() {
        let options = options(&[]).expect("no flag is required");
        assert_eq!(format!("{:?}", options.settings), format!("{:?}", Settings::default()));
        assert_eq!(options.bounds, Bounds::default());
        let shown = options.in_force.iter().find(|setting| setting.name == "max-head").expect("is a flag");
        assert_eq!((shown.value.as_str(), shown.source.as_str()), ("60KiB", "default"));
        let shown = options.in_force.iter().find(|setting| setting.name == "head-timeout").expect("is a flag");
        assert_eq!(shown.value, "10s");
        let shown = options.in_force.iter().find(|setting| setting.name == "keep-repeated-slashes").expect("is a flag");
        assert_eq!(shown.value, "false");
    }

    #[test]
    fn flags_reach_the_settings() {
        let words = [
            "--address=127.0.0.1,::1",
            "--address=127.0.0.2",
            "--max-head=16KiB",
            "--head-timeout=1s500ms",
            "--trusted-proxy=10.0.0.0/8,192.0.2.1",
            "--keep-repeated-slashes",
            "--h2-stream-window=1MiB",
            "--workers=3",
            "--tcp-idle-timeout=1m1s",
            "--udp-idle-timeout=2s",
            "--udp-stream-timeout=3s",
            "--max-udp-sessions=4",
        ];
        let options = options(&words).expect("are right");
        assert_eq!(options.addresses.len(), 3);
        assert_eq!(options.settings.max_head, 16 << 10);
        assert_eq!(options.settings.head_timeout.as_millis(), 1500);
        assert_eq!(options.settings.trusted_proxies[1].to_string(), "192.0.2.1/32");
        assert!(options.settings.keep_repeated_slashes);
        assert_eq!(options.settings.h2_stream_window, 1 << 20);
        assert_eq!(options.workers.map(NonZeroUsize::get), Some(3));
        let Settings { tcp_idle_timeout, udp_idle_timeout, udp_stream_timeout, max_udp_sessions, .. } =
            options.settings;
        assert_eq!([tcp_idle_timeout, udp_idle_timeout, udp_stream_timeout].map(|time| time.as_secs()), [61, 2, 3]);
        assert_eq!(max_udp_sessions, 4);
        let shown = options.in_force.iter().find(|setting| setting.name == "address").expect("is a flag");
        assert_eq!((shown.value.as_str(), shown.source.as_str()), ("127.0.0.1,::1,127.0.0.2", "flag"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for words in [
            &["--workers=0"][..],
            &["--address=127.0.0.1", "--address-pool=127.0.1.0/24"],
            &["--head-timeout=10"],
            &["--head-timeout=0s"],
            &["--max-head=0"],
            &["--h2-stream-window=4GiB"],
            &["--log-level=gapi=loud"],
            &["--address=localhost"],
            &["--udp-idle-timeout=0s"],
            &["--max-udp-sessions=0"],
        ] {
            assert!(options(words).is_err(), "{words:?}");
        }
    }
}
