//! How are durations and sizes written on the command line? `1h30m`, `500ms`; `60KiB`, `4096`.

use std::{fmt, str::FromStr, time::Duration};

/// A duration of the form of GEP-2257: numbers with `h`, `m`, `s`, `ms`; `0` without a unit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span(pub Duration);

/// From the longest; milliseconds each.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration; write it like 1h30m, 10s or 500ms");
        if text == "0" {
            return Ok(Span(Duration::ZERO));
        }
        let mut rest = text;
        let mut total = 0u64;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, behind) = leading_number(rest).ok_or_else(wrong)?;
            let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
            let (unit, behind) = behind.split_at(letters);
            let (_, each) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            total = number.checked_mul(*each).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = behind;
        }
        Ok(Span(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, each) in DURATION_UNITS {
            if left >= each {
                write!(f, "{}{unit}", left / each)?;
                left %= each;
            }
        }
        Ok(())
    }
}

/// A number of bytes: with `KiB`, `MiB`, `GiB`, or without a unit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Size(pub usize);

/// From the largest.
const SIZE_UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size; write it like 60KiB, 32MiB or 4096");
        let (number, unit) = leading_number(text).ok_or_else(wrong)?;
        let (_, each) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number = usize::try_from(number).ok().and_then(|number| number.checked_mul(*each));
        number.map(Size).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |each: usize| self.0 >= each && self.0.is_multiple_of(each);
        let (unit, each) = SIZE_UNITS.into_iter().find(|(_, each)| fits(*each)).unwrap_or(("", 1));
        write!(f, "{}{unit}", self.0 / each)
    }
}

/// A size that HTTP/2 takes for a window (RFC 9113, 6.9.1): at most 2³¹ − 1.
///
/// # Errors
/// For everything else.
pub fn window(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    match i32::try_from(size.0) {
        Ok(_) => Ok(size),
        Err(_) => Err(format!("{text:?} is too large; a window of HTTP/2 is at most {} bytes", i32::MAX)),
    }
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

/// A quantity that cannot be nothing: without time or room no request would be served.
///
/// # Errors
/// For zero, and for what is no quantity.
pub fn some<T: FromStr<Err = String> + Default + PartialEq>(text: &str) -> Result<T, String> {
    let quantity: T = text.parse()?;
    match quantity == T::default() {
        true => Err("it must be more than 0; leave the flag out for the default".to_owned()),
        false => Ok(quantity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis, shown) in [
            ("10s", 10_000, "10s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "1m30s"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1s500ms", 1500, "1s500ms"),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (millis, shown), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "1d", "10 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes, shown) in
            [("60KiB", 61_440, "60KiB"), ("1024KiB", 1 << 20, "1MiB"), ("100", 100, "100"), ("0", 0, "0")]
        {
            let size: Size = text.parse().expect(text);
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for text in ["", "KiB", "1kb", "-1", "1.5MiB", "18446744073709551615GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!(window("2147483647").is_ok() && window("2GiB").is_err());
    }
}
