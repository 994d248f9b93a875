//! Connections between network namespaces, through the gateway's kernel. No gapi runs in the gateway: what the programs
//! leave to user space finds nobody there.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gapi::kernel::{
    Path, Settings,
    attach::How,
    maps::{LAYOUT, Protocol},
};

use crate::{
    namespace::Namespace,
    stage::{FAMILIES, Family, Service, Stage, snapshot},
};

const PORT: u16 = 80;
const BACKEND_PORT: u16 = 8080;
/// Nothing here takes so long, on a busy machine neither.
const PATIENCE: Duration = Duration::from_secs(60);

/// A started stage with a listener on all addresses, TCP and UDP, for each family.
fn stage() -> Option<Stage> {
    stage_with(|settings| settings)
}

fn stage_with(settings: impl Fn(Settings) -> Settings) -> Option<Stage> {
    let stage = Stage::new()?;
    stage.start(settings(stage.settings()));
    stage.publish(&simple());
    Some(stage)
}

/// One endpoint for each listener.
fn simple() -> Vec<Service> {
    let of = |family: Family| {
        [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| Service::new(protocol, family.everywhere(PORT), &[family.backend(BACKEND_PORT)]))
    };
    FAMILIES.into_iter().flat_map(of).collect()
}

/// A backend that answers each connection with what `serve` says, until the test ends.
fn listen(namespace: &Namespace, address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let listener = namespace.run(move || TcpListener::bind(address)).expect("bound");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
}

/// Says everything again.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    _ = stream.shutdown(Shutdown::Write);
}

fn connect(stage: &Stage, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = stage.client.run(move || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The byte at a place of a stream: its period is a prime, so that nothing that is moved fits.
fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

/// Sends `length` bytes over an echo and reads them back, each compared.
fn transfer(stream: TcpStream, length: u64) {
    let writer = send(stream.try_clone().expect("a descriptor"), move |sent| sent < length);
    assert_eq!(read_all(stream), length);
    assert_eq!(writer.join().expect("written"), length);
}

/// Writes for as long as `more` says so, then ends its side; how much.
fn send(mut stream: TcpStream, more: impl Fn(u64) -> bool + Send + 'static) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut sent = 0_u64;
        while more(sent) {
            let piece: Vec<u8> = (sent..sent + 32_768).map(byte).collect();
            let piece = &piece[..piece.len()];
            stream.write_all(piece).unwrap_or_else(|error| panic!("after {sent} bytes: {error}"));
            sent += piece.len() as u64;
        }
        stream.shutdown(Shutdown::Write).expect("still connected");
        sent
    })
}

/// Reads to the end; how much.
fn read_all(mut stream: TcpStream) -> u64 {
    let mut buffer = vec![0; 64 << 10];
    let mut read = 0_u64;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return read,
            Ok(length) => {
                for (place, &found) in (read..).zip(&buffer[..length]) {
                    assert_eq!(found, byte(place), "byte {place}");
                }
                read += length as u64;
            }
            Err(error) => panic!("after {read} bytes: {error}"),
        }
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bytes_go_both_ways_whole() {
    let Some(stage) = stage() else { return };
    for family in FAMILIES {
        listen(&stage.backend, family.backend(BACKEND_PORT), echo);
    }
    // As a router that knows the neighbours, and as a machine that forwards nothing.
    for is_router in [false, true] {
        stage.forward(is_router);
        for family in FAMILIES {
            transfer(connect(&stage, family.gateway(PORT)).expect("connected"), 16 << 20);
        }
    }
    let statistics = stage.with(|path| path.statistics()).expect("readable");
    assert_eq!(statistics.services.len(), 4);
    for service in statistics.services.iter().filter(|service| service.protocol == Protocol::Tcp) {
        let traffic = service.endpoints[0].traffic;
        assert_eq!(traffic.connections, 2);
        assert!(traffic.bytes_to > 32 << 20 && traffic.bytes_from > 32 << 20, "{traffic:?}");
        assert_eq!(service.route.as_deref(), Some("ns/route"));
    }
    assert_eq!(statistics.interfaces.len(), 2);
}

