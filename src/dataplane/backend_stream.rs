//! The byte stream to a backend, on which an answer is read to its end even when the backend takes no more of the
//! request (RFC 9112, 9.5: a server may answer early and close).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::turn::Wire;

/// After a failed write, what is written goes nowhere, and reading decides how the connection ends: with the answer that
/// was on its way, or with an error.
pub struct BackendStream {
    wire: Wire,
    deaf: bool,
}

impl BackendStream {
    pub fn new(wire: Wire) -> BackendStream {
        BackendStream { wire, deaf: false }
    }

    fn written(&mut self, polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(length))
            }
            polled => polled,
        }
    }
}

impl AsyncRead for BackendStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.written(polled, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        self.written(polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.wire).poll_flush(cx).map_ok(|()| 0);
        self.written(polled, 0).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
