//! How old is it, in kubectl's words? `5s`, `3m2s`, `4d`.

use jiff::Timestamp;

/// The time from `since` (RFC 3339) to `now`; `<unknown>` without a time, `<invalid>` for one that is none or lies ahead.
pub fn age(since: &str, now: Timestamp) -> String {
    if since.is_empty() {
        return "<unknown>".to_owned();
    }
    match since.parse::<Timestamp>() {
        Ok(since) => span(now.duration_since(since).as_secs()),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A number of seconds in two or three significant figures, as `duration.HumanDuration` of Kubernetes has them. Clocks
/// may differ by a second.
pub fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubectls() {
        for (seconds, words) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (182, "3m2s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (28_799, "7h59m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(span(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn timestamps() {
        let now: Timestamp = "2026-11-24T08:03:02Z".parse().expect("is one");
        assert_eq!(age("2026-11-24T08:00:00Z", now), "3m2s");
        assert_eq!(age("", now), "<unknown>");
        assert_eq!(age("yesterday", now), "<invalid>");
    }
}