#[test]
fn the_older_way_to_attach_serves_too() {
    let Some(stage) = stage_with(|settings| Settings { how: Some(How::Clsact), ..settings }) else { return };
    for family in FAMILIES {
        listen(&stage.backend, family.backend(BACKEND_PORT), echo);
        transfer(connect(&stage, family.gateway(PORT)).expect("connected"), 4 << 20);
    }
    // Another process takes it over in the middle.
    let stream = connect(&stage, Family::V4.gateway(PORT)).expect("connected");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = send(stream.try_clone().expect("a descriptor"), {
        let stop = stop.clone();
        move |_| !stop.load(Ordering::Relaxed)
    });
    let reader = thread::spawn(|| read_all(stream));
    for _ in 0..5 {
        stage.start(Settings { how: Some(How::Clsact), ..stage.settings() });
        stage.publish(&simple());
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(writer.join().expect("written"), reader.join().expect("read"));
    let filters = stage.gateway.run(|| Command::new("tc").args(["filter", "show", "dev", "g0", "ingress"]).output());
    let filters = String::from_utf8(filters.expect("tc is there").stdout).expect("text");
    // Replaced each time, never a second one.
    assert_eq!(filters.matches("direct-action").count(), 1, "{filters}");
    stage.detach();
    let qdisc = stage.gateway.run(|| Command::new("tc").args(["qdisc", "show", "dev", "g0"]).output());
    let qdisc = String::from_utf8(qdisc.expect("tc is there").stdout).expect("text");
    assert!(!qdisc.contains("clsact"), "{qdisc}");
}

#[test]
fn datagrams_are_answered() {
    let Some(stage) = stage() else { return };
    for family in FAMILIES {
        let address = family.backend(BACKEND_PORT);
        let socket = stage.backend.run(move || UdpSocket::bind(address)).expect("bound");
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                _ = socket.send_to(&buffer[..length], from);
            }
        });
        let local = family.client(0);
        let client = stage.client.run(move || UdpSocket::bind(local)).expect("bound");
        client.connect(family.gateway(PORT)).expect("a route");
        client.set_read_timeout(Some(PATIENCE)).expect("a time");
        // From nothing at all to what is in many fragments.
        for length in [0, 1, 1200, 1400, 1473, 4000, 30_000] {
            let sent: Vec<u8> = (0..length).map(byte).collect();
            client.send(&sent).expect("sent");
            let mut buffer = [0; 65_536];
            let received =
                client.recv(&mut buffer).unwrap_or_else(|error| panic!("{length} bytes, {family:?}: {error}"));
            assert_eq!(&buffer[..received], &sent[..]);
        }
    }
}

#[test]
fn a_narrow_way_is_found() {
    for is_router in [false, true] {
        for name in ["g1", "g0"] {
            let Some(stage) = stage() else { return };
            stage.forward(is_router);
            // What the other end sends fits, and it says of itself that it takes more: only the gateway knows better.
            let (other, link, network) =
                if name == "g1" { (&stage.backend, "b0", 2) } else { (&stage.client, "c0", 1) };
            stage.gateway.ip(&format!("link set {name} mtu 1280"));
            other.ip(&format!("route change 10.{network}.0.0/24 dev {link} mtu 1280 advmss 1460"));
            other.ip(&format!("-6 route add fd0{network}::/64 dev {link} metric 1 mtu 1280 advmss 1440"));
            for family in FAMILIES {
                listen(&stage.backend, family.backend(BACKEND_PORT), echo);
                transfer(connect(&stage, family.gateway(PORT)).expect("connected"), 4 << 20);
            }
            assert!(stage.reason("answered: too big") > 0, "{name} is narrow, router: {is_router}");
        }
    }
}

