//! `gapi echo`: a backend that answers with what it received. For the demo, the examples and first steps.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on the same port, and WebSockets. The answer is told by the request:
//!
//! | in the request | in the answer |
//! |---|---|
//! | path `/status/503` | that status |
//! | `?delay=100ms` | comes so much later |
//! | `?body=stream` | the request's body and trailers, as they come |
//! | `?size=1MiB` | a body of so many bytes |
//! | `?header=name:value` | that field, may be repeated |
//! | `?trailer=name:value` | that trailer, may be repeated |

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Args;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use super::{Failure, print};

mod answer;
mod received;
mod websocket;

#[derive(Args, Debug)]
pub struct EchoFlags {
    /// Address to listen on, may be repeated
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// What `environment.HOSTNAME` says [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
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
    for address in flags.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        print(&format!("listening on {}\n", listener.local_addr()?))?;
        tokio::spawn(accept(listener, name.clone()));
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
