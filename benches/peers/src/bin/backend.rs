//! The backend that all proxies of a run share: answers each bodiless HTTP/1.1 request with the same 128 bytes, as fast
//! as one thread can. `backend LISTEN`.

use std::{
    env,
    error::Error,
    net::{TcpListener, TcpStream},
};

use rustix::{
    event::epoll,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

const LISTENER: u64 = u64::MAX;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A client and how much of [`END_OF_HEAD`] stood at the end of what it sent so far.
struct Client {
    socket: TcpStream,
    matched: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(listen) = env::args().nth(1) else { return Err("usage: backend LISTEN".into()) };
    let listener = TcpListener::bind(listen)?;
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n{}", "x".repeat(128));

    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&queue, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 16 << 10];
    loop {
        events.clear();
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                let (socket, _) = listener.accept()?;
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                let mark = epoll::EventData::new_u64(clients.len() as u64);
                epoll::add(&queue, &socket, mark, epoll::EventFlags::IN)?;
                clients.push(Some(Client { socket, matched: 0 }));
                continue;
            }
            let slot = &mut clients[usize::try_from(event.data.u64())?];
            if let Some(client) = slot
                && !answer_requests(client, answer.as_bytes(), &mut buffer)
            {
                *slot = None;
            }
        }
    }
}

/// False when the connection is over.
fn answer_requests(client: &mut Client, answer: &[u8], buffer: &mut [u8]) -> bool {
    match recv(&client.socket, &mut *buffer, RecvFlags::empty()) {
        Ok((0, _)) => false,
        Ok((length, _)) => {
            let requests = client.count_heads(&buffer[..length]);
            (0..requests).all(|_| send(&client.socket, answer, SendFlags::NOSIGNAL) == Ok(answer.len()))
        }
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}

impl Client {
    /// How many heads end in `bytes`.
    fn count_heads(&mut self, bytes: &[u8]) -> usize {
        let mut heads = 0;
        for &byte in bytes {
            self.matched = match byte {
                _ if byte == END_OF_HEAD[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == END_OF_HEAD.len() {
                heads += 1;
                self.matched = 0;
            }
        }
        heads
    }
}
