//! What changes while much is under way through the kernel: nothing of it is lost, and no byte is wrong.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    stage::*,
    support::{
        gapi::BINARY,
        network::{Machine, ip},
        wait,
    },
    tcp::both_ways,
};

/// The bytes of every stream: its period is a prime, so that nothing that is moved fits.
const PERIOD: usize = 251;
const PIECE: usize = 32 << 10;

fn bytes() -> Vec<u8> {
    (0..PERIOD + PIECE).map(|at| (at % PERIOD) as u8).collect()
}

/// One direction of a connection: it goes on until it is told to stop.
struct Stream {
    read: Arc<AtomicU64>,
    writer: JoinHandle<u64>,
    reader: JoinHandle<u64>,
}

impl Stream {
    fn start(mut from: TcpStream, mut to: TcpStream, stop: Arc<AtomicBool>) -> Stream {
        let read = Arc::<AtomicU64>::default();
        let writer = thread::spawn(move || {
            // An emulated one has little to give.
            let is_emulated = std::env::var_os("GAPI_TEST_ONE_AT_A_TIME").is_some();
            let pause = Duration::from_millis(if is_emulated { 50 } else { 1 });
            let (bytes, mut sent) = (bytes(), 0);
            while !stop.load(Relaxed) {
                let piece = &bytes[sent as usize % PERIOD..][..PIECE];
                from.write_all(piece).unwrap_or_else(|error| panic!("after {sent} bytes: {error}"));
                sent += PIECE as u64;
                // The daemon wants a processor too.
                thread::sleep(pause);
            }
            from.shutdown(Shutdown::Write).expect("still connected");
            sent
        });
        let count = read.clone();
        let reader = thread::spawn(move || {
            let (bytes, mut buffer) = (bytes(), vec![0; PIECE]);
            loop {
                let so_far = count.load(Relaxed);
                match to.read(&mut buffer) {
                    Ok(0) => return so_far,
                    Ok(length) => {
                        let expected = &bytes[so_far as usize % PERIOD..][..length];
                        assert!(buffer[..length] == *expected, "wrong within {length} bytes after {so_far}");
                        count.store(so_far + length as u64, Relaxed);
                    }
                    Err(error) => panic!("after {so_far} bytes: {error}"),
                }
            }
        });
        Stream { read, writer, reader }
    }
}

/// Much in both directions of a connection.
struct Going {
    stop: Arc<AtomicBool>,
    streams: [Stream; 2],
}

impl Going {
    fn start(client: &TcpStream, behind: &TcpStream) -> Going {
        let stop = Arc::<AtomicBool>::default();
        let own = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        let streams = [
            Stream::start(own(client), own(behind), stop.clone()),
            Stream::start(own(behind), own(client), stop.clone()),
        ];
        Going { stop, streams }
    }

    /// Waits until some more has come, in both directions.
    fn goes_on(&self) {
        let before = self.streams.each_ref().map(|stream| stream.read.load(Relaxed));
        wait("bytes go on", PATIENCE, || {
            self.streams.iter().zip(before).all(|(stream, before)| {
                assert!(!stream.reader.is_finished() && !stream.writer.is_finished(), "the connection is lost");
                stream.read.load(Relaxed) > before + (1 << 20)
            })
        });
    }

    fn ends_whole(self) {
        self.stop.store(true, Relaxed);
        for stream in self.streams {
            assert_eq!(stream.writer.join().expect("written"), stream.reader.join().expect("read"));
        }
    }
}

/// A connection with the backend that is there, and much under way.
fn under_way(stage: &Stage, backend: &Backend) -> Going {
    let client = stage.connect();
    let going = Going::start(&client, &backend.next());
    going.goes_on();
    going
}

