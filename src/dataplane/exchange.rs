//! One request and its answer: what both bodies and the forwarding between them share, until the last of them is gone.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::{HeaderMap, Version};
use hyper::body::Incoming;

use super::{
    Connection, Worker,
    access_log::{Entry, Line, milliseconds},
    clock::Watch,
    field::Present,
    gate::Gate,
    grpc,
    outcome::Reason,
};

/// Counts and logs a request that was refused before its head could be read, or a handshake, and the status that said so.
pub fn refuse(worker: &Worker, connection: &Connection, protocol: &'static str, reason: Reason, status: u16) {
    worker.counters.ended(reason, status);
    let Some(log) = &worker.access_log else { return };
    log.put(&Line { status, ..Line::new(SystemTime::now(), connection.peer.ip(), protocol, reason) });
}

/// Counted and logged when it is dropped.
pub struct Exchange {
    pub worker: Rc<Worker>,
    pub connection: Rc<Connection>,
    pub watch: Watch,
    /// The client's protocol.
    pub version: Version,
    /// The client speaks gRPC, which is spoken over HTTP/2 only.
    pub is_grpc: bool,
    reason: Cell<Reason>,
    status: Cell<u16>,
    /// The request's body is asked for, and the client has not sent more of it.
    pub awaits_client: Cell<bool>,
    /// Why the request's body could not be read to its end.
    broken: Cell<Option<Reason>>,
    pub received: Cell<u64>,
    pub sent: Cell<u64>,
    /// Holds the request's body back until the backend wants it.
    pub gate: RefCell<Option<Arc<Gate>>>,
    /// The request's body while nobody reads it.
    pub unread: Cell<Option<Incoming>>,
    entry: RefCell<Option<Box<Entry>>>,
}

impl Exchange {
    pub fn open<B>(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        request: &http::Request<B>,
        present: Present,
    ) -> Rc<Exchange> {
        worker.keep_house();
        let typed = request.version() == Version::HTTP_2 && present.has(Present::CONTENT_TYPE);
        let is_grpc = typed && grpc::is_spoken(request.headers());
        let settings = &worker.settings;
        let limit = if is_grpc { settings.grpc_idle_timeout } else { settings.stall_timeout };
        Rc::new(Exchange {
            worker: worker.clone(),
            connection: connection.clone(),
            watch: Watch::new(&worker.clock, limit),
            version: request.version(),
            is_grpc,
            reason: Cell::new(Reason::ClientGone),
            status: Cell::new(0),
            awaits_client: Cell::new(false),
            broken: Cell::new(None),
            received: Cell::new(0),
            sent: Cell::new(0),
            gate: RefCell::new(None),
            unread: Cell::new(None),
            entry: RefCell::new(worker.access_log.as_ref().map(|_| Box::new(entry(request)))),
        })
    }

    /// How it ends, as far as is known by now.
    pub fn decide(&self, reason: Reason, status: u16) {
        self.reason.set(reason);
        self.status.set(status);
    }

    /// It went wrong after the answer's head was sent.
    pub fn fail(&self, reason: Reason) {
        self.reason.set(reason);
    }

    /// The answer went out whole.
    pub fn answered(&self) {
        if self.reason.get() == Reason::ClientGone {
            self.reason.set(Reason::Answered);
        }
    }

    /// Nobody waits for the rest of the request's body any more.
    pub fn end_upload(&self) {
        if let Some(gate) = &*self.gate.borrow() {
            gate.refuse();
        }
    }

    /// The request's body ends here, before its end.
    pub fn break_upload(&self, reason: Reason) {
        self.broken.set(Some(reason));
    }

    pub fn broken(&self) -> Option<Reason> {
        self.broken.get()
    }

    /// Adds to the log's entry, where there is one.
    pub fn note(&self, write: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entry.borrow_mut().as_deref_mut() {
            write(entry);
        }
    }

    pub fn note_endpoint(&self, endpoint: SocketAddr) {
        self.note(|entry| entry.endpoint = Some(endpoint));
    }

    /// What `fields` of the answer say of a call of gRPC.
    pub fn note_grpc(&self, fields: &HeaderMap) {
        if self.is_grpc {
            self.note(|entry| entry.grpc_status = grpc::status(fields).or(entry.grpc_status));
        }
    }

    fn line<'a>(&self, entry: &'a Entry) -> Line<'a> {
        Line {
            method: &entry.method,
            host: &entry.host,
            target: &entry.target,
            request_id: &entry.request_id,
            status: self.status.get(),
            grpc_status: entry.grpc_status,
            taken: entry.taken.as_ref(),
            endpoint: entry.endpoint,
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            milliseconds: milliseconds(entry.started),
            ..Line::new(entry.time, self.connection.peer.ip(), entry.protocol, self.reason.get())
        }
    }
}

fn entry<B>(request: &http::Request<B>) -> Entry {
    Entry {
        started: Instant::now(),
        time: SystemTime::now(),
        method: request.method().to_string(),
        host: String::new(),
        target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        protocol: match request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        },
        request_id: String::new(),
        taken: None,
        endpoint: None,
        grpc_status: None,
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(broken) = self.broken.get() {
            self.reason.set(broken);
        }
        self.worker.counters.ended(self.reason.get(), self.status.get());
        if let (Some(log), Some(entry)) = (&self.worker.access_log, self.entry.borrow().as_deref()) {
            log.put(&self.line(entry));
        }
    }
}
