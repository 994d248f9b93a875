//! The ClientHello of a TLS connection, read before it is known who will answer it: gapi, or a backend to which it goes as
//! it came.

use std::io;

use bytes::BufMut;
use rustls::server::{Accepted, Acceptor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Most bytes of a ClientHello with the records around it. rustls bounds the message itself at 64 KiB.
const MAX_BYTES: usize = 80 << 10;

/// What rustls has room for at once: what comes behind the ClientHello is in its hands then.
const PIECE: usize = 4096;

/// A whole ClientHello.
pub struct Hello {
    pub accepted: Accepted,
    /// All that was read, to the byte.
    pub bytes: Vec<u8>,
}

/// Reads until the ClientHello is whole, however it is cut into records and segments (RFC 8446, section 5.1).
///
/// # Errors
/// It is not one, it is too long, or the client went away; an alert has been sent where there is one for it.
pub async fn read(stream: &mut TcpStream) -> io::Result<Hello> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::with_capacity(2048);
    loop {
        if bytes.len() > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the ClientHello is too long"));
        }
        let mut fed = bytes.len();
        if stream.read_buf(&mut (&mut bytes).limit(PIECE)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while fed < bytes.len() {
            fed += acceptor.read_tls(&mut &bytes[fed..])?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Hello { accepted, bytes }),
            Err((error, mut alert)) => {
                let mut words = Vec::new();
                alert.write_all(&mut words)?;
                stream.write_all(&words).await?;
                stream.shutdown().await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}
