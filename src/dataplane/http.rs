//! Where a request ENTERs: its head is checked, its listener and rule are chosen, its filters applied.

use std::{future::Future, rc::Rc};

use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    Connection, Worker, answer,
    body::Body,
    choose::{self, choose},
    exchange::Exchange,
    field::{self, Present},
    filter::{self, Effects, Place},
    forward::{Answered, Forward, Head},
    gate::{self, Gate},
    head::{self, Authority},
    mirror,
    outcome::Reason,
    upgrade::{self, Wanted},
    upload::Source,
};
use crate::snapshot::{Backend, Protocol, Rule, Snapshot};

/// Answers one request. Never fails: every error is an answer, and where the connection has to end with it, an HTTP/1
/// answer says `Connection: close` or its body ends in an error.
///
/// The head is checked at once; the future has what is left to do, and is kept small: it is moved for each request.
pub fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
    present: Present,
) -> impl Future<Output = Response<Body>> {
    let exchange = Exchange::open(&worker, &connection, &request);
    let is_head = *request.method() == Method::HEAD;
    let entered = enter(&exchange, request, present);
    async move {
        let answered = match entered {
            Ok(entered) => {
                let snapshot = exchange.worker.snapshots.pin();
                route(&exchange, &snapshot, entered).await
            }
            Err(reason) => Err(reason),
        };
        let mut response = answered.unwrap_or_else(|reason| refused(&exchange, reason));
        if is_head && !response.body().is_end_stream() {
            without_body(&mut response);
        }
        response
    }
}

fn refused(exchange: &Exchange, reason: Reason) -> Response<Body> {
    exchange.decide(reason, reason.status().as_u16());
    exchange.end_upload();
    answer::own(reason, exchange.version)
}

/// HEAD: the fields of the answer to a GET (RFC 9110, 9.3.2).
fn without_body(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Body::empty();
}

/// A request whose head is in order.
struct Entered {
    authority: Authority,
    head: Box<Head>,
    rest: Rest,
}

/// What of a request is not in its head.
struct Rest {
    incoming: Incoming,
    wanted: Option<Wanted>,
    present: Present,
}

fn enter(exchange: &Exchange, mut request: Request<Incoming>, present: Present) -> Result<Entered, Reason> {
    let (settings, connection) = (&exchange.worker.settings, &exchange.connection);
    let has_body = !request.body().is_end_stream();
    let wanted = upgrade::wanted(&mut request, has_body, present);
    let (mut parts, incoming) = request.into_parts();
    let authority = head::check(&mut parts, settings)?;
    let client = || field::Client::new(connection.peer.ip(), &settings.trusted_proxies);
    let takes_trailers = present.has(Present::TE) && field::has_token(&parts.headers, header::TE, "trailers");
    field::strip_hop_by_hop(&mut parts.headers, present);
    if present.has(Present::TRANSFER_ENCODING) {
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    field::set_forwarding(&mut parts.headers, connection.client.get_or_init(client), connection.tls.is_some());
    exchange.note(|entry| {
        entry.host = authority.name().to_string();
        entry.request_id = field::id(&parts.headers).to_string();
    });
    let head = Head {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        has_body,
        takes_trailers,
        upgrade: wanted.as_ref().map(|wanted| wanted.protocols.clone()),
    };
    Ok(Entered { authority, head: Box::new(head), rest: Rest { incoming, wanted, present } })
}

async fn route(exchange: &Rc<Exchange>, snapshot: &Snapshot, entered: Entered) -> Result<Response<Body>, Reason> {
    let Entered { authority, mut head, mut rest } = entered;
    if ends_here(&mut head)? {
        exchange.decide(Reason::Answered, StatusCode::OK.as_u16());
        return Ok(answer::bare(StatusCode::OK));
    }
    let connection = &exchange.connection;
    if connection.tls.is_none()
        && matches!(head.method, Method::GET | Method::HEAD)
        && let Some(authorization) = snapshot.challenges.answer(head.uri.path())
    {
        exchange.decide(Reason::Answered, StatusCode::OK.as_u16());
        return Ok(answer::bytes(authorization.clone()));
    }
    let matched = choose(snapshot, connection, authority.name(), &head)?;
    exchange.note(|entry| {
        entry.route = Some(matched.rule.route.clone());
        entry.rule = matched.rule.index;
    });
    if let Some(wanted) = &mut rest.wanted
        && let Some(listener) = choose::listener(snapshot, connection, authority.name())
    {
        wanted.listener = listener.key.clone();
    }
    let place = Place { prefix: matched.prefix, tls: connection.tls.is_some(), port: connection.socket.port() };
    follow(exchange, snapshot, matched.rule, &place, head, rest).await
}

/// Is gapi itself asked? By `OPTIONS *`, which no route can match (RFC 9110, 9.3.7), and when `Max-Forwards` ran out
/// (7.6.2); else that is counted down.
fn ends_here(head: &mut Head) -> Result<bool, Reason> {
    if head.uri == "*" {
        return Ok(true);
    }
    if head.method != Method::OPTIONS && head.method != Method::TRACE {
        return Ok(false);
    }
    let left = head.headers.get(header::MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match left {
        Some(0) if head.method == Method::OPTIONS => Ok(true),
        Some(0) => Err(Reason::MethodNotServed),
        Some(left) => {
            head.headers.insert(header::MAX_FORWARDS, (left - 1).into());
            Ok(false)
        }
        None => Ok(false),
    }
}

/// Does what `rule` says. Its response filters and CORS fields are for every answer, also for one that says what went
/// wrong.
async fn follow<'s>(
    exchange: &Rc<Exchange>,
    snapshot: &'s Snapshot,
    rule: &'s Rule,
    place: &Place,
    head: Box<Head>,
    rest: Rest,
) -> Result<Response<Body>, Reason> {
    if rule.broken.is_some() {
        return Err(Reason::RuleBroken);
    }
    let mut effects = Effects::default();
    let answered = reach(exchange, snapshot, rule, place, head, rest, &mut effects).await;
    let mut response = answered.unwrap_or_else(|reason| refused(exchange, reason));
    filter::on_answer(&rule.filters, response.headers_mut());
    if let Some(grant) = &effects.cors {
        grant.apply(response.headers_mut());
    }
    Ok(response)
}

async fn reach<'s>(
    exchange: &Rc<Exchange>,
    snapshot: &'s Snapshot,
    rule: &'s Rule,
    place: &Place,
    mut head: Box<Head>,
    rest: Rest,
    effects: &mut Effects<'s>,
) -> Result<Response<Body>, Reason> {
    let done = |response: Response<Body>| {
        exchange.decide(Reason::Answered, response.status().as_u16());
        response
    };
    if let Some(response) = filter::on_request(&rule.filters, &mut head, place, effects)? {
        return Ok(done(response));
    }
    let chosen = exchange.worker.balance.backend(rule).ok_or(Reason::NoBackend)?;
    if let Some(response) = filter::on_request(&chosen.filters, &mut head, place, effects)? {
        return Ok(done(response));
    }
    let key = chosen.backend.as_ref().ok_or(Reason::InvalidBackend)?;
    let backend = snapshot.backends.get(key).ok_or(Reason::InvalidBackend)?;
    if backend.endpoints.is_empty() {
        return Err(Reason::NoEndpoint);
    }
    let mirrors = std::mem::take(&mut effects.mirrors);
    let tees = if mirrors.is_empty() { Vec::new() } else { mirror::send(&exchange.worker, snapshot, mirrors) };
    let mut response = forward(exchange, rule, backend, head, rest, tees).await?;
    filter::on_answer(&chosen.filters, response.headers_mut());
    Ok(response)
}

