//! From a listening socket to connections that are served, within bounds on how many.

use std::{
    cell::Cell,
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    Connection, Settings, Worker,
    drain::Handle,
    exchange,
    framing::Bounds,
    io::{Io, Protocol},
    layer4,
    outcome::Reason,
    pulse::{Phase, Pulse},
    serve, socket,
    tls::{Secured, Tls},
    transport::Transport,
    turn::Wire,
};

/// How long to wait when there is no room, or no file descriptor.
const NO_ROOM: Duration = Duration::from_millis(20);
/// How many idle connections one wait for room closes.
const SHED: usize = 16;
/// How long handshakes of TCP that are under way may take to end when a socket closes.
pub const LAST_CALL: Duration = Duration::from_millis(100);

/// How many connections there may be, over all workers.
pub struct Limits {
    max: usize,
    open: AtomicUsize,
    max_per_client: usize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Limits {
    /// `descriptors` is the process's bound on open files: a tenth is kept back, and each connection may need a second
    /// one, to its backend.
    pub fn new(settings: &Settings, descriptors: u64) -> Limits {
        let by_descriptors = usize::try_from(descriptors / 10 * 9 / 2).unwrap_or(usize::MAX).max(1);
        Limits {
            max: if settings.max_connections == 0 { by_descriptors } else { settings.max_connections },
            open: AtomicUsize::new(0),
            max_per_client: settings.max_connections_per_client,
            clients: Mutex::default(),
        }
    }

    fn full(&self) -> bool {
        self.open.load(Relaxed) >= self.max
    }

    /// A place for a connection of `client`; none when it has as many as it may have.
    fn admit(self: &Arc<Limits>, client: IpAddr, of_socket: &Arc<AtomicUsize>) -> Option<Permit> {
        let client = (self.max_per_client > 0).then_some(client);
        if let Some(client) = client {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_default();
            if *count >= self.max_per_client {
                return None;
            }
            *count += 1;
        }
        self.open.fetch_add(1, Relaxed);
        of_socket.fetch_add(1, Relaxed);
        Some(Permit { limits: self.clone(), client, of_socket: of_socket.clone() })
    }
}

/// A connection's place within the [`Limits`], given back when dropped.
pub struct Permit {
    limits: Arc<Limits>,
    client: Option<IpAddr>,
    of_socket: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Relaxed);
        self.of_socket.fetch_sub(1, Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.limits.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// How the serving of a listening socket ends.
pub enum Stop {
    /// Whatever has been queued is accepted before it is closed.
    Close,
    /// Others hold it as well: its queue waits for them.
    LeaveOpen,
}

/// A worker's own listening socket of one bound address.
pub struct Acceptor {
    pub worker: Rc<Worker>,
    pub limits: Arc<Limits>,
    pub tls: Arc<Tls>,
    pub listener: TcpListener,
    pub address: SocketAddr,
    /// How many of its connections are open.
    pub open: Arc<AtomicUsize>,
    /// Dropped when the socket is closed.
    pub _bound: Arc<()>,
}

impl Acceptor {
    /// Accepts until told to stop.
    pub async fn run(self, stop: oneshot::Receiver<Stop>) {
        let accepted = Cell::new(None);
        let stop = tokio::select! {
            biased;
            stop = stop => stop,
            () = self.accept_all(&accepted) => return,
        };
        if let Some((stream, peer)) = accepted.take() {
            self.take(stream, peer);
        }
        if matches!(stop, Ok(Stop::Close)) {
            self.accept_last().await;
        }
    }

    /// `accepted` is the one that waits for room.
    async fn accept_all(&self, accepted: &Cell<Option<(TcpStream, SocketAddr)>>) {
        loop {
            self.room().await;
            match self.listener.accept().await {
                Ok(connection) => {
                    accepted.set(Some(connection));
                    // Others may have filled it while this one waited for a client.
                    self.room().await;
                    if let Some((stream, peer)) = accepted.take() {
                        self.take(stream, peer);
                    }
                }
                Err(error) if is_exhaustion(&error) => {
                    self.worker.connections.shed(SHED);
                    sleep(NO_ROOM).await;
                }
                // The connection has gone while it was queued (accept(2)): only that one is lost.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Waits until there may be one more connection.
    async fn room(&self) {
        while self.limits.full() {
            self.worker.connections.shed(SHED);
            sleep(NO_ROOM).await;
        }
    }

    /// Closing a socket resets what waits in its queue, so the queue is emptied first; new connections are kept out
    /// meanwhile.
    async fn accept_last(&self) {
        let kept_out = socket::keep_out(&self.listener);
        let patience = if kept_out.is_ok() { LAST_CALL } else { Duration::ZERO };
        let queue = async {
            while !self.limits.full()
                && let Ok((stream, peer)) = self.listener.accept().await
            {
                self.take(stream, peer);
            }
        };
        _ = timeout(patience, queue).await;
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        if let Some(permit) = self.limits.admit(peer.ip(), &self.open) {
            let (worker, tls) = (self.worker.clone(), self.tls.clone());
            let (peer, address) = by_family(peer, self.address);
            tokio::task::spawn_local(serve_connection(worker, tls, stream, peer, address, permit));
        }
    }
}

/// A socket of a socket unit may take both families: then a client of IPv4, and the address that it is served at, are
/// written as such.
fn by_family(peer: SocketAddr, socket: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if canonical.is_ipv4() == socket.is_ipv4() {
        // By far the most: `peer` is as it was.
        return (canonical, socket);
    }
    let everywhere = if canonical.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    (if canonical.is_ipv4() { canonical } else { peer }, SocketAddr::new(everywhere, socket.port()))
}

/// Out of file descriptors or memory: it passes, but not at once.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

async fn serve_connection(
    worker: Rc<Worker>,
    tls: Arc<Tls>,
    stream: TcpStream,
    peer: SocketAddr,
    socket: SocketAddr,
    permit: Permit,
) {
    let Ok(local) = stream.local_addr() else { return };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let (is_tls, is_tcp) = {
        let snapshot = worker.snapshots.pin();
        let socket = snapshot.sockets.get(&socket);
        (socket.is_some_and(|socket| socket.tls), socket.is_some_and(|socket| socket.is_tcp()))
    };
    let phase = if is_tls { Phase::Handshake } else { Phase::Idle };
    let pulse = Arc::new(Pulse::new(worker.connections.clock.clone(), phase));
    let mut connection = Connection::new(peer, local, socket, None);
    let max_waiting = worker.settings.h2_max_send_buffer;
    let handle = worker.connections.add(socket, pulse, max_waiting, connection.tunnels.clone());
    // Boxed, so that a connection of HTTP/1 does not carry the room for the others.
    if is_tcp {
        let client = layer4::Client::Plain(stream, Vec::new());
        return Box::pin(layer4::serve(worker, connection, handle, client, permit)).await;
    }
    let started = if is_tls {
        Box::pin(start_tls(&worker, &tls, &handle, stream, &mut connection, permit)).await
    } else {
        start_plain(&worker, &handle, stream, permit).await.map(Started::Http)
    };
    let (io, protocol) = match started {
        None => return worker.connections.remove(&handle),
        Some(Started::Layer4(client, permit)) => {
            return Box::pin(layer4::serve(worker, connection, handle, client, permit)).await;
        }
        Some(Started::Http(http)) => http,
    };
    let connection = Rc::new(connection);
    match protocol {
        Protocol::Http1 => serve::http1(worker, connection, handle, io).await,
        Protocol::Http2 => Box::pin(serve::http2(worker, connection, handle, io)).await,
    }
}

/// What a connection has turned out to be.
enum Started {
    Http((Io, Protocol)),
    Layer4(layer4::Client, Permit),
}

async fn start_plain(worker: &Worker, handle: &Handle, stream: TcpStream, permit: Permit) -> Option<(Io, Protocol)> {
    let bounds = Bounds::new(&worker.settings);
    let mut io = Io::new(Transport::Plain(Wire::new(stream)), handle.pulse.clone(), bounds, permit);
    let protocol = handle.unless_closed(io.sniff()).await?.ok()?;
    Some((io, protocol))
}

async fn start_tls(
    worker: &Worker,
    tls: &Tls,
    handle: &Handle,
    stream: TcpStream,
    connection: &mut Connection,
    permit: Permit,
) -> Option<Started> {
    let shaken = tls.accept(stream, connection.socket, &worker.snapshots);
    let shaken = handle.unless_closed(shaken).await?.inspect_err(|error| {
        // Whoever goes away in between was asked for nothing that failed: health checks do so all day.
        if error.kind() != io::ErrorKind::UnexpectedEof && error.kind() != io::ErrorKind::ConnectionReset {
            exchange::refuse(worker, connection, "TLS", Reason::HandshakeFailed, 0);
        }
    });
    let shaken = shaken.ok()?;
    handle.presented(shaken.tls.listener.clone(), shaken.digest);
    handle.pulse.enter(Phase::Idle);
    let Worker { connections, settings, snapshots, .. } = worker;
    connections.check(handle, &snapshots.pin(), settings.listener_drain_timeout);
    connection.tls = Some(shaken.tls);
    let (stream, protocol) = match shaken.stream {
        Secured::Http(stream, protocol) => (stream, protocol),
        Secured::Terminated(stream) => return Some(Started::Layer4(layer4::Client::Tls(stream), permit)),
        Secured::Passed(stream, first) => return Some(Started::Layer4(layer4::Client::Plain(stream, first), permit)),
    };
    let bounds = Bounds::new(&worker.settings);
    let mut io = Io::new(Transport::Tls(stream), handle.pulse.clone(), bounds, permit);
    io.speak(protocol);
    Some(Started::Http((io, protocol)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dataplane::ticket::Tickets, snapshot::cell::SnapshotCell};

    /// Bytes that a connection's task takes, without buffers: a ratchet in both directions.
    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_is_small() {
        let settings = Arc::new(Settings::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("connected");
        let limits = Arc::new(Limits::new(&settings, 1024));
        let permit = limits.admit(address.ip(), &Arc::default()).expect("room");
        let worker = Worker::new(0, settings, SnapshotCell::new().reader(), None);
        let tls = Arc::new(Tls::new(Arc::new(Tickets::new(0).expect("random bytes"))).expect("protocol versions"));
        let size = std::mem::size_of_val(&serve_connection(worker, tls, stream, address, address, permit));
        assert!((1200..2300).contains(&size), "{size} bytes");
    }
}