#[test]
fn ends_and_resets_are_passed_on() {
    let Some(stage) = stage() else { return };
    for family in FAMILIES {
        // Ends its side first, and hears all the same.
        let (tell, told) = std::sync::mpsc::channel();
        let tell = std::sync::Mutex::new(tell);
        let talk = |mut stream: TcpStream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"goodbye")?;
            stream.shutdown(Shutdown::Write)?;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).map(|_| heard)
        };
        listen(&stage.backend, family.backend(BACKEND_PORT), move |stream| {
            _ = tell.lock().expect("no panic").send(talk(stream).map_err(|error| error.kind()));
        });
        let mut stream = connect(&stage, family.gateway(PORT)).expect("connected");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("it ends");
        stream.write_all(b"still here").expect("half open");
        drop(stream);
        assert_eq!(
            (heard.as_str(), told.recv_timeout(PATIENCE).expect("told")),
            ("goodbye", Ok("still here".to_owned()))
        );

        let stream = connect(&stage, family.gateway(PORT)).expect("connected");
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option's own structure and its size.
        let set = unsafe {
            libc::setsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of_val(&linger) as u32,
            )
        };
        assert_eq!(set, 0);
        // The other side has ended its own by then, and reads.
        (&stream).read_to_string(&mut String::new()).expect("it speaks first");
        drop(stream);
        assert_eq!(told.recv_timeout(PATIENCE).expect("told"), Err(io::ErrorKind::ConnectionReset));

        // Nobody listens at the only endpoint of another service.
        let service = Service::new(Protocol::Tcp, family.everywhere(81), &[family.backend(1)]);
        stage.publish(&simple().into_iter().chain([service]).collect::<Vec<_>>());
        let refused = connect(&stage, family.gateway(81)).expect_err("nobody is there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(stage.with(|path| path.sweep(Duration::ZERO)).expect("swept"), 0);
}

/// A transfer that goes on until it is told to stop.
struct Going {
    stop: Arc<AtomicBool>,
    read: Arc<AtomicU64>,
    writer: JoinHandle<u64>,
    reader: JoinHandle<u64>,
}

impl Going {
    fn new(mut stream: TcpStream) -> Going {
        let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = {
            let stop = stop.clone();
            send(stream.try_clone().expect("a descriptor"), move |_| !stop.load(Ordering::Relaxed))
        };
        let count = read.clone();
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let so_far = count.load(Ordering::Relaxed);
                match stream.read(&mut buffer) {
                    Ok(0) => return so_far,
                    Ok(length) => {
                        for (place, &found) in (so_far..).zip(&buffer[..length]) {
                            assert_eq!(found, byte(place), "byte {place}");
                        }
                        count.store(so_far + length as u64, Ordering::Relaxed);
                    }
                    Err(error) => panic!("after {so_far} bytes: {error}"),
                }
            }
        });
        Going { stop, read, writer, reader }
    }

    /// Waits until some more has come back.
    fn goes_on(&self) {
        let before = self.read.load(Ordering::Relaxed);
        wait_until("the transfer stands still", || {
            assert!(!self.reader.is_finished() && !self.writer.is_finished(), "the connection is lost");
            self.read.load(Ordering::Relaxed) > before + (1 << 20)
        });
    }

    fn ends_whole(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert_eq!(self.writer.join().expect("written"), self.reader.join().expect("read"));
    }
}

