//! UDP sockets: bound on the control thread, one for each worker and address, to which the kernel spreads clients.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::dataplane::{
    holder,
    socket::{explain, of_ipv4},
};

/// Datagrams that may wait for a worker, as far as the system lets (`net.core.rmem_max`).
const WAITING: usize = 4 << 20;

/// Binds one socket for each of `workers` to `address`. `alone` is that of [`crate::dataplane::socket::bind`].
///
/// Which of them a client's datagrams come to changes with their number; so none comes to any before all are there.
///
/// # Errors
/// The address, the fact and what to do about it, for people.
pub fn bind(address: SocketAddr, workers: usize, alone: bool) -> Result<Vec<UdpSocket>, String> {
    const NOTHING: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    let closed = || {
        let socket = shared(address)?;
        socket.attach_filter(&[NOTHING])?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let bind_all = || {
        if alone {
            open(address)?.bind(&address.into())?;
        }
        let sockets = (0..workers).map(|_| closed()).collect::<io::Result<Vec<_>>>()?;
        sockets.iter().try_for_each(Socket::detach_filter)?;
        Ok(sockets.into_iter().map(UdpSocket::from).collect())
    };
    bind_all().map_err(|error| explain(address, &error, holder::of_datagrams))
}

/// Binds one more socket to an address that sockets of this user are bound to already, and take datagrams: it takes its
/// share of the clients at once.
///
/// # Errors
/// Those of the system: the sockets there do not share their address, or are another user's.
pub fn join(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = shared(address)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Is it a socket of datagrams?
pub fn is_datagram(descriptor: &impl AsFd) -> bool {
    SockRef::from(descriptor).r#type().is_ok_and(|kind| kind == Type::DGRAM)
}

/// A UDP socket that was bound by somebody else, ready to be served, with the address that it is bound to, and with the
/// one of IPv4 where it takes both families.
///
/// # Errors
/// It is no UDP socket that takes datagrams of anybody.
pub fn adopt(descriptor: OwnedFd) -> io::Result<(UdpSocket, SocketAddr, Option<SocketAddr>)> {
    let socket = Socket::from(descriptor);
    let is_udp = socket.r#type()? == Type::DGRAM && socket.protocol()? == Some(Protocol::UDP);
    let is_internet = [Domain::IPV4, Domain::IPV6].contains(&socket.domain()?);
    let address = socket.local_addr()?.as_socket().filter(|address| address.port() != 0);
    let (true, true, Some(address), Err(_)) = (is_udp, is_internet, address, socket.peer_addr()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no UDP socket that takes what anybody sends"));
    };
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    tell_destination(&socket, address)?;
    take_several_as_one(&socket);
    // What a run that ended between may have left; mostly there is none.
    _ = socket.detach_filter();
    let of_ipv4 = of_ipv4(&socket, address)?;
    Ok((socket.into(), address, of_ipv4))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// To be bound where others are bound, or will be.
fn shared(address: SocketAddr) -> io::Result<Socket> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // As much as it may be.
    _ = socket.set_recv_buffer_size(WAITING);
    tell_destination(&socket, address)?;
    take_several_as_one(&socket);
    Ok(socket)
}

/// Has the kernel say to which address of the machine a datagram was sent, where that is not clear.
fn tell_destination(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        _ if !address.ip().is_unspecified() => Ok(()),
        SocketAddr::V4(_) => turn_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => turn_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    }
}

/// A socket that hears of `endpoint` alone.
///
/// # Errors
/// Those of the system.
pub(super) fn connect(endpoint: SocketAddr) -> io::Result<Socket> {
    let socket = open(endpoint)?;
    socket.set_nonblocking(true)?;
    take_several_as_one(&socket);
    socket.connect(&endpoint.into())?;
    Ok(socket)
}

/// Where the kernel can.
fn take_several_as_one(socket: &Socket) {
    _ = turn_on(socket, libc::SOL_UDP, libc::UDP_GRO);
}

fn turn_on(socket: &Socket, level: i32, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value lives through the call, and its length is that of an int.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value, size_of_val(&on) as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
