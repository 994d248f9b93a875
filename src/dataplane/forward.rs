//! Where a request LEAVEs: to an endpoint of its backend, and again where it is safe and asked for.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header,
    uri::{self, Scheme},
};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::{
    clock::Side,
    counter::add,
    exchange::Exchange,
    grpc,
    outcome::Reason,
    upload::{Repeatable, Source, Upload},
    upstream::{Lease, Unanswered},
};
use crate::snapshot::{Backend, Protocol, Retry, Rule};

/// Endpoints tried for one attempt when they cannot be reached.
const MAX_CONNECTS: usize = 5;
/// Times that one attempt is handed to another connection because the first was closed before a byte was sent.
const MAX_UNSENT: usize = 3;
/// Repeats without a retry policy: of a request that no application can have seen, or that may be sent twice.
const FREE_REPEATS: u32 = 2;
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The head of a request on its way to a backend: origin-form target, one Host, no hop-by-hop fields, no coding.
#[derive(Clone)]
pub struct Head {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub has_body: bool,
    /// The client said `TE: trailers`.
    pub takes_trailers: bool,
    /// What `Upgrade` is to say to an HTTP/1.1 backend.
    pub upgrade: Option<HeaderValue>,
}

impl Head {
    /// With the framing and the connection's own fields that `protocol` needs.
    pub fn into_request(mut self, protocol: Protocol, upload: Upload) -> Request<Upload> {
        let headers = &mut self.headers;
        if self.takes_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let mut request = Request::new(upload);
        match protocol {
            Protocol::Http1 => {
                // hyper would send the body of a GET without framing, that is, not at all.
                if self.has_body && !headers.contains_key(header::CONTENT_LENGTH) {
                    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
                let connection = match (&self.upgrade, self.takes_trailers) {
                    (Some(_), true) => Some("upgrade, te"),
                    (Some(_), false) => Some("upgrade"),
                    (None, true) => Some("te"),
                    (None, false) => None,
                };
                if let Some(connection) = connection {
                    headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
                }
                if let Some(upgrade) = self.upgrade {
                    headers.insert(header::UPGRADE, upgrade);
                }
                *request.uri_mut() = self.uri;
            }
            Protocol::H2c => {
                *request.version_mut() = Version::HTTP_2;
                *request.uri_mut() = with_authority(self.uri, headers.remove(header::HOST));
            }
        }
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        request
    }

    #[cfg(test)]
    pub fn new(method: &Method, target: &str, fields: &[(&str, &str)]) -> Head {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::try_from(*name).expect("valid");
            headers.append(name, HeaderValue::from_str(value).expect("valid"));
        }
        let uri = target.parse().expect("valid");
        Head { method: method.clone(), uri, headers, has_body: false, takes_trailers: false, upgrade: None }
    }
}

/// HTTP/2 says the host in the target.
fn with_authority(target: Uri, host: Option<HeaderValue>) -> Uri {
    let mut parts = target.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
    Uri::from_parts(parts).unwrap_or_default()
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || *method == Method::PUT || *method == Method::DELETE
}

/// The bodies of a request's attempts.
enum Uploads {
    Empty,
    Repeatable(Rc<RefCell<Repeatable>>),
    Single(Option<Box<Source>>),
}

impl Uploads {
    fn may_repeat(&self) -> bool {
        match self {
            Uploads::Empty => true,
            Uploads::Repeatable(source) => source.borrow().is_complete(),
            Uploads::Single(_) => false,
        }
    }

    fn next(&mut self) -> Upload {
        match self {
            Uploads::Empty => Upload::Empty,
            Uploads::Repeatable(source) => Repeatable::next(source),
            Uploads::Single(source) => Upload::Single(source.take().expect("there is one attempt")),
        }
    }
}

/// An answer's head, and what its body comes over.
type Answer = (Response<Incoming>, Lease);

/// An answered attempt: the answer's head, and what its body comes over and under.
pub struct Answered {
    pub response: Response<Incoming>,
    pub lease: Lease,
    /// The deadline that the body is under as well, where the rule has one.
    pub timer: Option<Timer>,
}

/// A timeout of a rule: for the request, or for one attempt.
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    reason: Reason,
}

impl Timer {
    /// Most rules have no timeout: it costs an allocation only where there is one.
    fn new(limit: Option<Duration>, reason: Reason) -> Option<Timer> {
        let limit = limit.filter(|limit| !limit.is_zero())?;
        Some(Timer { sleep: Box::pin(tokio::time::sleep(limit)), reason })
    }

