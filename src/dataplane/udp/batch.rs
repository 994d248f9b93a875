//! Many datagrams by one system call, each way.

use std::{
    io::{self, ErrorKind},
    iter, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use super::control::{self, Control, Said};

/// Messages that one call takes.
pub const MESSAGES: usize = 16;
/// No message is longer: a datagram, or several of one sender that the kernel passes as one.
const LONGEST: usize = 64 << 10;
/// Bytes of a `sockaddr_in6`, the longer of the two.
const NAME: usize = 28;

/// One datagram, or several of the same length but the last, one behind the other.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    /// The length of each.
    segment: usize,
}

impl<'a> Piece<'a> {
    pub const EMPTY: Piece<'static> = Piece { bytes: &[], segment: 0 };

    fn is_one(&self) -> bool {
        self.segment == 0 || self.segment >= self.bytes.len()
    }

    /// How many datagrams it is.
    pub fn count(&self) -> usize {
        if self.is_one() { 1 } else { self.bytes.len().div_ceil(self.segment) }
    }

    fn each(&self) -> impl Iterator<Item = Piece<'a>> {
        // None would be made of a datagram without bytes.
        let size = if self.is_one() { usize::MAX } else { self.segment };
        let empty = self.bytes.is_empty().then_some(Piece::EMPTY);
        empty.into_iter().chain(self.bytes.chunks(size).map(|bytes| Piece { bytes, segment: 0 }))
    }
}

/// What was received last, in buffers that are used again and again.
#[derive(Default)]
pub struct Batch {
    /// Empty before the first use.
    room: Vec<u8>,
    names: [[u8; NAME]; MESSAGES],
    controls: [Control; MESSAGES],
    lengths: [usize; MESSAGES],
    count: usize,
}

/// A message of a batch.
pub struct Message<'a> {
    pub from: SocketAddr,
    /// Where the socket says it: the address that it came to.
    pub local: Option<IpAddr>,
    pub piece: Piece<'a>,
}