#[test]
fn two_hundred_generations_and_an_endpoint_that_leaves() {
    in_kernel(&[], |stage| {
        let (a, b) = (Backend::start(stage), Backend::start(stage));
        stage.serve("TCP", &[(1, Some(&[a.address]))]);
        let going = under_way(stage, &a);
        for generation in 0..200 {
            let weight = 1 + generation % 3;
            let with_it = [(weight, Some(&[a.address][..])), (1, Some(&[b.address][..]))];
            let without = [(weight, Some(&[b.address][..]))];
            stage.write("TCP", if generation % 2 == 0 { &with_it } else { &without });
            let reloaded = stage.gapi().reload();
            assert!(reloaded.code == 0 || reloaded.code == 1, "{reloaded:?}");
        }
        going.goes_on();
        stage.serve("TCP", &[(1, Some(&[b.address]))]);
        let other = under_way(stage, &b);
        going.goes_on();
        let listener = stage.listener("TCP");
        let endpoints = listener["endpoints"].as_array().expect("a list");
        let departed = endpoints.iter().find(|endpoint| endpoint["departed"] == true).expect("it has a connection");
        assert_eq!((&departed["address"], &departed["current"]), (&a.address.to_string().into(), &1.into()));
        going.ends_whole();
        other.ends_whole();
    });
}

#[test]
fn killed_restarted_and_upgraded() {
    in_kernel(&[], |stage| {
        let backend = Backend::start(stage);
        stage.serve("TCP", &[(1, Some(&[backend.address]))]);
        let mut going = vec![under_way(stage, &backend)];
        let all_go_on = |going: &[Going]| going.iter().for_each(Going::goes_on);

        stage.end(Signal::KILL);
        all_go_on(&going);
        // New connections do not miss it either.
        going.push(under_way(stage, &backend));
        stage.start_again(None);
        all_go_on(&going);
        going.push(under_way(stage, &backend));

        stage.end(Signal::TERM);
        all_go_on(&going);
        stage.start_again(None);
        all_go_on(&going);

        // Another program, as a package brings it.
        stage.end(Signal::TERM);
        let next = std::env::temp_dir().join(format!("gapi-next-{}-{:?}", std::process::id(), stage.family));
        fs::copy(BINARY, &next).expect("copied");
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).expect("our own");
        going.push(under_way(stage, &backend));
        stage.start_again(next.to_str());
        fs::remove_file(&next).expect("our own");
        all_go_on(&going);
        going.push(under_way(stage, &backend));
        stage.serve("TCP", &[(2, Some(&[backend.address]))]);
        all_go_on(&going);
        assert_eq!(stage.carried("TCP"), 5, "all of them through the kernel");
        going.into_iter().for_each(Going::ends_whole);
    });
}

/// Moves the addresses of both ends of a cable to a VLAN on it; false where the kernel makes none.
fn tag(machine: &Machine, here: &'static str, there: &'static str, network: u8) -> bool {
    let lay = move |link: &str, host: u8| {
        attempt(&format!("link add link {link} name tagged{network} type vlan id 7"))?;
        ip(&format!("address flush dev {link} scope global"));
        give(&format!("tagged{network}"), network, host);
        ip(&format!("link set tagged{network} up"));
        Ok::<(), String>(())
    };
    if let Err(why) = lay(here, 1) {
        eprintln!("skipped: this kernel makes no VLAN ({why})");
        return false;
    }
    machine.run(move || lay(there, 2)).expect("as here");
    true
}

#[test]
fn over_vlans_on_either_side() {
    let bytes: &Vec<u8> = &(0..4_000_000_u32).map(|at| (at % PERIOD as u32) as u8).collect();
    on_both(&[], |stage| {
        if !tag(&stage.backend, "gateway1", "backend0", 2) {
            return;
        }
        let backend = Backend::start(stage);
        stage.serve("TCP", &[(1, Some(&[backend.address]))]);
        both_ways(&stage.connect(), &backend.next(), bytes, bytes);
        assert!(tag(&stage.client, "gateway0", "client0", 1));
        give("tagged1", 1, 9);
        // Its address is where it was, but for a moment it was not there.
        wait("served on the VLAN", PATIENCE, || {
            stage.client.run({
                let to = stage.gateway();
                move || TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok()
            })
        });
        stage.serve("TCP", &[(1, Some(&[backend.address]))]);
        while !backend.has_none() {}
        both_ways(&stage.connect(), &backend.next(), bytes, bytes);
        if stage.way == Way::Kernel {
            assert!(stage.carried("TCP") >= 2);
        }
    });
}
