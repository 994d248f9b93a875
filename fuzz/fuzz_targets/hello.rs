//! The ClientHello of a TLS client, in pieces of any lengths: it is taken or refused, and how it was cut does not matter.
#![no_main]

use gapi::dataplane::hello::{PIECE, Reading};
use libfuzzer_sys::fuzz_target;

/// What was made of the bytes.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// More is waited for.
    Open,
    Taken(Option<String>),
    Refused,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let mut reading = Reading::default();
    for piece in pieces {
        match reading.feed(piece) {
            Ok(None) => {}
            Ok(Some(accepted)) => return Verdict::Taken(accepted.client_hello().server_name().map(str::to_owned)),
            Err(refusal) => {
                // A record with a fatal alert, and nothing else.
                assert!(matches!(refusal.alert[..], [21, 3, _, 0, 2, 2, _]), "{:?}", refusal.alert);
                return Verdict::Refused;
            }
        }
    }
    Verdict::Open
}

fuzz_target!(|data: &[u8]| {
    // The first byte says how the rest is cut.
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = read(bytes.chunks(PIECE));
    let pieces = read(bytes.chunks(1 + usize::from(*cut)));
    assert_eq!(whole, pieces);
});
