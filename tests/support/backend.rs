//! A backend that keeps every byte it is sent, takes it apart strictly, and answers as the test says.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::message::{self, Message};

/// What a backend does when a request is whole.
pub enum Reply {
    /// These bytes, and on with the connection.
    Bytes(Vec<u8>),
    /// These bytes, and no more.
    Close(Vec<u8>),
}

impl Reply {
    pub fn ok(body: &str) -> Reply {
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

/// One connection that the backend took.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Every byte that came.
    pub bytes: Vec<u8>,
    /// The whole requests among them.
    pub messages: Vec<Message>,
    /// Why what came is no HTTP/1.1 that all would read the same way.
    pub fault: Option<String>,
    /// Bytes behind the last whole request.
    pub unfinished: usize,
    pub closed: bool,
}

/// Stops listening when dropped.
pub struct Backend {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
    stopped: Arc<AtomicBool>,
}

impl Backend {
    /// Answers each whole request by `reply`, which also gets the connection's number.
    pub fn start(reply: impl Fn(&Message, usize) -> Reply + Send + Sync + 'static) -> Backend {
        Backend::raw(move |stream, number, backend| converse(stream, number, backend, &reply))
    }

    /// Answers 200 with `name`.
    pub fn named(name: &'static str) -> Backend {
        Backend::start(move |_, _| Reply::ok(name))
    }

    /// Hands each connection to `serve` on a thread of its own.
    pub fn raw(serve: impl Fn(TcpStream, usize, &Handle) + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let handle = Handle { connections: Arc::default(), stopped: Arc::default() };
        let backend = Backend { address, connections: handle.connections.clone(), stopped: handle.stopped.clone() };
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if handle.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let number = handle.open();
                let (serve, handle) = (serve.clone(), handle.clone());
                thread::spawn(move || serve(stream, number, &handle));
            }
        });
        backend
    }

    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.connections).clone()
    }

    /// The whole requests of all connections.
    pub fn messages(&self) -> Vec<Message> {
        self.connections().into_iter().flat_map(|connection| connection.messages).collect()
    }

    /// Forgets what it has seen on connections that are at rest.
    pub fn forget(&self) {
        for connection in lock(&self.connections).iter_mut() {
            connection.bytes.clear();
            connection.messages.clear();
            connection.fault = None;
            connection.unfinished = 0;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// What the threads of a backend share.
#[derive(Clone)]
pub struct Handle {
    connections: Arc<Mutex<Vec<Connection>>>,
    stopped: Arc<AtomicBool>,
}

impl Handle {
    fn open(&self) -> usize {
        let mut connections = lock(&self.connections);
        connections.push(Connection::default());
        connections.len() - 1
    }

    /// Changes the record of a connection.
    pub fn note(&self, number: usize, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = lock(&self.connections).get_mut(number) {
            change(connection);
        }
    }

    /// The next bytes; none at the end of the connection or of the test.
    pub fn read(&self, stream: &mut TcpStream, number: usize) -> Option<Vec<u8>> {
        let mut buffer = [0; 16 << 10];
        stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        while !self.stopped.load(Ordering::SeqCst) {
            match stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => {
                    self.note(number, |connection| connection.bytes.extend_from_slice(&buffer[..length]));
                    return Some(buffer[..length].to_vec());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

fn converse(mut stream: TcpStream, number: usize, handle: &Handle, reply: &dyn Fn(&Message, usize) -> Reply) {
    let mut pending = Vec::new();
    let mut open = true;
    while open {
        match handle.read(&mut stream, number) {
            Some(bytes) => pending.extend_from_slice(&bytes),
            None => break,
        }
        if expects_continue(&pending) {
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        open = answer_all(&mut stream, number, handle, reply, &mut pending);
    }
    handle.note(number, |connection| {
        connection.closed = true;
        connection.unfinished = pending.len();
    });
}

/// A head whose body waits to be asked for (RFC 9110 section 10.1.1).
fn expects_continue(pending: &[u8]) -> bool {
    pending.ends_with(b"\r\n\r\n")
        && String::from_utf8_lossy(pending).to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n")
}

/// Answers the whole requests in `pending`. False when the connection is over.
fn answer_all(
    stream: &mut TcpStream,
    number: usize,
    handle: &Handle,
    reply: &dyn Fn(&Message, usize) -> Reply,
    pending: &mut Vec<u8>,
) -> bool {
    loop {
        let open = match message::request(pending) {
            Ok(message::Read::Part) => {
                handle.note(number, |connection| connection.unfinished = pending.len());
                return true;
            }
            Ok(message::Read::Whole(request, length)) => {
                pending.drain(..length);
                let reply = reply(&request, number);
                handle.note(number, |connection| {
                    connection.unfinished = pending.len();
                    connection.messages.push(request);
                });
                match reply {
                    Reply::Bytes(bytes) => stream.write_all(&bytes).is_ok(),
                    Reply::Close(bytes) => {
                        let _ = stream.write_all(&bytes);
                        false
                    }
                }
            }
            Err(fault) => {
                handle.note(number, |connection| connection.fault = Some(fault));
                false
            }
        };
        if !open {
            return false;
        }
    }
}

/// A thread that panicked has failed its test already; what it recorded is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
