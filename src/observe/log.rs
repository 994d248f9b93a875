//! How are log events written? A line each on standard error: for the journal when systemd reads it, plain else.

use std::{fmt, os::unix::fs::MetadataExt};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Starts logging at `level`: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,gapi::publish=debug`.
///
/// # Errors
/// When `level` is neither, or logging was started before.
pub fn init(level: &str) -> Result<(), String> {
    let journal = journal_reads_stderr();
    tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(std::io::stderr)
        .event_format(Line { journal })
        .try_init()
        .map_err(|error| error.to_string())
}

/// Is `level` one that [`init`] takes?
///
/// # Errors
/// When it is not; the text says why.
pub fn check(level: &str) -> Result<(), String> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    // EnvFilter takes a word that is no level for the name of a target, and would leave out all the others.
    let is_level = |word: &&str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = level.split(',').find(|word| !word.contains('=') && !is_level(word)) {
        return Err(format!("{word:?} is no level; levels are error, warn, info, debug, trace and off"));
    }
    let filter = EnvFilter::builder().parse(level).map_err(|error| error.to_string())?;
    let unnamed = QUIETER.iter().filter(|(target, _)| !level.contains(target));
    Ok(unnamed.fold(filter, |filter, (_, directive)| filter.add_directive(directive.parse().expect("is a directive"))))
}

/// What says less than the level asks for, where the level does not name it. The watch of files writes each event that it
/// reads: those of a log beside the watched directory would never end. rustls warns of what clients send: anybody could
/// fill the log.
const QUIETER: [(&str, &str); 2] = [("notify", "notify=info"), ("rustls", "rustls=error")];

/// systemd names the device and inode of the stream that it reads in `JOURNAL_STREAM`; a redirection changes them.
fn journal_reads_stderr() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stream| named == format!("{}:{}", stream.dev(), stream.ino()))
}

/// One event as one line: `<6>serving generation=3` for the journal, with time and level in words else.
struct Line {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else {
            write!(writer, "{} {level:<5} ", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))?;
        }
        let mut words = Words::default();
        event.record(&mut words);
        writeln!(writer, "{}{}", words.message, words.fields)
    }
}

/// syslog's number for a level (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The message and the other fields of an event. What comes from outside can end neither a line nor a value.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, name: &str, value: &str) {
        match name {
            "message" => self.message = one_line(value),
            _ if is_plain(value) => self.fields += &format!(" {name}={value}"),
            _ => self.fields += &format!(" {name}={value:?}"),
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

/// Can stand behind `=` without quotes.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\'))
}

fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(journal: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .event_format(Line { journal })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let text = lines(true, || {
            tracing::info!(generation = 3, object = %"HTTPRoute a/b", "serving");
            tracing::error!(file = "a.yaml", "rejected");
            tracing::debug!("seen");
        });
        assert_eq!(text, "<6>serving generation=3 object=\"HTTPRoute a/b\"\n<3>rejected file=a.yaml\n<7>seen\n");
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = lines(true, || tracing::warn!(host = %"a\n<0>b\u{1b}[31m", "bad\nhost"));
        assert_eq!(text, "<4>bad\\nhost host=\"a\\n<0>b\\u{1b}[31m\"\n");
    }

    #[test]
    fn plain_lines_begin_with_the_time_and_the_level() {
        let text = lines(false, || tracing::info!("serving"));
        assert_eq!(&text[24..], " INFO  serving\n", "{text}");
        assert!(text[..24].parse::<jiff::Timestamp>().is_ok(), "{text}");
    }

    #[test]
    fn levels_are_checked() {
        assert!(check("info,gapi::publish=debug").is_ok());
        assert!(check("gapi=loud").is_err());
        assert!(check("loud").is_err_and(|message| message.contains("warn")));
        assert!(check("").is_err());
    }
}
