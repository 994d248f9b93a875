//! TCP and UDP: what comes goes back, behind the name of who says it.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Longest datagram of UDP.
const LONGEST: usize = 65_535;

/// Says `greeting` to each client, then gives its bytes back until it ends.
pub(super) async fn tcp(listener: TcpListener, greeting: Arc<[u8]>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(talk(stream, greeting.clone()))),
            // Out of file descriptors, mostly: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A client that goes away is no event here.
async fn talk(mut stream: TcpStream, greeting: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&greeting).await?;
    let (mut from, mut to) = stream.split();
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// Gives each datagram back behind `prefix`, without it where that would be too long.
pub(super) async fn udp(socket: UdpSocket, prefix: Arc<[u8]>) {
    let mut buffer = vec![0; prefix.len() + LONGEST];
    buffer[..prefix.len()].copy_from_slice(&prefix);
    loop {
        // An error is that of an answer before: nobody was there for it.
        let Ok((length, client)) = socket.recv_from(&mut buffer[prefix.len()..]).await else { continue };
        let end = prefix.len() + length;
        if socket.send_to(&buffer[..end], client).await.is_err() {
            _ = socket.send_to(&buffer[prefix.len()..end], client).await;
        }
    }
}
