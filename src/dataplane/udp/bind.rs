//! UDP sockets: bound on the control thread, one for each worker and address, to which the kernel spreads clients.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::dataplane::{holder, socket::explain};

/// Datagrams that may wait for a worker, as far as the system lets (`net.core.rmem_max`).
const WAITING: usize = 4 << 20;

/// Binds one socket for each of `workers` to `address`. `alone` is that of [`crate::dataplane::socket::bind`].
///
/// Which of them a client's datagrams come to changes with their number; so none comes to any before all are there.
///
/// # Errors
/// The address, the fact and what to do about it, for people.
pub fn bind(address: SocketAddr, workers: usize, alone: bool) -> Result<Vec<UdpSocket>, String> {
    let bind_all = || {
        if alone {
            open(address)?.bind(&address.into())?;
        }
        let sockets = (0..workers).map(|_| join(address)).collect::<io::Result<Vec<_>>>()?;
        sockets.iter().try_for_each(Socket::detach_filter)?;
        Ok(sockets.into_iter().map(UdpSocket::from).collect())
    };
    bind_all().map_err(|error| explain(address, &error, holder::of_datagrams))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn join(address: SocketAddr) -> io::Result<Socket> {
    const NOTHING: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&[NOTHING])?;
    // As much as it may be.
    _ = socket.set_recv_buffer_size(WAITING);
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => turn_on(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?,
            SocketAddr::V6(_) => turn_on(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?,
        }
    }
    take_several_as_one(&socket);
    socket.bind(&address.into())?;
    Ok(socket)
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
