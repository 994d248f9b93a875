//! Listening sockets: bound on the control thread, one for each worker and address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use super::holder;

const BACKLOG: i32 = 4096;

/// Binds one listening socket for each of `workers` to `address`. With `alone`, an address that another process shares
/// (SO_REUSEPORT) counts as in use; the caller leaves that off where sockets of its own overlap with it.
///
/// # Errors
/// The address, the fact and what to do about it, for people.
pub fn bind(address: SocketAddr, workers: usize, alone: bool) -> Result<Vec<TcpListener>, String> {
    let bind_all = || {
        if alone {
            open(address)?.bind(&address.into())?;
        }
        (0..workers).map(|_| listen(address)).collect::<io::Result<Vec<_>>>()
    };
    bind_all().map_err(|error| explain(address, &error, holder::of))
}

/// Binds one more socket to an address that sockets of this user are bound to already.
///
/// # Errors
/// Those of the system: the sockets there do not share their address, or are another user's.
pub fn join(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address)
}

/// A listening socket that was made by somebody else, ready to be served, with the address that it is bound to, and
/// with the one of IPv4 where it takes both families.
///
/// # Errors
/// It is no TCP socket that listens.
pub fn adopt(descriptor: OwnedFd) -> io::Result<(TcpListener, SocketAddr, Option<SocketAddr>)> {
    let socket = Socket::from(descriptor);
    let is_internet = [Domain::IPV4, Domain::IPV6].contains(&socket.domain()?);
    if !is_internet || socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no TCP socket that listens"));
    }
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // What `keep_out` may have left; mostly there is none.
    _ = socket.detach_filter();
    let of_ipv4 = of_ipv4(&socket, address)?;
    Ok((socket.into(), address, of_ipv4))
}

/// The address of IPv4 of a socket that takes both families.
pub(super) fn of_ipv4(socket: &Socket, address: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let both = address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()?;
    Ok(both.then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into()))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Why an address could not be bound; `holder` finds who has it.
pub(super) fn explain(
    address: SocketAddr,
    error: &io::Error,
    holder: impl Fn(SocketAddr) -> Option<holder::Holder>,
) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => match holder(address) {
            Some(holder) => format!(
                "{address} is in use by {} (process {}); stop it or give the listener another port",
                holder.name, holder.id
            ),
            None => format!("{address} is in use by another process; stop it or give the listener another port"),
        },
        io::ErrorKind::PermissionDenied => format!(
            "{address} cannot be bound: permission denied, since ports below 1024 need a privilege; run gapi from its systemd unit, or with \
             CAP_NET_BIND_SERVICE, or give the listener a port from 1024 up"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "{address} cannot be bound: {} is not an address of this machine; add it to an interface or choose another",
            address.ip()
        ),
        _ => format!("{address} cannot be bound: {error}"),
    }
}

/// Lets no new connection begin on a listening socket, while those whose handshake is under way may end theirs: a
/// filter (classic BPF, seccomp's elder) drops every segment with SYN set.
pub fn keep_out(listener: &impl std::os::fd::AsFd) -> io::Result<()> {
    const LOAD_FLAGS: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const JUMP_IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 2;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_FLAGS, 0, 0, FLAGS_OFFSET),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}