#[test]
fn flips_and_leaving_endpoints_do_not_touch_established_connections() {
    let Some(stage) = stage() else { return };
    for family in FAMILIES {
        listen(&stage.backend, family.backend(BACKEND_PORT), echo);
        listen(&stage.backend, family.other_backend(BACKEND_PORT), |mut stream| {
            _ = stream.write_all(b"the other");
        });
    }
    let going: Vec<Going> =
        FAMILIES.map(|family| Going::new(connect(&stage, family.gateway(PORT)).expect("connected"))).into();
    for flip in 0..200 {
        let services: Vec<Service> = FAMILIES
            .map(|family| {
                let mut service = Service::new(
                    Protocol::Tcp,
                    family.everywhere(PORT),
                    &[family.backend(BACKEND_PORT), family.other_backend(BACKEND_PORT)],
                );
                service.backends[0].1 = 1 + flip % 3;
                // Without the endpoint that has the connection.
                service.backends[usize::from(flip % 2 == 0)].1 *= u32::from(flip % 5 != 0);
                service
            })
            .into();
        stage.publish(&services);
    }
    going.iter().for_each(Going::goes_on);
    // Its endpoint leaves: it stays, and new connections go to the other.
    let left = FAMILIES
        .map(|family| Service::new(Protocol::Tcp, family.everywhere(PORT), &[family.other_backend(BACKEND_PORT)]));
    stage.publish(&left);
    stage.with(|path| path.sweep(Duration::ZERO)).expect("swept");
    for family in FAMILIES {
        let mut heard = String::new();
        connect(&stage, family.gateway(PORT)).expect("connected").read_to_string(&mut heard).expect("it ends");
        assert_eq!(heard, "the other");
    }
    going.iter().for_each(Going::goes_on);
    let statistics = stage.with(|path| path.statistics()).expect("readable");
    let departed = statistics.services.iter().flat_map(|service| &service.endpoints).filter(|line| line.is_departed);
    assert_eq!(departed.map(|line| line.current).collect::<Vec<_>>(), [1, 1]);
    going.into_iter().for_each(Going::ends_whole);
}

#[test]
fn a_listener_that_leaves_drains() {
    let Some(stage) = stage() else { return };
    listen(&stage.backend, Family::V4.backend(BACKEND_PORT), echo);
    let mut stream = connect(&stage, Family::V4.gateway(PORT)).expect("connected");
    stage.publish(&[]);
    let mut word = [0; 2];
    stream.write_all(b"ab").expect("connected");
    stream.read_exact(&mut word).expect("it goes on");
    // New ones find user space, which is not there.
    let refused = connect(&stage, Family::V4.gateway(PORT)).expect_err("nobody is there");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    // Its time is over at the second look.
    let mut swept = 0;
    wait_until("it is not swept", || {
        swept += stage.with(|path| path.sweep(Duration::ZERO)).expect("swept");
        swept > 0
    });
    stream.write_all(b"ab").expect("not known yet");
    stream.read_exact(&mut word).expect_err("the gateway knows nothing of it");
}

/// The program of [`a_killed_process_is_not_missed`], in a process of its own.
#[test]
#[ignore = "started by another test"]
fn keeper() {
    let Ok(pins) = std::env::var("GAPI_TEST_PINS") else { return };
    let settings = Settings { pins: pins.into(), connections: 4096, ..Settings::default() };
    let mut path = Path::start(settings).unwrap_or_else(|error| panic!("{error}"));
    path.publish(&snapshot(&simple()), |_| false).expect("written");
    println!("\nserving");
    thread::sleep(PATIENCE * 10);
}

/// A process that keeps the kernel path; killed when dropped.
struct Keeper(Child);

