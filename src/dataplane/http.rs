//! Where a request ENTERs: its head is checked, its listener and rule are chosen, its filters applied.

use std::{convert::Infallible, future::Future, rc::Rc};

use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    Connection, Worker,
    access_log::Taken,
    answer,
    body::Body,
    choose::{self, choose},
    exchange::Exchange,
    field::{self, Present},
    filter::{self, Effects, Place},
    forward::{Answered, Forward, Head},
    gate::{self, Gate},
    grpc,
    head::{self, Authority},
    mirror::{self, Mirror},
    outcome::Reason,
    unread,
    upgrade::{self, Wanted},
    upload::Source,
};
use crate::snapshot::{Backend, Filter, Matched, Protocol, Rule, Snapshot};

/// Answers one request. Never fails: every error is an answer, and where the connection has to end with it, an HTTP/1
/// answer says `Connection: close` or its body ends in an error. `last` has the last word on the answer's head.
///
/// The head is checked at once; the future has what is left to do, and is kept small: it is moved for each request.
pub fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
    present: Present,
    last: impl FnOnce(&mut Response<Body>),
) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    let exchange = Exchange::open(&worker, &connection, &request, present);
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
        if let Some(unread) = exchange.unread.take() {
            unread::discard(unread, exchange.version);
        }
        if is_head && !response.body().is_end_stream() {
            without_body(&mut response);
        }
        last(&mut response);
        Ok(response)
    }
}

fn refused(exchange: &Exchange, reason: Reason) -> Response<Body> {
    exchange.end_upload();
    let response = match exchange.is_grpc {
        true => grpc::refusal(reason),
        false => answer::own(reason, exchange.version),
    };
    exchange.decide(reason, response.status().as_u16());
    exchange.note_grpc(response.headers());
    response
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
    wanted: Option<Wanted>,
    present: Present,
}

fn enter(exchange: &Exchange, mut request: Request<Incoming>, present: Present) -> Result<Entered, Reason> {
    let (settings, connection) = (&exchange.worker.settings, &exchange.connection);
    let has_body = !request.body().is_end_stream();
    let wanted = upgrade::wanted(&mut request, has_body, present);
    let (mut parts, incoming) = request.into_parts();
    exchange.unread.set(Some(incoming));
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
    Ok(Entered { authority, head: Box::new(head), rest: Rest { wanted, present } })
}

/// Finds the rule and does what it says. Its response filters and CORS fields are for every answer, also for one that
/// says what went wrong.
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
    let Matched { rule, prefix } = choose(snapshot, connection, authority.name(), &head)?;
    exchange.note(|entry| {
        entry.taken = Some(Taken::by(rule));
    });
    if let Some(wanted) = &mut rest.wanted
        && let Some(listener) = choose::listener(snapshot, connection, authority.name())
    {
        wanted.listener = listener.key.clone();
    }
    if rule.broken.is_some() {
        return Err(Reason::RuleBroken);
    }
    let place = Place { prefix, tls: connection.tls.is_some(), port: connection.socket.port() };
    let mut effects = Effects::default();
    let answered = match reach(exchange, snapshot, rule, &place, &mut head, &mut effects) {
        Ok(Reached::Answer(response)) => Ok(*response),
        Ok(Reached::Backend { filters, backend }) => {
            let mirrors = std::mem::take(&mut effects.mirrors);
            let way = Forward { exchange, rule, backend };
            forward(exchange, snapshot, way, head, rest, mirrors).await.map(|mut response| {
                filter::on_answer(filters, response.headers_mut());
                response
            })
        }
        Err(reason) => Err(reason),
    };
    let mut response = answered.unwrap_or_else(|reason| refused(exchange, reason));
    filter::on_answer(&rule.filters, response.headers_mut());
    if let Some(grant) = &effects.cors {
        grant.apply(response.headers_mut());
    }
    Ok(response)
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

/// Where the filters of a rule and of its backendRef lead.
enum Reached<'s> {
    /// One of them answers by itself.
    Answer(Box<Response<Body>>),
    Backend {
        /// Of the backendRef.
        filters: &'s [Filter],
        backend: &'s Backend,
    },
}

fn reach<'s>(
    exchange: &Exchange,
    snapshot: &'s Snapshot,
    rule: &'s Rule,
    place: &Place,
    head: &mut Head,
    effects: &mut Effects<'s>,
) -> Result<Reached<'s>, Reason> {
    let done = |response: Response<Body>| {
        exchange.decide(Reason::Answered, response.status().as_u16());
        Reached::Answer(Box::new(response))
    };
    if let Some(response) = filter::on_request(&rule.filters, head, place, effects)? {
        return Ok(done(response));
    }
    let chosen = exchange.worker.balance.backend(rule).ok_or(Reason::NoBackend)?;
    if let Some(response) = filter::on_request(&chosen.filters, head, place, effects)? {
        return Ok(done(response));
    }
    let key = chosen.backend.as_ref().ok_or(Reason::InvalidBackend)?;
    let backend = snapshot.backends.get(key).ok_or(Reason::InvalidBackend)?;
    if backend.endpoints.is_empty() {
        return Err(Reason::NoEndpoint);
    }
    Ok(Reached::Backend { filters: &chosen.filters, backend })
}

async fn forward(
    exchange: &Rc<Exchange>,
    snapshot: &Snapshot,
    way: Forward<'_>,
    mut head: Box<Head>,
    rest: Rest,
    mirrors: Vec<Mirror>,
) -> Result<Response<Body>, Reason> {
    if way.backend.protocol == Protocol::H2c && rest.wanted.as_ref().is_some_and(Wanted::is_websocket) {
        return Err(Reason::UpgradeNotServed);
    }
    let tees = if mirrors.is_empty() { Vec::new() } else { mirror::send(&exchange.worker, snapshot, mirrors) };
    if rest.present.has(Present::EXPECT) {
        expect(exchange, way.backend, &mut head);
    }
    let extended = exchange.version == Version::HTTP_2 && rest.wanted.is_some();
    let incoming = exchange.unread.take().filter(|_| head.has_body);
    let source = incoming.map(|incoming| Source::new(incoming, exchange.clone(), tees));
    let method = head.method.clone();
    let Answered { response, lease, timer } = way.run(head, source).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::join(response, rest.wanted, exchange);
    }
    // For a CONNECT any success means that the tunnel stands.
    if extended && response.status().is_success() {
        return Err(Reason::UpgradeNotAgreed);
    }
    exchange.decide(Reason::ClientGone, response.status().as_u16());
    answer::receive(response, &method, lease, timer, exchange)
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

    type Last = fn(&mut Response<Body>);

    fn size<F: Future>(_: impl FnOnce(Rc<Worker>, Rc<Connection>, Request<Incoming>, Present, Last) -> F) -> usize {
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
