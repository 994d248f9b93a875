//! Connections of TCP and TLS listeners: which backend has them, and their way to it.

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Context,
    time::{Duration, Instant, SystemTime},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    Connection, Worker,
    accept::Permit,
    access_log::{Line, Taken, milliseconds},
    drain::Handle,
    elsewhere::{Arrived, Endpoints},
    outcome::Reason,
    pulse::Phase,
    relay::{Cut, Meter, Side, relay},
    turn::Wire,
    upstream::connect_tcp,
};
use crate::snapshot::{Backend, Listener, ListenerProtocol, Rule, Snapshot};

/// Endpoints that are tried for one connection.
const MAX_CONNECTS: usize = 4;
/// Turns that are passed over for one connection.
const MAX_TURNS: usize = 1000;
/// Peers that are gone without a word are found out after about two minutes.
pub const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// The client's side.
pub enum Client {
    /// As it came, with what was read of it already.
    Plain(TcpStream, Vec<u8>),
    Tls(Box<TlsStream<Wire>>),
}

impl Client {
    fn with<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        match self {
            Client::Plain(stream, _) => look(stream),
            Client::Tls(stream) => stream.get_ref().0.with(look),
        }
    }
}

/// Serves one connection, whose listener is known for TLS, from its choice of a backend to its end.
///
/// The choice is made once, by the snapshot in force, and stands as long as the connection does.
pub async fn serve(worker: Rc<Worker>, connection: Connection, handle: Rc<Handle>, client: Client, _permit: Permit) {
    worker.keep_house();
    handle.pulse.enter(Phase::Relayed);
    let mut stream = Stream {
        worker: &worker,
        connection: &connection,
        handle: &handle,
        started: Instant::now(),
        taken: None,
        endpoint: None,
        received: Cell::new(0),
        sent: Cell::new(0),
    };
    let connected = handle.unless_closed(stream.connect()).await.unwrap_or(Err(Reason::GatewayEnded));
    let reason = match connected {
        Ok(backend) => stream.carry(client, backend).await,
        Err(reason) => {
            client.with(reset);
            reason
        }
    };
    stream.finish(reason);
    worker.connections.remove(&handle);
}

/// A connection on its way.
struct Stream<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Connection,
    handle: &'a Handle,
    started: Instant,
    taken: Option<Taken>,
    endpoint: Option<SocketAddr>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Stream<'_> {
    /// A connection to an endpoint of the backend that is next.
    async fn connect(&mut self) -> Result<TcpStream, Reason> {
        let worker = self.worker;
        let elsewhere;
        let backend = {
            let snapshot = worker.snapshots.pin();
            let rule = rule(&snapshot, self.connection).ok_or(Reason::NoRoute)?;
            self.taken = Some(Taken::by(rule));
            // TLS is never carried elsewhere.
            elsewhere = self.connection.tls.is_none().then(|| self.elsewhere()).flatten();
            backend(worker, &snapshot, rule, elsewhere.as_ref())?
        };
        let is_elsewhere = |endpoint| elsewhere.as_ref().is_some_and(|others| others.contains(&endpoint));
        let mut tried: Vec<SocketAddr> = Vec::new();
        loop {
            let now = worker.clock.now();
            let avoid = |endpoint| {
                tried.contains(&endpoint) || is_elsewhere(endpoint) || worker.upstreams.is_passed_over(endpoint, now)
            };
            let endpoint = worker.balance.endpoint(&backend, avoid).ok_or(Reason::NoEndpoint)?;
            self.endpoint = Some(endpoint);
            match connect_tcp(worker, endpoint).await {
                Ok(stream) => {
                    _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
                    return Ok(stream);
                }
                Err(reason) => {
                    let again = tried.contains(&endpoint);
                    tried.push(endpoint);
                    if again || tried.len() >= backend.endpoints.len().min(MAX_CONNECTS) {
                        return Err(reason);
                    }
                }
            }
        }
    }

    fn elsewhere(&self) -> Option<Endpoints> {
        let Connection { socket, peer: client, local, .. } = *self.connection;
        let arrived = Arrived { protocol: ListenerProtocol::Tcp, socket, client, local };
        self.worker.settings.elsewhere.of(&arrived)
    }

    async fn carry(&self, client: Client, mut backend: TcpStream) -> Reason {
        _ = client.with(|stream| SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE));
        match client {
            Client::Plain(mut stream, first) => {
                let relayed = self.relay(&mut stream, &mut backend, first).await;
                ended(relayed, &stream, &backend)
            }
            Client::Tls(mut stream) => {
                let relayed = self.relay(&mut *stream, &mut backend, Vec::new()).await;
                stream.get_ref().0.with(|stream| ended(relayed, stream, &backend))
            }
        }
    }

    async fn relay(&self, client: &mut impl Side, backend: &mut TcpStream, first: Vec<u8>) -> Result<(), Cut> {
        let ended = |cx: &Context<'_>| {
            self.handle.attend(cx);
            self.handle.closed()
        };
        let moved = || self.handle.pulse.written();
        let meter = Meter { received: &self.received, sent: &self.sent, moved: &moved, ended: &ended };
        relay(client, backend, first, &self.worker.relay_buffers, meter).await
    }

    /// Counts and logs it.
    fn finish(self, reason: Reason) {
        self.worker.counters.ended(reason, 0);
        let Some(log) = &self.worker.access_log else { return };
        let tls = self.connection.tls.as_ref();
        let protocol = if tls.is_some() { "TLS" } else { "TCP" };
        log.put(&Line {
            host: tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or(""),
            taken: self.taken.as_ref(),
            endpoint: self.endpoint,
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            milliseconds: milliseconds(self.started),
            ..Line::new(SystemTime::now(), self.connection.peer.ip(), protocol, reason)
        });
    }
}