impl Keeper {
    fn new(stage: &Stage) -> Keeper {
        let pins = stage.pins();
        let child = stage.gateway.run(move || {
            Command::new(std::env::current_exe().expect("known"))
                .args(["--exact", "end_to_end::keeper", "--ignored", "--nocapture"])
                .env("GAPI_TEST_PINS", pins)
                .stdout(Stdio::piped())
                .spawn()
        });
        let mut child = child.expect("started");
        let out = child.stdout.take().expect("piped");
        let mut lines = io::BufRead::lines(io::BufReader::new(out));
        assert!(lines.any(|line| line.is_ok_and(|line| line == "serving")), "it does not serve");
        Keeper(child)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_killed_process_is_not_missed() {
    let Some(stage) = Stage::new() else { return };
    for family in FAMILIES {
        listen(&stage.backend, family.backend(BACKEND_PORT), echo);
    }
    let keeper = Keeper::new(&stage);
    let going: Vec<Going> =
        FAMILIES.map(|family| Going::new(connect(&stage, family.gateway(PORT)).expect("connected"))).into();
    going.iter().for_each(Going::goes_on);
    drop(keeper);
    going.iter().for_each(Going::goes_on);
    // New connections do not miss it either.
    for family in FAMILIES {
        transfer(connect(&stage, family.gateway(PORT)).expect("connected"), 1 << 20);
    }
    // Started again, twice, and each time killed.
    for _ in 0..2 {
        let keeper = Keeper::new(&stage);
        going.iter().for_each(Going::goes_on);
        drop(keeper);
        going.iter().for_each(Going::goes_on);
    }
    // The next knows what there is, and its numbers go on.
    stage.start(stage.settings());
    stage.publish(&simple());
    let statistics = stage.with(|path| path.statistics()).expect("readable");
    let tcp = statistics.services.iter().filter(|service| service.protocol == Protocol::Tcp);
    assert_eq!(tcp.map(|service| service.endpoints[0].traffic.connections).collect::<Vec<_>>(), [2, 2]);
    going.into_iter().for_each(Going::ends_whole);
}

#[test]
fn programs_of_another_layout_keep_what_they_have() {
    for how in [How::Tcx, How::Clsact] {
        let Some(stage) = stage_with(|settings| Settings { how: Some(how), ..settings }) else { return };
        listen(&stage.backend, Family::V4.backend(BACKEND_PORT), echo);
        let going = Going::new(connect(&stage, Family::V4.gateway(PORT)).expect("connected"));
        going.goes_on();
        // As an older gapi would have left them.
        let (is, was) = (stage.pins().join(format!("layout-{LAYOUT}")), stage.pins().join("layout-0"));
        let old = was.clone();
        stage.gateway.run(move || std::fs::rename(is, old)).expect("renamed");
        if how == How::Clsact {
            for link in ["g0", "g1"] {
                let pin = was.join("gapi_forward");
                stage.gateway.command(
                    "tc",
                    &format!("filter add dev {link} ingress pref 49761 handle 1 bpf da pinned {}", pin.display()),
                );
            }
        }
        stage.start(Settings { how: Some(how), ..stage.settings() });
        stage.publish(&simple());
        going.goes_on();
        transfer(connect(&stage, Family::V4.gateway(PORT)).expect("connected"), 1 << 20);
        going.goes_on();
        let statistics = stage.with(|path| path.statistics()).expect("readable");
        assert_eq!(statistics.services[0].endpoints[0].traffic.connections, 1);
        stage.with(|path| path.sweep(PATIENCE)).expect("swept");
        going.goes_on();
        stage.with(|path| path.sweep(Duration::ZERO)).expect("swept");
        assert!(!stage.gateway.run(move || was.exists()));
        transfer(connect(&stage, Family::V4.gateway(PORT)).expect("connected"), 1 << 20);
        // Whatever is left of it ends.
        going.stop.store(true, Ordering::Relaxed);
        assert!(going.writer.join().is_err() || going.reader.join().is_err());
    }
}

#[test]
fn detaching_leaves_nothing() {
    let Some(stage) = stage() else { return };
    listen(&stage.backend, Family::V4.backend(BACKEND_PORT), echo);
    transfer(connect(&stage, Family::V4.gateway(PORT)).expect("connected"), 1 << 20);
    stage.detach();
    let pins = stage.pins();
    assert!(!stage.gateway.run(move || pins.exists()));
    // The kernel lets go of a link a moment after its pin has gone.
    let begun = Instant::now();
    let refused = loop {
        match connect(&stage, Family::V4.gateway(PORT)) {
            Err(refused) => break refused,
            Ok(_) => assert!(begun.elapsed() < PATIENCE, "still carried"),
        }
    };
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    // Twice does no harm.
    stage.detach();
    // And it can be started anew.
    stage.start(stage.settings());
    stage.publish(&simple());
    transfer(connect(&stage, Family::V4.gateway(PORT)).expect("connected"), 1 << 20);
}

/// Gives both ends of a link addresses in network `network`.
fn join(stage: &Stage, here: &str, there: &str, network: u8) {
    for (namespace, name, host) in [(&stage.gateway, here, 1), (&stage.client, there, 2)] {
        namespace.ip(&format!("addr add 10.{network}.0.{host}/24 dev {name}"));
        namespace.ip(&format!("addr add fd0{network}::{host}/64 dev {name} nodad"));
        namespace.ip(&format!("link set {name} up"));
    }
}

fn follow(stage: &Stage) {
    let troubles = stage.with(|path| {
        path.follow_interfaces();
        path.troubles()
    });
    assert_eq!(troubles, Vec::<String>::new());
}

fn serves_at(stage: &Stage, network: u8) {
    for address in [format!("10.{network}.0.1"), format!("fd0{network}::1")] {
        let address = SocketAddr::new(address.parse().expect("an address"), PORT);
        transfer(connect(stage, address).expect("connected"), 4 << 20);
    }
}

#[test]
fn interfaces_that_come_and_go_are_followed() {
    let Some(stage) = stage() else { return };
    for family in FAMILIES {
        listen(&stage.backend, family.backend(BACKEND_PORT), echo);
    }
    let names = |stage: &Stage| {
        let statistics = stage.with(|path| path.statistics()).expect("readable");
        statistics.interfaces.into_iter().map(|line| line.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&stage), ["g0", "g1"]);
    // Another link, and a VLAN on the first.
    stage.gateway.link("g2", &stage.client, "c2");
    join(&stage, "g2", "c2", 3);
    follow(&stage);
    assert_eq!(names(&stage), ["g0", "g1", "g2"]);
    serves_at(&stage, 3);
    stage.gateway.ip("link del g2");
    follow(&stage);
    assert_eq!(names(&stage), ["g0", "g1"]);
    match stage.gateway.attempt("ip", "link add link g0 name tagged type vlan id 7") {
        Ok(()) => {
            stage.client.ip("link add link c0 name tagged type vlan id 7");
            join(&stage, "tagged", "tagged", 4);
            follow(&stage);
            assert_eq!(names(&stage), ["g0", "g1", "tagged"]);
            serves_at(&stage, 4);
        }
        Err(why) => eprintln!("skipped in part: this kernel makes no VLAN ({})", why.trim()),
    }
    // The way to the backend is replaced by another link: user space's services come back as soon as that is known.
    stage.gateway.ip("link del g1");
    follow(&stage);
    stage.publish(&simple());
    let statistics = stage.with(|path| path.statistics()).expect("readable");
    assert!(statistics.services.iter().all(|service| !service.is_in_kernel));
    assert!(statistics.services[0].user[0].contains("without a route"), "{:?}", statistics.services[0].user);
}

#[test]
fn a_programless_interface_is_no_way_to_a_backend() {
    let Some(stage) = stage() else { return };
    // A bridge of which the backend's link is a port: its packets show again at the bridge.
    if let Err(why) = stage.gateway.attempt("ip", "link add bridge type bridge") {
        return eprintln!("skipped: this kernel makes no bridge ({})", why.trim());
    }
    stage.gateway.ip("link set g1 master bridge");
    stage.gateway.ip("addr flush dev g1");
    stage.gateway.ip("addr add 10.2.0.1/24 dev bridge");
    stage.gateway.ip("addr add fd02::1/64 dev bridge nodad");
    stage.publish(&simple());
    let statistics = stage.with(|path| path.statistics()).expect("readable");
    assert!(statistics.services.iter().all(|service| !service.is_in_kernel));
    stage.gateway.ip("link set bridge up");
    follow(&stage);
    stage.publish(&simple());
    for family in FAMILIES {
        listen(&stage.backend, family.backend(BACKEND_PORT), echo);
        transfer(connect(&stage, family.gateway(PORT)).expect("connected"), 4 << 20);
    }
}
