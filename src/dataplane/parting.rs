//! How a connection ends so that the client can read the last word.
//!
//! Closing while bytes of the client are unread resets the connection, and a reset may overtake the answer. So the own
//! side is shut down first, and what the client still sends is thrown away for a while (RFC 9112, section 9.6).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncWrite, ReadBuf};

use super::transport::Transport;

/// What a client may still send after the last word.
const LINGER: usize = 256 << 10;

/// How far the end of a connection has come.
pub enum Parting {
    No,
    Speaking { word: Vec<u8>, at: usize },
    ShuttingDown { patient: bool },
    Lingering { left: usize, patient: bool },
    Over,
}

impl Parting {
    /// Says `word`, then ends.
    pub fn speak(word: Vec<u8>) -> Parting {
        Parting::Speaking { word, at: 0 }
    }

    /// Ready when it is over, or was never begun. How long it may take is the sweep's business.
    pub fn poll(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match self {
                Parting::Speaking { word, at } if *at < word.len() => {
                    match ready!(Pin::new(&mut *transport).poll_write(cx, &word[*at..])) {
                        Ok(written @ 1..) => {
                            *at += written;
                            continue;
                        }
                        _ => Parting::Over,
                    }
                }
                Parting::Speaking { word, .. } => Parting::ShuttingDown { patient: !word.is_empty() },
                Parting::ShuttingDown { patient } => match ready!(Pin::new(&mut *transport).poll_shutdown(cx)) {
                    Ok(()) => Parting::Lingering { left: LINGER, patient: *patient },
                    Err(_) => Parting::Over,
                },
                Parting::Lingering { left, patient } => {
                    let mut buffer = [0; 4096];
                    let mut buf = ReadBuf::new(&mut buffer);
                    match transport.poll_read(cx, &mut buf) {
                        Poll::Pending if *patient => return Poll::Pending,
                        Poll::Ready(Ok(())) if !buf.filled().is_empty() && *left > buf.filled().len() => {
                            Parting::Lingering { left: *left - buf.filled().len(), patient: true }
                        }
                        _ => Parting::Over,
                    }
                }
                Parting::No | Parting::Over => return Poll::Ready(()),
            }
        }
    }
}

/// An answer without a body for a head that hyper did not get to see whole.
pub fn refusal(status: &str) -> Vec<u8> {
    let now = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now());
    let date = now.map(|now| format!("date: {now}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 {status}\r\n{date}content-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}
