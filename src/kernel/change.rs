//! The kernel's word that interfaces, addresses or routes have changed: the multicast groups of rtnetlink(7).
//!
//! What the words say is not read: whoever hears one looks at everything. So none that is lost is missed, few need be kept,
//! and many at once are one.

use std::{io, os::fd::OwnedFd, thread, time::Duration};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv, socket_with,
        sockopt::set_socket_recv_buffer_size,
    },
};

/// Interfaces.
pub const LINKS: u32 = group(libc::RTNLGRP_LINK);
/// What [`Netlink`](super::netlink::Netlink) tells of this machine: interfaces, addresses, and whatever a route depends on.
/// That routes of IPv4 went with their interface or address, only the word of these says.
pub const ROUTES: u32 = LINKS
    | group(libc::RTNLGRP_IPV4_IFADDR)
    | group(libc::RTNLGRP_IPV6_IFADDR)
    | group(libc::RTNLGRP_IPV4_ROUTE)
    | group(libc::RTNLGRP_IPV6_ROUTE)
    | group(libc::RTNLGRP_IPV4_RULE)
    | group(libc::RTNLGRP_IPV6_RULE)
    | group(libc::RTNLGRP_NEXTHOP);

/// As `struct sockaddr_nl` has it.
const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// What comes within this time is one change: an interface comes with several words.
const SETTLE: Duration = Duration::from_millis(50);
/// Bytes for words that wait. When there is no room, the kernel says that it dropped some.
const ROOM: usize = 16 << 10;
/// Words that are taken up at once: more than there is room for, and no more when somebody speaks faster than we hear.
const MOST: usize = 1000;

/// Has `changed` called, on a thread of its own, soon after something of `groups` changed in the network of this thread,
/// until it says false. Where the kernel does not tell, says so in the journal.
pub fn follow(groups: u32, changed: impl Fn() -> bool + Send + 'static) {
    let untold = |error: io::Error| tracing::warn!(%error, "changes of interfaces and routes are seen late");
    let socket = match subscribe(groups) {
        Ok(socket) => socket,
        Err(error) => return untold(error.into()),
    };
    let hear = move || {
        if let Err(error) = hear(&socket, changed) {
            untold(error.into());
        }
    };
    if let Err(error) = thread::Builder::new().name("network".to_owned()).spawn(hear) {
        untold(error);
    }
}

fn subscribe(groups: u32) -> rustix::io::Result<OwnedFd> {
    // Without another protocol it is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_recv_buffer_size(&socket, ROOM)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn hear(socket: &OwnedFd, changed: impl Fn() -> bool) -> rustix::io::Result<()> {
    loop {
        word(socket, RecvFlags::empty())?;
        thread::sleep(SETTLE);
        // Until there is none; a failure that lasts shows above.
        _ = (0..MOST).try_for_each(|_| word(socket, RecvFlags::DONTWAIT));
        if !changed() {
            return Ok(());
        }
    }
}

/// Takes one word up; that some were dropped is one too.
fn word(socket: &OwnedFd, flags: RecvFlags) -> rustix::io::Result<()> {
    match retry_on_intr(|| recv(socket, &mut [0; 1], flags)) {
        Ok(_) | Err(Errno::NOBUFS) => Ok(()),
        Err(error) => Err(error),
    }
}