/// The rule for a connection: of the host with the most specific name at its listener.
fn rule<'s>(snapshot: &'s Snapshot, connection: &Connection) -> Option<&'s Rule> {
    let socket = snapshot.sockets.get(&connection.socket)?;
    let tls = connection.tls.as_ref();
    let is_own = |listener: &&Arc<Listener>| tls.is_none_or(|tls| listener.key == tls.listener);
    let listener = socket.listeners.iter().find(is_own)?;
    listener.stream_rule(tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or(""))
}

/// The backend whose turn it is. Turns of endpoints that are reached elsewhere are passed over: what is left is divided as
/// by the weights.
pub(super) fn backend(
    worker: &Worker,
    snapshot: &Snapshot,
    rule: &Rule,
    elsewhere: Option<&Endpoints>,
) -> Result<Arc<Backend>, Reason> {
    let mut turns = MAX_TURNS;
    loop {
        let weighted = worker.balance.backend(rule).ok_or(Reason::NoBackend)?;
        let key = weighted.backend.as_ref().ok_or(Reason::InvalidBackend)?;
        let backend = snapshot.backends.get(key).ok_or(Reason::InvalidBackend)?;
        turns -= 1;
        let Some(elsewhere) = elsewhere.filter(|_| turns > 0) else { return Ok(backend.clone()) };
        match worker.balance.endpoint(backend, |_| false) {
            Some(endpoint) if elsewhere.contains(&endpoint) => {}
            _ => return Ok(backend.clone()),
        }
    }
}

/// Passes a broken connection on to the other side.
fn ended(relayed: Result<(), Cut>, client: &TcpStream, backend: &TcpStream) -> Reason {
    match relayed {
        Ok(()) => Reason::Relayed,
        Err(Cut::Client) => {
            reset(backend);
            Reason::ClientGone
        }
        Err(Cut::Backend) => {
            reset(client);
            Reason::BackendReset
        }
        Err(Cut::Gateway) => Reason::GatewayEnded,
    }
}

/// Has the connection end in a reset when it is closed, which loses what waits to be sent: the sign that not all was
/// well.
pub(super) fn reset(stream: &TcpStream) {
    let lingered: io::Result<()> = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    // Then it ends in order, which says less.
    _ = lingered;
}
