//! HTTP/2 with prior knowledge: frames by hand.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use gapi::dataplane::Settings;

use crate::harness::*;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;
/// `GET`, `/`, `http` from the static table, `:authority: a` literal.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x01, 0x01, b'a'];

pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn read_frame(stream: &mut impl Read) -> Option<Frame> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).ok()?;
    let mut payload = vec![0; usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])];
    stream.read_exact(&mut payload).ok()?;
    let [.., a, b, c, d] = header;
    Some(Frame { kind: header[3], stream: u32::from_be_bytes([a, b, c, d]), payload })
}

pub fn await_frame(stream: &mut impl Read, kind: u8) -> Option<Frame> {
    std::iter::from_fn(|| read_frame(stream)).find(|frame| frame.kind == kind)
}

fn start(settings: Settings) -> (Gateway, TcpStream) {
    let (gateway, address) = Gateway::plain(settings);
    let mut stream = connect(address);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).expect("sent");
    (gateway, stream)
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, 5, stream, GET)
}

#[test]
fn the_preface_is_known_however_it_is_cut() {
    let (_gateway, address) = Gateway::plain(Settings::default());
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1)].concat();
    for step in [1, 3, 24, 200] {
        let mut stream = connect(address);
        for piece in bytes.chunks(step) {
            stream.write_all(piece).expect("sent");
            std::thread::sleep(Duration::from_millis(1));
        }
        let answer = await_frame(&mut stream, HEADERS).expect("an answer");
        assert_eq!((answer.stream, answer.payload[0]), (1, 0x8d), ":status 404 is entry 13");
    }
    assert_eq!(status(&exchange(address, b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n")), 400);
}

#[test]
fn its_settings_are_said() {
    let (_gateway, mut stream) = start(Settings::default());
    let settings = await_frame(&mut stream, SETTINGS).expect("settings").payload;
    let said: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|one| (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes([one[2], one[3], one[4], one[5]])))
        .collect();
    for expected in [(3, 128), (4, 64 << 10), (6, 64 << 10)] {
        assert!(said.contains(&expected), "{expected:?} in {said:?}");
    }
}

#[test]
fn floods_end_with_enhance_your_calm() {
    let open_and_reset: Vec<u8> =
        (0..3000).flat_map(|n| [get(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()).collect();
    for flood in [
        frame(PING, 0, 0, &[0; 8]).repeat(3000),
        frame(SETTINGS, 0, 0, &[]).repeat(3000),
        frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(3000),
        open_and_reset,
    ] {
        let (gateway, mut stream) = start(Settings::default());
        _ = stream.write_all(&flood);
        let goaway = await_frame(&mut stream, GOAWAY).expect("GOAWAY");
        assert_eq!(goaway.payload[7], ENHANCE_YOUR_CALM);
        drop(stream);
        wait_until("closed", || gateway.open() == 0);
    }
}

#[test]
fn bounds_of_a_head() {
    let (_gateway, mut stream) = start(Settings::default());
    let literal = |name: &[u8], value: &[u8]| {
        assert!(name.len() < 127 && value.len() < 127);
        [&[0x00, name.len() as u8], name, &[value.len() as u8], value].concat()
    };
    let many = [GET, &literal(b"x", b"y").repeat(129)].concat();
    stream.write_all(&frame(HEADERS, 5, 1, &many)).expect("sent");
    let answer = await_frame(&mut stream, HEADERS).expect("an answer");
    assert_eq!(answer.stream, 1);
    assert!(String::from_utf8_lossy(&answer.payload).contains("431") || answer.payload.len() > 1);
    stream.write_all(&get(3)).expect("sent");
    assert_eq!(await_frame(&mut stream, HEADERS).expect("an answer").stream, 3, "the connection goes on");
}

#[test]
fn a_slow_header_block_and_idleness_end() {
    let settings = Settings {
        head_timeout: Duration::from_millis(200),
        client_idle_timeout: Duration::from_millis(400),
        ..Settings::default()
    };
    let (_gateway, mut stream) = start(settings.clone());
    stream.write_all(&frame(HEADERS, 1, 1, GET)).expect("sent, without END_HEADERS");
    assert_eq!(await_frame(&mut stream, GOAWAY).expect("GOAWAY").payload[7], ENHANCE_YOUR_CALM);

    let (gateway, mut stream) = start(settings);
    stream.write_all(&get(1)).expect("sent");
    let goaway = await_frame(&mut stream, GOAWAY).expect("GOAWAY");
    assert_eq!(goaway.payload[4..8], [0; 4], "NO_ERROR");
    while read_frame(&mut stream).is_some() {}
    wait_until("closed, though its ping was not answered", || gateway.open() == 0);
}
