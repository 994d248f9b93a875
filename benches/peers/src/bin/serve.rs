//! The backends of the rows beside plain HTTP: `serve PROTOCOL LISTEN`, where PROTOCOL is
//!
//! - `grpc`: answers each call with a message of its own, and status 0,
//! - `tcp`, `udp`: gives back what it gets,
//! - `bulk`: sends as much as the client takes,
//! - `sink`: takes as much as the client sends.

use std::{env, error::Error, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Builder,
    task::{LocalSet, spawn_local},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(protocol), Some(listen)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve grpc|tcp|bulk|sink|udp LISTEN".into());
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(protocol, listen.parse()?))
}

async fn serve(protocol: String, listen: SocketAddr) -> Result<()> {
    if protocol == "udp" {
        return datagrams(UdpSocket::bind(listen).await?).await;
    }
    let listener = TcpListener::bind(listen).await?;
    let protocol = Rc::new(protocol);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let protocol = protocol.clone();
        // A client that goes away ends its connection and nothing else.
        spawn_local(async move {
            _ = match protocol.as_str() {
                "grpc" => calls(stream).await,
                "bulk" => bulk(stream).await,
                "sink" => sink(stream).await,
                _ => echo(stream).await,
            };
        });
    }
}

async fn datagrams(socket: UdpSocket) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        _ = socket.send_to(&buffer[..length], from).await;
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

async fn bulk(mut stream: TcpStream) -> Result<()> {
    let block = vec![b'x'; 256 << 10];
    loop {
        stream.write_all(&block).await?;
    }
}

async fn sink(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn calls(stream: TcpStream) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        spawn_local(async move { _ = answer(request, respond).await });
    }
    Ok(())
}

/// One message, whatever was asked.
async fn answer(request: Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>) -> Result<()> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut stream = respond.send_response(head, false)?;
    const MESSAGE: &[u8; 133] = &{
        let mut message = [b'x'; 133];
        (message[0], message[1], message[2], message[3], message[4]) = (0, 0, 0, 0, 128);
        message
    };
    stream.send_data(Bytes::from_static(MESSAGE), false)?;
    stream.send_trailers(HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from_static("0"))]))?;
    Ok(())
}
