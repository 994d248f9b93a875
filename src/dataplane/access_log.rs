//! The access log: a JSON line for each exchange, written by one thread behind a bounded channel.
//!
//! A worker never waits for it: a line that finds the channel full is dropped and counted.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Instant, SystemTime},
};

use serde::Serialize;

/// Lines that may wait for the writer.
const WAITING: usize = 4096;

/// Where workers put their lines. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens `path` for appending (`-`: standard output) and starts the writer, which ends with the last clone.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be started.
    pub fn open(path: &str) -> io::Result<AccessLog> {
        let out: Box<dyn Write + Send> = match path {
            "-" => Box::new(io::stdout()),
            path => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let (lines, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(&waiting, BufWriter::new(out)))?;
        Ok(AccessLog { lines, dropped: Arc::default() })
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

/// Flushes whenever nothing more waits, so that a line is seen at once.
fn write(lines: &Receiver<Vec<u8>>, mut out: BufWriter<Box<dyn Write + Send>>) {
    let mut failing = false;
    while let Ok(first) = lines.recv() {
        let batch = std::iter::once(first).chain(std::iter::from_fn(|| lines.try_recv().ok()));
        let result = batch.take(WAITING).try_for_each(|line| out.write_all(&line)).and_then(|()| out.flush());
        if let Err(error) = &result
            && !failing
        {
            tracing::error!(%error, "access log cannot be written");
        }
        failing = result.is_err();
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
    pub route: Option<Arc<str>>,
    pub rule: usize,
    pub endpoint: Option<SocketAddr>,
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
    pub reason: &'a str,
    pub fault: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub milliseconds: f64,
}
