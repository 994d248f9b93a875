//! A full table of connections: what it costs to find one, and who gives way.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
};

use aya::{
    maps::MapData,
    programs::{SchedClassifier, TestRun, TestRunOptions},
};
use gapi::kernel::{
    PROGRAM, Settings,
    maps::{Connection, Protocol, Tuple, address, flag},
};

use crate::{
    packet::{ACK, Body, FIN, Packet, SYN},
    program::{BACKEND_PORT, Bench, PORT, REDIRECT},
    stage::{FAMILIES, Family, Service},
};

/// Of `enum bpf_cmd`.
const MAP_UPDATE_BATCH: libc::c_long = 26;

/// The member `batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

fn put(map: &MapData, entries: &[(Tuple, Connection)]) {
    let (keys, values): (Vec<Tuple>, Vec<Connection>) = entries.iter().copied().unzip();
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.fd().as_fd().as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: the structure begins `union bpf_attr`, and what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, MAP_UPDATE_BATCH, &raw mut batch, size_of::<Batch>()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The client of the connection with this number; there are as many as RFC 2544 has addresses, times ports.
fn client(number: u32) -> SocketAddr {
    let address = 198 << 24 | 18 << 16 | (number & 0x1_ffff);
    (std::net::Ipv4Addr::from(address), 20_000 + (number >> 17) as u16).into()
}

/// An established connection of that client, in both directions.
fn connection(number: u32, now: u64) -> [(Tuple, Connection); 2] {
    let (client, service) = (client(number), Family::V4.gateway(PORT));
    let source = (std::net::Ipv4Addr::from(10 << 24 | 64 << 16 | (number & 0x1_ffff)), 61_000 + (number >> 17) as u16);
    let (source, backend) = (SocketAddr::from(source), Family::V4.backend(BACKEND_PORT));
    let entry = |from: SocketAddr, to: SocketAddr, flags| Connection {
        from: address(from.ip()),
        to: address(to.ip()),
        from_port: from.port().to_be_bytes(),
        to_port: to.port().to_be_bytes(),
        service: 1,
        endpoint: 1,
        interface: 0,
        seen: now,
        flags,
        attempt: 0,
        zero: [0; 5],
    };
    [
        (Tuple::new(client, service, Protocol::Tcp), entry(source, backend, flag::ANSWERED | flag::LASTING)),
        (
            Tuple::new(backend, source, Protocol::Tcp),
            entry(service, client, flag::ANSWERED | flag::LASTING | flag::REVERSE),
        ),
    ]
}

impl Bench {
    fn fill(&self, numbers: std::ops::Range<u32>) {
        let pin = self.pin("gapi_connections");
        self.stage.gateway.run(move || {
            let map = MapData::from_pin(pin).expect("pinned");
            let now = monotonic();
            let numbers: Vec<u32> = numbers.collect();
            for some in numbers.chunks(10_000) {
                let entries: Vec<_> = some.iter().flat_map(|number| connection(*number, now)).collect();
                put(&map, &entries);
            }
        });
    }

    /// How long a packet of each of these clients takes the program, in nanoseconds: the middle one. All are sent on.
    fn cost(&self, numbers: &[u32]) -> u64 {
        let packet = |number: &u32| Packet { from: client(*number), ..self.of_client(ACK) }.bytes();
        let packets: Vec<Vec<u8>> = numbers.iter().map(packet).collect();
        let (pin, interface) = (self.pin(PROGRAM), self.interfaces[0]);
        let mut took = self.stage.gateway.run(move || {
            let program = SchedClassifier::from_pin(pin).expect("pinned");
            let mut context = [0; 192];
            context[40..44].copy_from_slice(&interface.to_ne_bytes());
            let run = |packet: &Vec<u8>| {
                let mut options = TestRunOptions::new();
                options.data_in = Some(packet);
                options.ctx_in = Some(&context);
                let result = program.test_run(options).expect("runs");
                assert_eq!(result.return_value as i32, REDIRECT);
                result.duration.as_nanos() as u64
            };
            packets.iter().map(run).collect::<Vec<_>>()
        });
        took.sort_unstable();
        took[took.len() / 2]
    }
}

#[test]
fn a_million_entries_cost_little_more_than_a_few() {
    const CONNECTIONS: u32 = 500_000;
    let room = |settings| Settings { connections: CONNECTIONS, ..settings };
    let service = Service::new(Protocol::Tcp, Family::V4.everywhere(PORT), &[Family::V4.backend(BACKEND_PORT)]);
    let Some(bench) = Bench::new(Family::V4, room, &[service]) else { return };
    bench.fill(0..100);
    let few: Vec<u32> = (0..20_000).map(|index| index % 100).collect();
    bench.cost(&few);
    let among_few = bench.cost(&few);

    bench.fill(0..CONNECTIONS);
    let entries = bench.connections().len();
    // Each processor keeps a few places for itself, so that a table is full before it is.
    assert!(entries > 950_000, "{entries} entries");
    // Apart by a prime, so that no two share a line of the cache; there twice, since the first time notes the time.
    let present: std::collections::HashSet<Tuple> = bench.connections().iter().map(|(tuple, _)| *tuple).collect();
    let of = |number: &u32| Tuple::new(client(*number), bench.service(), Protocol::Tcp);
    let many: Vec<u32> =
        (0..20_000).map(|index| index * 7919 % CONNECTIONS).filter(|number| present.contains(&of(number))).collect();
    bench.cost(&many);
    let among_many = bench.cost(&many);
    println!("a packet takes {among_few} ns with 200 entries, {among_many} ns with {entries}");
    let begun = std::time::Instant::now();
    let swept = bench.stage.with(|path| path.sweep(std::time::Duration::from_secs(60))).expect("swept");
    println!("looked through in {:?}", begun.elapsed());
    assert_eq!(swept, 0);
    assert!(among_many < 4 * among_few + 2000, "{among_few} ns became {among_many} ns");
}

/// Whether the packet of the client is sent on.
fn is_carried(bench: &Bench, packet: &Packet) -> bool {
    bench.run(&packet.bytes()).0 == REDIRECT
}

#[test]
fn established_connections_do_not_give_way_to_others() {
    for family in FAMILIES {
        let service = Service::new(Protocol::Tcp, family.everywhere(PORT), &[family.backend(BACKEND_PORT)]);
        let small = |settings| Settings { connections: 1024, ports: 10_000..=60_000, ..settings };
        let Some(bench) = Bench::new(family, small, &[service]) else { return };
        let establish = |port: u16, closes: bool| {
            let of = |flags| Packet { from: family.client(port), ..bench.of_client(flags) };
            let sent = bench.sent(&of(SYN));
            let answer = |flags| bench.of_backend(&sent, Body::Tcp { flags, payload: Vec::new() });
            bench.sent(&answer(SYN | ACK));
            bench.sent(&of(ACK));
            if closes {
                bench.sent(&of(FIN | ACK));
                bench.sent(&answer(FIN | ACK));
            }
            of(ACK)
        };
        // Silent from now on.
        let established: Vec<Packet> = (10_000..10_100).map(|port| establish(port, false)).collect();
        // More than there is room for: such that ask and say nothing more, ...
        for port in 20_000..23_000 {
            bench.run(&Packet { from: family.client(port), ..bench.of_client(SYN) }.bytes());
        }
        // ... and such that have ended.
        (30_000..33_000).for_each(|port| _ = establish(port, true));
        let lost = established.iter().filter(|packet| !is_carried(&bench, packet)).count();
        assert_eq!(lost, 0, "of {}", established.len());
    }
}
