//! UDP sockets that were there before the process: those of an earlier run, and those of a socket unit.

use std::net::{SocketAddr, UdpSocket};

use gapi::{
    dataplane::{
        Settings,
        udp::bind::{adopt, bind},
    },
    plan::Plan,
    publish::inherited::Inherited,
};

use crate::{harness::*, stage::*, udp::*};

/// A gateway that was given sockets of `address`: of the run before, or of a socket unit.
fn given(workers: usize, sockets: Vec<UdpSocket>, passed: bool) -> Gateway {
    let mut inherited = Inherited::default();
    for (number, socket) in sockets.into_iter().enumerate() {
        let (socket, address, of_ipv4) = adopt(socket.into()).expect("a UDP socket");
        let of = if passed { &mut inherited.datagrams.passed } else { &mut inherited.datagrams.kept };
        for at in of_ipv4.into_iter().chain([address]) {
            let socket = socket.try_clone().expect("a descriptor");
            of.entry(at).or_default().push((format!("{number}"), socket));
        }
    }
    Gateway::succeed(Settings::default(), workers, inherited)
}

fn to_echo(address: SocketAddr, echo: &Echo) -> Plan {
    Stage::udp(address, &[(1, Some(&[echo.address]))]).plan
}

/// What came while nobody was there is answered, by as many workers as there are now.
#[test]
fn what_is_queued_is_served_by_the_next_run() {
    for workers in [1, 3, 5] {
        let echo = Echo::start("a");
        let address = free_udp("127.0.0.1");
        let sockets = bind(address, 3, true).expect("free");
        let clients: Vec<_> = (0..60).map(|_| client(address)).collect();
        for client in &clients {
            client.send(b"?").expect("queued");
        }
        let mut gateway = given(workers, sockets, false);
        gateway.publish(to_echo(address, &echo));
        all_bound(&gateway.plane.published_datagrams());
        for client in &clients {
            assert_eq!(hear(client), "a?");
            assert_eq!(ask(client, "!"), "a!");
        }
        // They are the gateway's own, and close when their listener has left.
        gateway.publish(Plan::default());
        drop(clients);
        drop(gateway);
        wait_until("closed", || UdpSocket::bind(address).is_ok());
    }
}

/// It cannot be shared out, and one client has one session.
#[test]
fn a_socket_of_a_socket_unit_has_one_worker() {
    let echo = Echo::start("a");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("bound");
    let mut gateway = given(4, vec![socket], true);
    assert_eq!(gateway.plane.unwanted().count(), 1);
    for _ in 0..3 {
        gateway.publish(to_echo(address, &echo));
        all_bound(&gateway.plane.published_datagrams());
        assert_eq!(gateway.plane.unwanted().count(), 0);
        let before = echo.askers().len();
        let client = client(address);
        for _ in 0..50 {
            assert_eq!(ask(&client, "?"), "a?");
        }
        assert_eq!(echo.askers().len(), before + 1);
        // It waits for its listener to come back.
        gateway.publish(Plan::default());
        let unwanted: Vec<_> = gateway.plane.unwanted().map(|finding| finding.message).collect();
        assert!(unwanted.len() == 1 && unwanted[0].contains(&format!("{address} (UDP)")), "{unwanted:?}");
        assert!(UdpSocket::bind(address).is_err());
    }
}

/// `ListenDatagram=53` is one socket for both families, whose clients are told apart.
#[test]
fn one_socket_for_both_families() {
    let Ok(socket) = UdpSocket::bind("[::]:0") else {
        eprintln!("SKIPPED: there is no IPv6 here");
        return;
    };
    let (four, six) = (Echo::start("4"), Echo::start("6"));
    let port = socket.local_addr().expect("bound").port();
    let mut gateway = given(2, vec![socket], true);
    let all = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), port);
    let mut stage = Stage::udp(all("0.0.0.0"), &[(1, Some(&[four.address]))]);
    stage.listen_udp(all("::"), &[(1, Some(&[six.address]))]);
    gateway.publish(stage.plan);
    all_bound(&gateway.plane.published_datagrams());
    for _ in 0..20 {
        // Another address of loopback than the one that answers would come from by itself.
        let (of_four, of_six) = (client(all("127.0.0.2")), client(all("::1")));
        for _ in 0..5 {
            assert_eq!(ask(&of_four, "?"), "4?");
            assert_eq!(ask(&of_six, "?"), "6?");
        }
    }
    assert_eq!((four.askers().len(), six.askers().len()), (20, 20), "a session each");
}

#[test]
fn what_is_no_socket_for_everybody_is_refused() {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0").expect("bound"), UdpSocket::bind("127.0.0.1:0").expect("bound"));
    one.connect(other.local_addr().expect("bound")).expect("connected");
    assert!(adopt(one.into()).is_err());
    let (pair, _) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
    assert!(adopt(pair.into()).is_err());
}
