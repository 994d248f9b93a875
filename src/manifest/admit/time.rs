//! Times of RFC 3339 as the server reads them.

use serde_json::Value;

use super::{Judge, Reason, written};
use crate::manifest::span::{Content, Node};

/// A time in a string.
pub fn timestamp(judge: &mut Judge, node: &Node) -> Option<Value> {
    let text = match &node.content {
        Content::String(text) => text,
        _ => {
            judge.wrong_type(node, "a string");
            return None;
        }
    };
    if !rfc3339(text) {
        judge.fault(
            Reason::WrongType,
            node.place,
            format!("{} is not a time of RFC 3339", written(node)),
            "write 2026-01-31T12:00:00Z",
        );
    }
    Some(Value::from(text.as_str()))
}

/// Whether the server reads `text` as a time: RFC 3339 with `T` and `Z` in upper case; the hour may have one digit.
pub fn rfc3339(text: &str) -> bool {
    parse_time(text).is_some()
}

fn parse_time(text: &str) -> Option<()> {
    let (date, rest) = text.split_once('T')?;
    let (year, month, day) = (number(date.get(..4)?, 4)?, number(date.get(5..7)?, 2)?, number(date.get(8..)?, 2)?);
    let separated = date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-';
    if !separated || !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return None;
    }
    let (hour, rest) = rest.split_once(':')?;
    let (minute, rest) = rest.split_once(':')?;
    let second = rest.get(..2)?;
    let hour_digits = hour.len().clamp(1, 2);
    if number(hour, hour_digits)? > 23 || number(minute, 2)? > 59 || number(second, 2)? > 59 {
        return None;
    }
    let mut rest = &rest[2..];
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        rest = &fraction[digits..];
    }
    if rest == "Z" {
        return Some(());
    }
    let (hour, minute) = rest.strip_prefix(['+', '-'])?.split_once(':')?;
    (number(hour, 2)? <= 24 && number(minute, 2)? <= 60).then_some(())
}

fn number(digits: &str, length: usize) -> Option<u32> {
    (digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}
