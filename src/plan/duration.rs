//! Durations as GEP-2257 writes them: `1h30m`, `500ms`; up to four parts in any order.

use std::time::Duration;

/// The duration; none for zero, which turns a timeout off, and for what is no duration (admission lets none through).
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += match &rest[..unit] {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = &rest[unit..];
    }
    Some(total).filter(|total| !total.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_zero_is_none() {
        for (text, milliseconds) in [("1h30m", 5_400_000), ("500ms", 500), ("1ms1h", 3_600_001), ("1s1s1s1s", 4000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0s", "0h0m", "", "1", "1.5s", "s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