impl Batch {
    /// Takes what waits at the socket, without waiting for it. When there is room left, no more waited.
    ///
    /// # Errors
    /// Those of recvmmsg(2): nothing waits, or what an ICMP message has said of a connected socket.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<()> {
        self.count = 0;
        if self.room.is_empty() {
            // Memory is taken as far as it is written to.
            self.room = vec![0; MESSAGES * LONGEST];
        }
        // SAFETY: zeros are an empty header.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
        let mut slices: [libc::iovec; MESSAGES] = unsafe { mem::zeroed() };
        let parts = self.room.chunks_mut(LONGEST).zip(&mut self.names).zip(&mut self.controls);
        for (((header, slice), ((room, name), control)), _) in headers.iter_mut().zip(&mut slices).zip(parts).zip(0..) {
            *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut header.msg_hdr;
            (header.msg_iov, header.msg_iovlen) = (slice, 1);
            (header.msg_name, header.msg_namelen) = (name.as_mut_ptr().cast(), NAME as u32);
            header.msg_control = control.bytes.as_mut_ptr().cast();
            header.msg_controllen = control::ROOM as _;
        }
        // SAFETY: every header points to buffers of this batch of the lengths that it says.
        let received = uninterrupted(|| unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                MESSAGES as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })?;
        for (index, header) in headers[..received].iter().enumerate() {
            self.lengths[index] = header.msg_len as usize;
            self.controls[index].length = header.msg_hdr.msg_controllen;
        }
        self.count = received;
        Ok(())
    }

    /// Were there as many as there is room for, so that more may wait?
    pub fn is_full(&self) -> bool {
        self.count == MESSAGES
    }

    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        (0..self.count).filter_map(|index| {
            let bytes = &self.room[index * LONGEST..][..self.lengths[index]];
            let Said { local, segment } = self.controls[index].said();
            let piece = Piece { bytes, segment: segment.unwrap_or(0) };
            Some(Message { from: address(&self.names[index])?, local, piece })
        })
    }

    /// The messages of a connected socket.
    pub fn pieces(&self) -> ([Piece<'_>; MESSAGES], usize) {
        let mut pieces = [Piece::EMPTY; MESSAGES];
        for (index, piece) in pieces[..self.count].iter_mut().enumerate() {
            let bytes = &self.room[index * LONGEST..][..self.lengths[index]];
            *piece = Piece { bytes, segment: self.controls[index].said().segment.unwrap_or(0) };
        }
        (pieces, self.count)
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn address(name: &[u8; NAME]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let octets: [u8; 4] = *rest.first_chunk()?;
            Some((Ipv4Addr::from(octets), port).into())
        }
        libc::AF_INET6 => {
            // Behind the flow label, which says nothing of who it is.
            let octets: [u8; 16] = *rest[4..].first_chunk()?;
            let scope = u32::from_ne_bytes(*rest.last_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Where datagrams go.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// None for a connected socket.
    pub to: Option<&'a socket2::SockAddr>,
    /// None for the socket's own address.
    pub from: Option<IpAddr>,
}

/// Why not all was sent.
pub struct Unsent {
    /// How many pieces were.
    pub sent: usize,
    pub error: io::Error,
}

/// Sends at most [`MESSAGES`] pieces, without waiting for room.
///
/// # Errors
/// What was said of the first that was not sent.
pub fn send(socket: &impl AsFd, way: Way<'_>, pieces: &[Piece<'_>]) -> Result<(), Unsent> {
    let mut sent = 0;
    while sent < pieces.len() {
        match send_some(socket, way, &pieces[sent..]) {
            Ok(count) => sent += count,
            // The device does not cut, or the pieces are longer than it has them: each goes by itself then.
            Err(error) if !pieces[sent].is_one() && error.kind() != ErrorKind::WouldBlock && !is_refusal(&error) => {
                for one in pieces[sent].each() {
                    send_some(socket, way, &[one]).map_err(|error| Unsent { sent, error })?;
                }
                sent += 1;
            }
            Err(error) => return Err(Unsent { sent, error }),
        }
    }
    Ok(())
}

fn send_some(socket: &impl AsFd, way: Way<'_>, pieces: &[Piece<'_>]) -> io::Result<usize> {
    let count = pieces.len().min(MESSAGES);
    // SAFETY: zeros are an empty header.
    let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
    let mut slices: [libc::iovec; MESSAGES] = unsafe { mem::zeroed() };
    let plain = Control::new(way.from, None);
    let mut controls = [plain; MESSAGES];
    let parts = iter::zip(&mut headers, &mut slices).zip(&mut controls).zip(pieces);
    for (((header, slice), control), piece) in parts {
        if !piece.is_one() {
            *control = Control::new(way.from, u16::try_from(piece.segment).ok());
        }
        *slice = libc::iovec { iov_base: piece.bytes.as_ptr().cast_mut().cast(), iov_len: piece.bytes.len() };
        let header = &mut header.msg_hdr;
        (header.msg_iov, header.msg_iovlen) = (slice, 1);
        if let Some(to) = way.to {
            (header.msg_name, header.msg_namelen) = (to.as_ptr().cast_mut().cast(), to.len());
        }
        if control.length > 0 {
            header.msg_control = control.bytes.as_mut_ptr().cast();
            header.msg_controllen = control.length as _;
        }
    }
    // SAFETY: every header points to buffers that live until here, of the lengths that it says; none is written to.
    uninterrupted(|| unsafe {
        libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _)
    })
}

fn uninterrupted(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Does it say that nobody is there?
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn several_as_one_arrive_as_they_were() {
        let (receiver, sender) = (UdpSocket::bind("127.0.0.1:0").expect("bound"), UdpSocket::bind("127.0.0.1:0"));
        let sender = sender.expect("bound");
        sender.connect(receiver.local_addr().expect("bound")).expect("connected");
        let bytes: Vec<u8> = (0..=255).cycle().take(2500).collect();
        let long = Piece { bytes: &bytes, segment: 1000 };
        assert_eq!((long.count(), Piece::EMPTY.count()), (3, 1));
        let way = Way { to: None, from: None };
        send(&sender, way, &[long, Piece::EMPTY]).ok().expect("sent");
        let mut batch = Batch::default();
        batch.receive(&receiver).expect("arrived");
        let lengths: Vec<_> = batch.messages().map(|message| message.piece.bytes.len()).collect();
        assert_eq!(lengths, [1000, 1000, 500, 0]);
        assert!(batch.messages().all(|message| message.from == sender.local_addr().expect("bound")));
        assert_eq!(batch.receive(&receiver).expect_err("all taken").kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn pieces_of_one_are_one() {
        let cut =
            |bytes: &[u8], segment| Piece { bytes, segment }.each().map(|one| one.bytes.len()).collect::<Vec<_>>();
        assert_eq!(cut(b"", 0), [0]);
        assert_eq!(cut(b"abc", 0), [3]);
        assert_eq!(cut(b"abc", 3), [3]);
        assert_eq!(cut(b"abcd", 3), [3, 1]);
    }
}
