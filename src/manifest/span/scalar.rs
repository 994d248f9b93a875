//! What a scalar means: YAML 1.1's types in the reading of go-yaml v2.
//!
//! `y`, `on` and their like are booleans; `0100` is octal, `0x50`, `0b1010`, `8_0` and `80.` are numbers; `12:30:45` and
//! dates are strings; quotes make a string of anything, tags override.

use super::Content;

/// A scalar with its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    Text(String),
}

const CORE: &str = "tag:yaml.org,2002:";

/// Reads a scalar by its tag (in full; none for an untagged one), by whether it is plain, and by its text.
///
/// # Errors
/// The text is not of the type that the tag names.
pub fn resolve(tag: Option<&str>, plain: bool, text: &str) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return Ok(if plain { untagged(text) } else { Scalar::Text(text.to_owned()) });
    };
    let found = untagged(text);
    let scalar = match (tag.strip_prefix(CORE), found) {
        (Some("null"), Scalar::Null) => Scalar::Null,
        (Some("bool"), Scalar::Bool(flag)) => Scalar::Bool(flag),
        (Some("int"), number @ (Scalar::Int(_) | Scalar::Unsigned(_))) => number,
        (Some("float"), Scalar::Float(number)) => Scalar::Float(number),
        (Some("float"), Scalar::Int(number)) => Scalar::Float(number as f64),
        (Some("timestamp"), Scalar::Text(text)) if timestamp(&text) => Scalar::Text(text),
        (Some(name @ ("null" | "bool" | "int" | "float" | "timestamp")), _) => {
            return Err(format!("{text:?} is not of the type !!{name}"));
        }
        (Some("binary"), _) => return binary(text),
        _ => Scalar::Text(text.to_owned()),
    };
    Ok(scalar)
}

fn untagged(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => match text.as_bytes()[0] {
            b'.' => decimal(text),
            b'0'..=b'9' | b'+' | b'-' => number(&text.replace('_', "")),
            _ => None,
        }
        .unwrap_or_else(|| Scalar::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Scalar> {
    integer(text).or_else(|| decimal(text)).or_else(|| signed_binary(text))
}

/// An integer with an optional sign, and a base by its prefix: `0x`, `0o`, `0b`, or `0` for octal.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, base).ok()?);
    let value = if negative { -magnitude } else { magnitude };
    // Only an unsigned literal reaches beyond i64: "+18446744073709551615" is no integer to go-yaml.
    match i64::try_from(value) {
        Ok(value) => Some(Scalar::Int(value)),
        Err(_) if text.starts_with(['+', '-']) => None,
        Err(_) => u64::try_from(value).ok().map(Scalar::Unsigned),
    }
}

/// `0b` before a signed binary number, which go-yaml takes as well.
fn signed_binary(text: &str) -> Option<Scalar> {
    i64::from_str_radix(text.strip_prefix("0b")?, 2).ok().map(Scalar::Int)
}

/// Digits with at most one point and an exponent, within the range of a double.
fn decimal(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shaped = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    if !shaped || exponent.is_some_and(|exponent| exponent.is_empty() || !digits(exponent)) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(Scalar::Float)
}

fn binary(text: &str) -> Result<Scalar, String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded: String = text.chars().filter(|char| !matches!(char, '\n' | '\r')).collect();
    match STANDARD.decode(encoded) {
        Ok(bytes) => Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned())),
        Err(_) => Err("the value is not base64, as !!binary says".to_owned()),
    }
}

/// The shape of a date, perhaps with a time; enough to tell what `!!timestamp` may stand before.
fn timestamp(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (year, month, day) = (next(), next(), next());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let day = day.split(['T', 't', ' ']).next().unwrap_or_default();
    year.len() == 4 && [year, month, day].into_iter().all(digits)
}

impl Scalar {
    /// The JSON value, as it is after the server turned YAML into JSON: a float without fraction becomes an integer.
    ///
    /// # Errors
    /// JSON has no NaN and no infinity.
    pub fn content(self) -> Result<Content, String> {
        Ok(match self {
            Scalar::Null => Content::Null,
            Scalar::Bool(flag) => Content::Bool(flag),
            Scalar::Int(number) => Content::Int(number),
            Scalar::Unsigned(number) => Content::Float(number as f64),
            Scalar::Float(number) if !number.is_finite() => return Err("JSON has no such number".to_owned()),
            Scalar::Float(number) => match number as i64 {
                integer if integer as f64 == number && number.abs() < 9.2e18 => Content::Int(integer),
                _ => Content::Float(number),
            },
            Scalar::Text(text) => Content::String(text),
        })
    }

    /// The text of this scalar as a key.
    ///
    /// # Errors
    /// Null and integers above `i64::MAX` are no keys.
    pub fn key(&self) -> Result<String, String> {
        match self {
            Scalar::Null => Err("null is no key".to_owned()),
            Scalar::Unsigned(number) => Err(format!("{number} is no key")),
            Scalar::Bool(flag) => Ok(flag.to_string()),
            Scalar::Int(number) => Ok(number.to_string()),
            Scalar::Float(number) => Ok(float_key(*number)),
            Scalar::Text(text) => Ok(text.clone()),
        }
    }
}

/// A float as go-yaml writes it: single precision, an exponent where it is below -4 or above 5.
fn float_key(number: f64) -> String {
    let single = number as f32;
    if !single.is_finite() {
        return if single.is_nan() {
            ".nan"
        } else if single > 0.0 {
            ".inf"
        } else {
            "-.inf"
        }
        .to_owned();
    }
    let scientific = format!("{single:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("LowerExp writes an exponent");
    let exponent: i32 = exponent.parse().expect("LowerExp writes a number");
    if (-4..6).contains(&exponent) {
        return single.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
