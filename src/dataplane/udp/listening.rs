//! A bound address: what the control thread and the workers share of it, and a worker's own socket.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst},
    },
};

use socket2::Socket;
use tokio::io::{Interest, unix::AsyncFd};

use super::places::Places;

const SERVING: u8 = 0;
/// New clients are not served; whoever has a session has its answers and may go on.
const LEAVING: u8 = 1;
const CLOSED: u8 = 2;

/// What all sockets of an address share, and the sockets themselves. They close together, when none of them has sessions
/// any more and nobody has this: the kernel would spread clients anew when one closed before the others.
pub struct Shared {
    pub places: Arc<Places>,
    sockets: Box<[Arc<Socket>]>,
    state: AtomicU8,
    /// Sessions, by worker.
    open: Box<[AtomicUsize]>,
}

impl Shared {
    pub fn new(places: Arc<Places>, workers: usize, sockets: Vec<UdpSocket>) -> Arc<Shared> {
        let open = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        let sockets = sockets.into_iter().map(|socket| Arc::new(socket.into())).collect();
        Arc::new(Shared { places, sockets, state: AtomicU8::new(SERVING), open })
    }

    /// Those that are bound to the address.
    pub fn sockets(&self) -> &[Arc<Socket>] {
        &self.sockets
    }

    /// No listener is there any more.
    pub fn leave(&self) {
        self.turn(SERVING, LEAVING);
    }

    /// A listener is there again. False when it is too late, and the sockets close.
    pub fn stay(&self) -> bool {
        self.turn(LEAVING, SERVING)
    }

    pub fn is_leaving(&self) -> bool {
        self.state.load(SeqCst) != SERVING
    }

    /// Sessions by worker.
    pub fn open(&self) -> impl Iterator<Item = usize> {
        self.open.iter().map(|open| open.load(SeqCst))
    }

    /// Is it time to close the socket? So for every worker, once it is for one.
    pub(super) fn is_to_close(&self) -> bool {
        if self.is_leaving() && self.open().sum::<usize>() == 0 {
            self.turn(LEAVING, CLOSED);
        }
        self.state.load(SeqCst) == CLOSED
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

/// A worker's own socket of one bound address.
pub(super) struct Listening {
    /// Key into `Snapshot::datagram_sockets`.
    pub address: SocketAddr,
    pub socket: AsyncFd<Arc<Socket>>,
    pub shared: Arc<Shared>,
}

impl Listening {
    /// # Errors
    /// When epoll does not take the socket.
    pub fn new(address: SocketAddr, socket: Arc<Socket>, shared: Arc<Shared>) -> io::Result<Rc<Listening>> {
        Ok(Rc::new(Listening { address, socket: watch(socket)?, shared }))
    }

    /// Does the system have to be told where answers come from?
    pub fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }
}

/// Has epoll tell when something arrives; room to send is waited for by nobody.
///
/// # Errors
/// When epoll does not take it.
pub(super) fn watch<S: AsRawFd>(socket: S) -> io::Result<AsyncFd<S>> {
    // SAFETY: the socket owns its descriptor, and nobody takes it out.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// That a session came over a socket, which it keeps open.
pub(super) struct Passage {
    pub listening: Rc<Listening>,
    worker: usize,
}

impl Passage {
    pub fn new(listening: Rc<Listening>, worker: usize) -> Passage {
        listening.shared.open[worker].fetch_add(1, SeqCst);
        Passage { listening, worker }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.listening.shared.open[self.worker].fetch_sub(1, SeqCst);
    }
}
