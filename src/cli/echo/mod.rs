//! `gapi echo`: a backend that answers with what it received. For the demo, the examples and first steps.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on the same port, WebSockets and gRPC; TCP and UDP on ports of their
//! own. The answer of HTTP is told by the request:
//!
//! | in the request | in the answer |
//! |---|---|
//! | path `/status/503` | that status |
//! | `?delay=100ms` | comes so much later |
//! | `?body=stream` | the request's body and trailers, as they come |
//! | `?size=1MiB` | a body of so many bytes |
//! | `?header=name:value` | that field, may be repeated |
//! | `?trailer=name:value` | that trailer, may be repeated |

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
};

use super::{Failure, print};

mod answer;
mod grpc;
mod layer4;
mod received;
mod websocket;

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

#[derive(Args, Debug)]
pub struct EchoFlags {
    /// Address for HTTP and gRPC, may be repeated [default: 127.0.0.1:8080, where there is none for TCP or UDP]
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// Address for TCP: a line with the name, then what comes; may be repeated
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    tcp: Vec<SocketAddr>,
    /// Address for UDP: each datagram behind the name and a space; may be repeated
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    udp: Vec<SocketAddr>,
    /// What `environment.HOSTNAME` says, and answers of gRPC (x-hostname), TCP and UDP [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// TCP and UDP without the name
    #[arg(long)]
    plain: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When an address cannot be bound.
pub fn run(flags: EchoFlags) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(flags))
}

async fn serve(flags: EchoFlags) -> Result<ExitCode, Failure> {
    let name: Arc<str> = flags.name.unwrap_or_else(hostname).into();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let http = match flags.listen {
        none if none.is_empty() && flags.tcp.is_empty() && flags.udp.is_empty() => vec![DEFAULT],
        addresses => addresses,
    };
    for address in http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        print(&format!("listening on {}\n", listener.local_addr()?))?;
        tokio::spawn(accept(listener, name.clone()));
    }
    let said = |end: &str| -> Arc<[u8]> {
        if flags.plain { Arc::default() } else { format!("{name}{end}").as_bytes().into() }
    };
    for address in flags.tcp {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (TCP)"))?;
        print(&format!("listening on {} (TCP)\n", listener.local_addr()?))?;
        tokio::spawn(layer4::tcp(listener, said("\n")));
    }
    for address in flags.udp {
        let socket = UdpSocket::bind(address).await.with_context(|| format!("cannot listen on {address} (UDP)"))?;
        print(&format!("listening on {} (UDP)\n", socket.local_addr()?))?;
        tokio::spawn(layer4::udp(socket, said(" ")));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, name.clone()))),
            // Out of file descriptors, mostly: they come back.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// A client that goes away is no event here.
async fn connection(stream: TcpStream, name: Arc<str>) {
    // Answers are small; waiting for more to send would only slow them down.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer::answer(request, name.clone()));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new());
    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or("localhost".to_owned(), |name| name.trim().to_owned())
}