    /// Ready with the reason when the time is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.sleep.as_mut().poll(cx).map(|()| self.reason)
    }
}

/// The one that passes first.
fn first(timers: [Option<Timer>; 2]) -> Option<Timer> {
    timers.into_iter().flatten().min_by_key(|timer| timer.sleep.deadline())
}

/// An attempt without an answer.
struct Failure {
    reason: Reason,
    /// The connection had served before: the backend may have closed it when the request was under way.
    reused: bool,
}

impl Failure {
    fn fresh(reason: Reason) -> Failure {
        Failure { reason, reused: false }
    }
}

/// The timeouts of a rule.
struct Deadlines {
    request: Option<Timer>,
    /// Of the attempt in hand.
    attempt: Option<Timer>,
}

impl Deadlines {
    /// What `future` gives, unless a deadline passes before. `future` stays where it is: moving it into another one would
    /// double its size.
    async fn hold<F: Future>(&mut self, mut future: Pin<&mut F>) -> Result<F::Output, Reason> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        let timers = [&mut self.attempt, &mut self.request].into_iter().flatten();
        timers.map(|timer| timer.poll(cx)).find(Poll::is_ready).unwrap_or(Poll::Pending)
    }

    fn into_next(self) -> Option<Timer> {
        first([self.attempt, self.request])
    }
}

/// What comes after an attempt.
enum Next {
    Again,
    AgainLater,
    End,
}

/// Sends a request to `backend` until it is answered, or may not be sent again.
pub struct Forward<'a> {
    pub exchange: &'a Rc<Exchange>,
    pub rule: &'a Rule,
    pub backend: &'a Backend,
}

impl Forward<'_> {
    /// The answer's head, within the timeouts of the rule.
    ///
    /// # Errors
    /// Why there is none; nothing was sent to the client.
    pub async fn run(&self, mut head: Box<Head>, source: Option<Source>) -> Result<Answered, Reason> {
        let retry = self.rule.retry.as_ref().filter(|retry| retry.attempts > 0);
        let mut uploads = match (source, retry) {
            (None, _) => Uploads::Empty,
            (Some(source), None) => Uploads::Single(Some(Box::new(source))),
            (Some(source), Some(_)) => {
                Uploads::Repeatable(Repeatable::new(source, self.exchange.worker.settings.max_retry_body))
            }
        };
        let idempotent = is_idempotent(&head.method);
        let repeatable = idempotent || retry.is_some() || self.backend.protocol == Protocol::H2c;
        let (mut retries, mut free) = (0, FREE_REPEATS);
        let request = self.deadline(&head.headers);
        let mut deadlines = Deadlines { request, attempt: None };
        loop {
            let spare = (repeatable && uploads.may_repeat()).then(|| head.clone());
            deadlines.attempt = Timer::new(self.rule.backend_timeout, Reason::BackendTimeout);
            let result = self.attempt(head, uploads.next(), &mut deadlines).await;
            if let Some(reason) = self.exchange.broken().filter(|_| result.is_err()) {
                return Err(reason);
            }
            let Some(spare) = spare.filter(|_| uploads.may_repeat()) else {
                return answered(result, deadlines);
            };
            let left = retry.filter(|retry| retries < retry.attempts);
            match next(&result, left, idempotent, free) {
                Next::End => return answered(result, deadlines),
                Next::Again => free -= 1,
                Next::AgainLater => {
                    self.discard(result);
                    deadlines.attempt = None;
                    let base = retry.map_or(Duration::ZERO, |retry| retry.backoff);
                    deadlines.hold(pin!(tokio::time::sleep(backoff(base, retries)))).await?;
                    retries += 1;
                }
            }
            add(&self.exchange.worker.counters.retries);
            head = spare;
        }
    }

    /// The end of the time for all attempts: the rule's, or that of a call of gRPC, where it is shorter.
    ///
    /// Client and backend of a call keep its deadline by themselves. The gateway does too, since its own waiting (for an
    /// endpoint, for room on a connection, for a backend that hangs or knows no deadlines) is in nobody else's hands. It
    /// is no shorter for that: the client's clock began to run before.
    fn deadline(&self, headers: &HeaderMap) -> Option<Timer> {
        let rule = Timer::new(self.rule.request_timeout, Reason::RequestTimeout);
        let limit = self.exchange.is_grpc.then(|| grpc::timeout(headers)).flatten();
        let call = Timer::new(limit, Reason::DeadlinePassed);
        first([rule, call])
    }

    /// An answer that is not the last: its connection is kept where nothing is left to read.
    fn discard(&self, result: Result<Answer, Failure>) {
        if let Ok((response, lease)) = result
            && response.body().is_end_stream()
        {
            lease.give_back(&self.exchange.worker);
        }
    }

    /// One attempt, up to the answer's head.
    async fn attempt(&self, head: Box<Head>, upload: Upload, deadlines: &mut Deadlines) -> Result<Answer, Failure> {
        let mut request = head.into_request(self.backend.protocol, upload);
        if let Some(gate) = self.exchange.gate.borrow().clone() {
            // Other informational answers end here: hyper's server has no way to send them on.
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == http::StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        let mut unsent = 0;
        loop {
            let leased = deadlines.hold(pin!(self.lease())).await.and_then(|leased| leased);
            let mut lease = leased.map_err(Failure::fresh)?;
            let reused = lease.reused;
            let answered = {
                let mut sending = pin!(lease.send(request));
                let answer = poll_fn(|cx| poll_answer(self.exchange, sending.as_mut(), cx));
                deadlines.hold(pin!(answer)).await.map_err(Failure::fresh)?
            };
            match answered {
                Ok(response) => return Ok((response, lease)),
                Err(Unanswered { unsent: Some(back), .. }) if unsent < MAX_UNSENT => {
                    unsent += 1;
                    request = *back;
                }
                Err(Unanswered { reason, .. }) => return Err(Failure { reason, reused }),
            }
        }
    }

    /// A connection to the next endpoint that can be reached.
    async fn lease(&self) -> Result<Lease, Reason> {
        let worker = &self.exchange.worker;
        let mut tried: Vec<SocketAddr> = Vec::new();
        loop {
            let now = worker.clock.now();
            let avoid = |endpoint| tried.contains(&endpoint) || worker.upstreams.is_passed_over(endpoint, now);
            let endpoint = worker.balance.endpoint(self.backend, avoid).ok_or(Reason::NoEndpoint)?;
            match worker.upstreams.lease(worker, endpoint, self.backend.protocol).await {
                Ok(lease) => {
                    self.exchange.note_endpoint(endpoint);
                    return Ok(lease);
                }
                Err(reason) => {
                    let again = tried.contains(&endpoint);
                    tried.push(endpoint);
                    if again || tried.len() >= self.backend.endpoints.len().min(MAX_CONNECTS) {
                        return Err(reason);
                    }
                }
            }
        }
    }
}

