//! The connection below HTTP: TCP, or TLS over it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::turn::Wire;

/// A head and a short body go into one TLS record.
const SHORT: usize = 2048;

/// Where a client's bytes come from and go to.
pub enum Transport {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

impl Transport {
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(wire) => Pin::new(wire).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Transport::Plain(wire) => Pin::new(wire).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Transport::Plain(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) if bufs.len() > 1 && bufs.iter().map(|buf| buf.len()).sum::<usize>() <= SHORT => {
                let mut together = [0; SHORT];
                let mut length = 0;
                for buf in bufs {
                    together[length..length + buf.len()].copy_from_slice(buf);
                    length += buf.len();
                }
                Pin::new(stream).poll_write(cx, &together[..length])
            }
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Transport::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Transport::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
