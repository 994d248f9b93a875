//! The ClientHello of a TLS connection, read before it is known who will answer it: gapi, or a backend to which it goes as
//! it came.

use std::{io, time::Duration};

use bytes::BufMut;
use rustls::server::{Accepted, Acceptor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Most bytes of a ClientHello with the records around it. rustls bounds the message itself at 64 KiB.
const MAX_BYTES: usize = 80 << 10;

/// What rustls has room for at once: what comes behind the ClientHello is in its hands then.
pub const PIECE: usize = 4096;

/// Alerts of RFC 8446, section 6.2.
const UNEXPECTED_MESSAGE: u8 = 10;
const DECODE_ERROR: u8 = 50;

/// How long, and how much, what a refused client still sends is read: a reset would take the alert from it.
const LINGER: Duration = Duration::from_secs(1);
const LINGERING_BYTES: u64 = 1 << 20;

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
    let mut reading = Reading::default();
    let mut bytes = Vec::with_capacity(2048);
    loop {
        let known = bytes.len();
        if stream.read_buf(&mut (&mut bytes).limit(PIECE)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match reading.feed(&bytes[known..]) {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Hello { accepted, bytes }),
            Err(Refusal { error, alert }) => {
                last_word(stream, &alert).await?;
                return Err(error);
            }
        }
    }
}

/// Sends a fatal alert in the clear (no key has been agreed on yet), and ends the connection.
///
/// # Errors
/// It could not be sent.
pub async fn alert(stream: &mut TcpStream, alert: u8) -> io::Result<()> {
    last_word(stream, &record(alert)).await
}

async fn last_word(stream: &mut TcpStream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words).await?;
    stream.shutdown().await?;
    let mut left = stream.take(LINGERING_BYTES);
    // Whoever says more has been told all the same.
    _ = timeout(LINGER, tokio::io::copy(&mut left, &mut tokio::io::sink())).await;
    Ok(())
}

fn record(alert: u8) -> Vec<u8> {
    const FATAL: u8 = 2;
    vec![21, 3, 3, 0, 2, FATAL, alert]
}

/// A ClientHello of which some has come.
#[derive(Default)]
pub struct Reading {
    acceptor: Acceptor,
    length: usize,
}

/// What is said to a client that sends no ClientHello.
#[derive(Debug)]
pub struct Refusal {
    pub error: io::Error,
    /// With its record.
    pub alert: Vec<u8>,
}

impl Reading {
    /// Takes what has come, at most [`PIECE`] bytes; the ClientHello when it is whole. Not to be called again after it, or
    /// after a refusal.
    ///
    /// # Errors
    /// It is no ClientHello, or too long.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Accepted>, Refusal> {
        let too_long = |error| Refusal { error, alert: record(DECODE_ERROR) };
        self.length += bytes.len();
        if self.length > MAX_BYTES {
            return Err(too_long(io::Error::new(io::ErrorKind::InvalidData, "the ClientHello is too long")));
        }
        while !bytes.is_empty() {
            self.acceptor.read_tls(&mut bytes).map_err(too_long)?;
        }
        self.acceptor.accept().map_err(|(error, mut written)| {
            let mut alert = Vec::new();
            // Into memory, which does not fail.
            _ = written.write_all(&mut alert);
            if alert.is_empty() {
                alert = record(UNEXPECTED_MESSAGE);
            }
            Refusal { error: io::Error::new(io::ErrorKind::InvalidData, error), alert }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};

    use super::*;

    /// The handshake message of a client that asks for `name`.
    fn hello(name: &str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut bytes = Vec::new();
        let mut client = ClientConnection::new(Arc::new(config), name).expect("valid");
        client.write_tls(&mut bytes).expect("into memory");
        let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        assert_eq!(bytes.len(), 5 + length, "one record");
        bytes.split_off(5)
    }

    fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
        let mut lengths = lengths.iter().copied().cycle();
        let mut rest = message;
        let mut bytes = Vec::new();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(lengths.next().expect("cycles").min(rest.len()));
            bytes.extend([22, 3, 1]);
            bytes.extend((part.len() as u16).to_be_bytes());
            bytes.extend(part);
            rest = after;
        }
        bytes
    }

    /// The name in what is fed in pieces of `lengths`; how many bytes it took.
    fn read_in(bytes: &[u8], lengths: &[usize]) -> Result<Option<(String, usize)>, Refusal> {
        let mut reading = Reading::default();
        let mut lengths = lengths.iter().copied().cycle();
        let mut fed = 0;
        while fed < bytes.len() {
            let end = bytes.len().min(fed + lengths.next().expect("cycles").min(PIECE));
            let accepted = reading.feed(&bytes[fed..end])?;
            fed = end;
            if let Some(accepted) = accepted {
                let name = accepted.client_hello().server_name().unwrap_or_default().to_owned();
                return Ok(Some((name, fed)));
            }
        }
        Ok(None)
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(prop_oneof![1..4usize, 1..2000usize], 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_cut_gives_the_same_name(of_records in lengths(), of_pieces in lengths(), label in "[a-z][a-z0-9]{0,40}") {
            let name = format!("{label}.test");
            let bytes = records(&hello(&name), &of_records);
            let read = read_in(&bytes, &of_pieces);
            prop_assert!(matches!(&read, Ok(Some((read, fed))) if *read == name && *fed <= bytes.len()), "{read:?}");
            let read = read_in(&bytes[..bytes.len() - 1], &of_pieces);
            prop_assert!(matches!(&read, Ok(None)), "it is not whole: {read:?}");
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..2000), of_pieces in lengths()) {
            let _ = read_in(&bytes, &of_pieces);
            // As a record of handshake messages, and as a message that says what it is.
            let _ = read_in(&records(&bytes, &of_pieces), &of_pieces);
            let message = [&[1, 0], &(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
            let _ = read_in(&records(&message, &[16_000]), &of_pieces);
        }

        #[test]
        fn a_hello_with_broken_bytes_comes_to_an_end(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut message = hello("x.test");
            let at = at.index(message.len());
            message[at] = byte;
            let _ = read_in(&records(&message, &[500]), &[PIECE]);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_with_an_alert() {
        for length in [65_536u32, 70_000, 0xff_ffff] {
            let message = [&[1], &length.to_be_bytes()[1..], &vec![0; 100 << 10]].concat();
            for record in [1, 200, 16_000] {
                let refused = read_in(&records(&message, &[record]), &[PIECE]).expect_err("it is too long");
                assert_eq!((refused.alert.len(), refused.alert[0]), (7, 21), "{length} {record}");
            }
        }
    }
}