fn answered(result: Result<Answer, Failure>, deadlines: Deadlines) -> Result<Answered, Reason> {
    let (response, lease) = result.map_err(|failure| failure.reason)?;
    Ok(Answered { response, lease, timer: deadlines.into_next() })
}

/// The rules of sending again: what no application has seen always may be, what is idempotent when its connection had
/// been used before; everything else only as the retry policy says.
fn next(result: &Result<Answer, Failure>, left: Option<&Retry>, idempotent: bool, free: u32) -> Next {
    let wanted = match result {
        Ok((response, _)) => left.is_some_and(|retry| retry.codes.contains(&response.status().as_u16())),
        Err(Failure { reason, reused }) => {
            let stale = *reason == Reason::BackendClosed && *reused && idempotent;
            if free > 0 && (stale || *reason == Reason::Unprocessed) {
                return Next::Again;
            }
            left.is_some() && (reason.is_unprocessed() || (*reason == Reason::BackendTimeout && idempotent))
        }
    };
    if wanted { Next::AgainLater } else { Next::End }
}

/// Exponential from `base`, with jitter of a half.
fn backoff(base: Duration, retries: u32) -> Duration {
    let full = base.saturating_mul(1 << retries.min(10)).min(MAX_BACKOFF.max(base));
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Polls for the answer's head, as long as bytes move.
fn poll_answer(
    exchange: &Exchange,
    sending: Pin<&mut impl Future<Output = Result<Response<Incoming>, Unanswered>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<Incoming>, Unanswered>> {
    if let Poll::Ready(sent) = sending.poll(cx) {
        exchange.watch.touch();
        return Poll::Ready(sent);
    }
    if exchange.watch.is_expired() {
        let reason = if exchange.awaits_client.get() { Reason::ClientStalled } else { Reason::BackendStalled };
        return Poll::Ready(Err(Unanswered { unsent: None, reason }));
    }
    exchange.watch.wait(Side::Answer, cx.waker());
    Poll::Pending
}
