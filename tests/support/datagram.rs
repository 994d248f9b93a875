//! A backend and clients of UDP.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long an answer may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Answers each datagram with `name` before it, after a while, and remembers who asked.
pub struct DatagramBackend {
    pub address: SocketAddr,
    askers: Arc<Mutex<Vec<SocketAddr>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DatagramBackend {
    pub fn start(name: &'static str, after: Duration) -> DatagramBackend {
        DatagramBackend::on(UdpSocket::bind("127.0.0.1:0").expect("loopback"), name, after)
    }

    pub fn on(socket: UdpSocket, name: &'static str, after: Duration) -> DatagramBackend {
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        let address = socket.local_addr().expect("it is bound");
        let (askers, ended) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (seen, end) = (askers.clone(), ended.clone());
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !end.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                seen.lock().expect("no thread panics").push(from);
                thread::sleep(after);
                let _ = socket.send_to(&[name.as_bytes(), &buffer[..length]].concat(), from);
            }
        });
        DatagramBackend { address, askers, ended, thread: Some(thread) }
    }

    /// How many sessions have asked, one for each address.
    pub fn askers(&self) -> usize {
        let mut askers = self.askers.lock().expect("no thread panics").clone();
        askers.sort();
        askers.dedup();
        askers.len()
    }

    /// How many datagrams have come.
    pub fn asked(&self) -> usize {
        self.askers.lock().expect("no thread panics").len()
    }
}

impl Drop for DatagramBackend {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A port of loopback that nobody has for UDP.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback").port()
}

/// A socket that hears of this port alone.
pub fn datagrams(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.connect(("127.0.0.1", port)).expect("loopback");
    socket.set_read_timeout(Some(SOON)).expect("a time");
    socket
}

/// The next datagram, none where nobody is there or nothing comes.
pub fn hear(socket: &UdpSocket) -> Option<String> {
    let mut buffer = vec![0; 1 << 16];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Sends `text` and returns what comes.
pub fn exchange(socket: &UdpSocket, text: &str) -> Option<String> {
    socket.send(text.as_bytes()).ok()?;
    hear(socket)
}