async fn forward(
    exchange: &Rc<Exchange>,
    rule: &Rule,
    backend: &Backend,
    mut head: Box<Head>,
    rest: Rest,
    tees: Vec<mirror::Tee>,
) -> Result<Response<Body>, Reason> {
    if rest.present.has(Present::EXPECT) {
        expect(exchange, backend, &mut head);
    }
    let extended = exchange.version == Version::HTTP_2 && rest.wanted.is_some();
    let source = head.has_body.then(|| Source::new(rest.incoming, exchange.clone(), tees));
    let method = head.method.clone();
    let Answered { response, lease, timer } = Forward { exchange, rule, backend }.run(head, source).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::join(response, rest.wanted, exchange);
    }
    // For a CONNECT any success means that the tunnel stands.
    if extended && response.status().is_success() {
        return Err(Reason::UpgradeNotAgreed);
    }
    exchange.decide(Reason::ClientGone, response.status().as_u16());
    answer::receive(response, &method, lease, timer, exchange).await
}

/// Holds the body back for a client and a backend that can speak of it: hyper sends the client its 100 when the body is
/// first asked for.
fn expect(exchange: &Exchange, backend: &Backend, head: &mut Head) {
    let expects = field::has_token(&head.headers, header::EXPECT, "100-continue");
    if !expects || !head.has_body || exchange.version == Version::HTTP_10 {
        if exchange.version == Version::HTTP_10 {
            head.headers.remove(header::EXPECT);
        }
        return;
    }
    if exchange.version == Version::HTTP_11 && backend.protocol == Protocol::Http1 {
        let gate = Gate::new();
        *exchange.gate.borrow_mut() = Some(gate.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(gate::PATIENCE).await;
            gate.open();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl FnOnce(Rc<Worker>, Rc<Connection>, Request<Incoming>, Present) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_stays_small() {
        // Both bounds: what is better than the range moves it. Two timers of it cover an answer to its end.
        let request = size(serve);
        assert!((1500..3400).contains(&request), "{request} bytes for a request");
        assert!((100..256).contains(&size_of::<Body>()), "{} bytes for a body", size_of::<Body>());
    }
}
