//! The access log: a JSON line for each exchange, written by one thread behind a bounded channel.
//!
//! A worker never waits for it: a line that finds the channel full is dropped and counted.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use super::outcome::Reason;
use crate::snapshot::Rule;

/// Lines that may wait for the writer.
const WAITING: usize = 4096;
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where workers put their lines. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    /// An empty one wakes the writer and is not written.
    lines: SyncSender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

/// The thread that writes. It ends with the last clone of its [`AccessLog`].
pub struct Writer(JoinHandle<()>);

impl AccessLog {
    /// Opens `path` for appending (`-`: standard output) and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be started.
    pub fn open(path: &str) -> io::Result<(AccessLog, Writer)> {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("the access log {path}: {error}"));
        let out = open(path).map_err(told)?;
        let (lines, waiting) = sync_channel(WAITING);
        let log = AccessLog { lines, reopen: Arc::default(), dropped: Arc::default() };
        let (path, reopen) = (path.to_owned(), log.reopen.clone());
        let run = move || Sink { path, out, reopen, failing: false }.run(&waiting);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(run)?;
        Ok((log, Writer(thread)))
    }

    /// Has the file opened anew, by its name: it was renamed to be kept. Does not wait for it.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // Where there is no room the writer is busy, and sees it at its next turn.
        let _ = self.lines.try_send(Vec::new());
    }

    /// Lines that were lost because the writer could not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn put(&self, line: &Line<'_>) {
        let mut bytes = serde_json::to_vec(line).expect("a line has only strings and numbers");
        bytes.push(b'\n');
        if self.lines.try_send(bytes).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Writer {
    /// Waits until all is written; not for ever, since a disk may hang. `log` is the last clone.
    pub fn finish(self, log: AccessLog) {
        drop(log);
        let start = Instant::now();
        while !self.0.is_finished() && start.elapsed() < LAST_LINES {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

type Out = BufWriter<Box<dyn Write + Send>>;

fn open(path: &str) -> io::Result<Out> {
    Ok(BufWriter::new(match path {
        "-" => Box::new(io::stdout()),
        path => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
    }))
}

/// What the writer's thread has.
struct Sink {
    path: String,
    out: Out,
    reopen: Arc<AtomicBool>,
    failing: bool,
}

impl Sink {
    /// Flushes whenever nothing more waits, so that a line is seen at once.
    fn run(mut self, lines: &Receiver<Vec<u8>>) {
        while let Ok(first) = lines.recv() {
            if self.reopen.swap(false, Relaxed) {
                self.open_anew();
            }
            let batch = std::iter::once(first).chain(std::iter::from_fn(|| lines.try_recv().ok())).take(WAITING);
            let result = self.write(batch);
            if let Err(error) = &result
                && !self.failing
            {
                tracing::error!(path = %self.path, %error, "access log cannot be written");
            }
            self.failing = result.is_err();
        }
    }

    fn write(&mut self, mut lines: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        lines.try_for_each(|line| self.out.write_all(&line))?;
        self.out.flush()
    }

    fn open_anew(&mut self) {
        match open(&self.path) {
            Ok(out) => self.out = out,
            Err(error) => tracing::error!(path = %self.path, %error, "access log cannot be opened anew"),
        }
    }
}

/// What is known of an exchange from its head.
pub(super) struct Entry {
    pub started: Instant,
    pub time: SystemTime,
    pub method: String,
    pub host: String,
    pub target: String,
    pub protocol: &'static str,
    pub request_id: String,
    pub taken: Option<Taken>,
    pub endpoint: Option<SocketAddr>,
    pub grpc_status: Option<u16>,
}

/// The rule that took an exchange.
#[derive(Serialize)]
pub(super) struct Taken {
    kind: &'static str,
    /// `namespace/name`.
    route: Arc<str>,
    rule: usize,
}

impl Taken {
    pub fn by(rule: &Rule) -> Taken {
        Taken { kind: rule.kind, route: rule.route.clone(), rule: rule.index }
    }
}

/// One line.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    /// RFC 3339, in UTC.
    pub time: String,
    pub client: IpAddr,
    pub method: &'a str,
    pub host: &'a str,
    pub target: &'a str,
    pub protocol: &'a str,
    pub request_id: &'a str,
    /// 0: no answer.
    pub status: u16,
    /// Of a call of gRPC, as far as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    pub reason: &'a str,
    pub fault: &'a str,
    #[serde(flatten)]
    pub taken: Option<&'a Taken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub milliseconds: f64,
}

impl Line<'_> {
    /// What there is to say of every exchange, also of one without a request.
    pub fn new(time: SystemTime, client: IpAddr, protocol: &'static str, reason: Reason) -> Line<'static> {
        Line {
            time: jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default(),
            client: client.to_canonical(),
            method: "",
            host: "",
            target: "",
            protocol,
            request_id: "",
            status: 0,
            grpc_status: None,
            reason: reason.word(),
            fault: reason.fault().word(),
            taken: None,
            endpoint: None,
            bytes_received: 0,
            bytes_sent: 0,
            milliseconds: 0.0,
        }
    }
}

/// Milliseconds since `started`.
pub(super) fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_micros() as f64 / 1000.0
}
