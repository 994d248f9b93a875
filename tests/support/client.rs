//! A client that sends exactly the bytes it is given and reads answers strictly.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::message::{self, Message};

/// An answer and the interim ones before it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub interim: Vec<u16>,
    pub message: Message,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.message.status()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum NoAnswer {
    /// The connection ended; this many bytes of an answer had come.
    Ended(usize),
    /// Nothing (more) came in time.
    Silent(usize),
    /// What came is not HTTP.
    Garbled(String),
    /// No connection.
    Refused(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub struct Client {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    received: Vec<u8>,
    pub patience: Duration,
    /// The server's own certificate (DER), over TLS.
    pub certificate: Option<Vec<u8>>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Client, NoAnswer> {
        let refused = |error: std::io::Error| NoAnswer::Refused(error.to_string());
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(refused)?;
        socket.set_nodelay(true).map_err(refused)?;
        let stream = Box::new(socket.try_clone().map_err(refused)?);
        Ok(Client { stream, socket, received: Vec::new(), patience: Duration::from_secs(10), certificate: None })
    }

    /// The handshake is done when this returns.
    pub fn tls(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Result<Client, NoAnswer> {
        let mut client = Client::connect(address)?;
        let refused = |error: String| NoAnswer::Refused(error);
        let name = name.to_owned().try_into().map_err(|_| refused(format!("{name} is no server name")))?;
        let mut tls = ClientConnection::new(config.clone(), name).map_err(|error| refused(error.to_string()))?;
        let mut socket = client.socket.try_clone().map_err(|error| refused(error.to_string()))?;
        socket.set_read_timeout(Some(client.patience)).map_err(|error| refused(error.to_string()))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|error| refused(error.to_string()))?;
        }
        client.certificate = tls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        client.stream = Box::new(StreamOwned::new(tls, socket));
        Ok(client)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// No more will be sent.
    pub fn finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("a connected socket has an address")
    }

    pub fn get(&mut self, host: &str, target: &str) -> Result<Answer, NoAnswer> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.answer("GET")
    }

    /// The next final answer, to a request with `method`.
    pub fn answer(&mut self, method: &str) -> Result<Answer, NoAnswer> {
        let start = Instant::now();
        let mut interim = Vec::new();
        let mut ended = false;
        loop {
            match message::answer(&self.received, method, ended).map_err(NoAnswer::Garbled)? {
                message::Read::Whole(message, length) => {
                    self.received.drain(..length);
                    match message.status() {
                        status @ 100..=199 if status != 101 => interim.push(status),
                        _ => return Ok(Answer { interim, message }),
                    }
                    continue;
                }
                message::Read::Part if ended => return Err(NoAnswer::Ended(self.received.len())),
                message::Read::Part => {}
            }
            match self.receive(self.patience.saturating_sub(start.elapsed())) {
                Some(0) => ended = true,
                Some(_) => {}
                None => return Err(NoAnswer::Silent(self.received.len())),
            }
        }
    }

    /// How many bytes came; 0 at the end (a reset is one), none when `limit` has passed.
    pub fn receive(&mut self, limit: Duration) -> Option<usize> {
        let _ = self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))));
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Some(length)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(_) => Some(0),
        }
    }

    /// Does the connection end within `limit`, without another byte?
    pub fn ends(&mut self, limit: Duration) -> bool {
        self.received.is_empty() && self.receive(limit) == Some(0)
    }

    /// What came and was not asked for yet.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    pub fn take(&mut self, length: usize) -> Vec<u8> {
        self.received.drain(..length).collect()
    }
}
