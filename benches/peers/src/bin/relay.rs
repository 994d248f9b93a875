//! The floor: what the kernel alone asks of a proxy. One thread accepts, waits with epoll, receives and sends; nothing
//! is parsed and nothing is decided. `relay LISTEN BACKEND`.

use std::{
    env,
    error::Error,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, epoll, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

/// Marks the listening socket among the events; connections are marked with their index.
const LISTENER: u64 = u64::MAX;

/// Two sockets and the way between them: what comes in at one goes out at `peer`.
struct End {
    socket: TcpStream,
    peer: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(listen), Some(backend)) = (arguments.next(), arguments.next()) else {
        return Err("usage: relay LISTEN BACKEND".into());
    };
    serve(TcpListener::bind(listen)?, backend.parse()?)
}

fn serve(listener: TcpListener, backend: SocketAddr) -> Result<(), Box<dyn Error>> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&queue, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut ends: Vec<Option<End>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        events.clear();
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => connect(&queue, &listener, backend, &mut ends)?,
                index => {
                    let index = usize::try_from(index)?;
                    if !relay(&ends, index, &mut buffer) {
                        close(&mut ends, index);
                    }
                }
            }
        }
    }
}

/// One connection to the backend for each of a client.
fn connect(
    queue: &OwnedFd,
    listener: &TcpListener,
    backend: SocketAddr,
    ends: &mut Vec<Option<End>>,
) -> Result<(), Box<dyn Error>> {
    let (client, _) = listener.accept()?;
    let upstream = TcpStream::connect(backend)?;
    let first = ends.len();
    for (index, peer, socket) in [(first, first + 1, client), (first + 1, first, upstream)] {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll::add(queue, &socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        ends.push(Some(End { socket, peer }));
    }
    Ok(())
}

/// Passes on what has arrived. False when the connection is over.
fn relay(ends: &[Option<End>], index: usize, buffer: &mut [u8]) -> bool {
    let Some(from) = &ends[index] else { return true };
    let Some(to) = &ends[from.peer] else { return false };
    match recv(&from.socket, &mut *buffer, RecvFlags::empty()) {
        Ok((0, _)) => false,
        Ok((length, _)) => send_all(&to.socket, &buffer[..length]),
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}

/// Waits where the peer does not take all at once: small messages never come to it.
fn send_all(socket: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)], None).is_err() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Dropping a socket takes it out of the queue.
fn close(ends: &mut [Option<End>], index: usize) {
    if let Some(end) = ends[index].take() {
        ends[end.peer] = None;
    }
}
