//! Bytes to text: UTF-8, or UTF-16 with a byte order mark, of characters that YAML allows.

use std::borrow::Cow;

use super::{Place, Refusal};

/// The text of a file without its byte order mark.
///
/// # Errors
/// Bytes that are no text of the encoding, and control characters.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(utf8(rest)?),
        _ => Cow::Borrowed(utf8(bytes)?),
    };
    match text.char_indices().find(|(_, char)| !allowed(*char)) {
        Some((at, char)) => {
            let message = format!("the control character U+{:04X} is not allowed", u32::from(char));
            Err(refusal(&text, at, message, "remove it, or write it as an escape in double quotes"))
        }
        None => Ok(text),
    }
}

/// The place of the byte `at`, one character long.
pub(super) fn place(text: &str, at: usize) -> Place {
    let before = &text[..at];
    let newlines = before.bytes().filter(|byte| *byte == b'\n').count();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        line: newlines as u32 + 1,
        column: text[line_start..at].chars().count() as u32 + 1,
        start: at,
        end: at + text[at..].chars().next().map_or(0, char::len_utf8),
    }
}

fn refusal(text: &str, at: usize, message: String, remedy: &str) -> Refusal {
    Refusal { place: place(text, at), reason: "SyntaxError", message, remedy: remedy.to_owned() }
}

fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    str::from_utf8(bytes).map_err(|error| {
        let valid = str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there");
        refusal(valid, valid.len(), "the file is not UTF-8 text".to_owned(), "save it as UTF-8")
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Refusal> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len() / 2);
    for char in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match char {
            Ok(char) => text.push(char),
            Err(_) => return Err(not_utf16(&text)),
        }
    }
    if odd.is_empty() { Ok(text) } else { Err(not_utf16(&text)) }
}

fn not_utf16(valid: &str) -> Refusal {
    refusal(valid, valid.len(), "the file is not the UTF-16 text that it begins as".to_owned(), "save it as UTF-8")
}

/// What YAML 1.1 allows unescaped.
fn allowed(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}
