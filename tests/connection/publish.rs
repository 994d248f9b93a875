//! Publish and drain: what a change and the end do to sockets and connections.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use gapi::dataplane::Settings;

use crate::harness::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(GET).expect("sent");
    read_answer(stream)
}

#[test]
fn a_kept_address_keeps_its_connections() {
    let (mut gateway, address) = Gateway::plain(Settings::default());
    let mut stream = connect(address);
    ask(&mut stream);
    let others: Vec<_> = (0..5).map(|_| free_address()).collect();
    for other in &others {
        all_bound(&gateway.publish(plain(&[address, *other])));
        assert!(!ask(&mut stream).contains("connection: close"));
        assert_eq!(status(&ask(&mut connect(*other))), 404);
    }
    wait_until("old snapshots are freed", || {
        gateway.plane.retry_binds();
        gateway.plane.counts().retired_snapshots == 0
    });
}

#[test]
fn a_removed_socket_closes_and_tells_its_connections() {
    let settings = Settings { listener_drain_timeout: Duration::from_millis(600), ..Settings::default() };
    let (mut gateway, address) = Gateway::plain(settings);
    let (mut asks, mut idles) = (connect(address), connect(address));
    ask(&mut asks);
    ask(&mut idles);
    assert!(gateway.publish(plain(&[])).is_empty());
    wait_until("refused", || TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err());
    assert!(ask(&mut asks).contains("connection: close"));
    assert_eq!(read_to_end(&mut asks), "");
    assert!(is_open(&mut idles), "it may still ask");
    _ = idles.read_to_end(&mut Vec::new());
}

#[test]
fn what_is_queued_is_served_when_a_socket_closes() {
    let (mut gateway, address) = Gateway::plain(Settings::default());
    for _ in 0..5 {
        let streams: Vec<_> = (0..200).map(|_| connect(address)).collect();
        gateway.publish(plain(&[]));
        for mut stream in streams {
            assert_eq!(status(&ask(&mut stream)), 404);
        }
        all_bound(&gateway.publish(plain(&[address])));
    }
}

#[test]
fn a_port_in_use_names_its_holder_and_is_tried_again() {
    let mut gateway = Gateway::start(Settings::default());
    let holder = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let (taken, free) = (holder.local_addr().expect("bound"), free_address());
    let published = gateway.publish(plain(&[taken, free]));
    assert_eq!(published[&free], Ok(()));
    let message = published[&taken].as_ref().expect_err("in use");
    let id = std::process::id().to_string();
    assert!(message.contains(&taken.to_string()) && message.contains(&id), "{message}");
    assert!(gateway.plane.retry_binds()[&taken].is_err());
    drop(holder);
    assert_eq!(gateway.plane.retry_binds()[&taken], Ok(()));
    assert_eq!(status(&ask(&mut connect(taken))), 404);
}

#[test]
fn an_address_of_another_machine_is_explained() {
    let mut gateway = Gateway::start(Settings::default());
    let published = gateway.publish(plain(&["192.0.2.1:8080".parse().expect("an address")]));
    let message = published.values().next().expect("one").as_ref().expect_err("not ours");
    assert!(message.contains("192.0.2.1 is not an address of this machine"), "{message}");
}

#[test]
fn from_one_address_to_all_and_back() {
    let (mut gateway, address) = Gateway::plain(Settings::default());
    let all = ([0, 0, 0, 0], address.port()).into();
    let ipv6 = format!("[::1]:{}", address.port()).parse().expect("an address");
    for addresses in [&[all][..], &[address], &[all, ipv6], &[address]] {
        let published = gateway.publish(plain(addresses));
        if published.get(&ipv6).is_some_and(Result::is_err) {
            continue; // no IPv6 here
        }
        all_bound(&published);
        assert_eq!(status(&ask(&mut connect(address))), 404);
    }
}

#[test]
fn draining_ends_idle_connections_at_once() {
    let (gateway, address) = Gateway::plain(Settings::default());
    let (mut served, mut fresh, mut partial) = (connect(address), connect(address), connect(address));
    ask(&mut served);
    partial.write_all(&GET[..5]).expect("sent");
    wait_until("all accepted", || gateway.open() == 3);
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    let drained = std::thread::spawn(move || gateway.plane.drain(Duration::from_secs(30)));
    assert_eq!(read_to_end(&mut served), "");
    assert_eq!(read_to_end(&mut fresh), "");
    partial.write_all(&GET[5..]).expect("sent");
    let answer = read_to_end(&mut partial);
    assert!(answer.contains("connection: close") && status(&answer) == 404, "{answer}");
    drained.join().expect("drained");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn draining_ends_at_its_deadline() {
    let (gateway, address) = Gateway::plain(Settings::default());
    let mut slow = connect(address);
    slow.write_all(&GET[..5]).expect("sent");
    wait_until("accepted", || gateway.open() == 1);
    let began = Instant::now();
    gateway.plane.drain(Duration::from_millis(300));
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(3));
    _ = slow.read_to_end(&mut Vec::new());
}

#[test]
fn connections_spread_over_the_workers() {
    let (gateway, address) = Gateway::plain(Settings::default());
    let streams: Vec<_> = (0..64).map(|_| connect(address)).collect();
    wait_until("all accepted", || gateway.open() == 64);
    let counts = gateway.plane.counts();
    assert!(counts.sockets[&address].iter().all(|count| *count > 8), "{counts:?}");
    drop(streams);
}
