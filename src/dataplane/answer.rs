//! Answers: gapi's own, and the checks of a backend's.

use std::rc::Rc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode, Version,
    header::{self, HeaderMap},
    response::Parts,
};
use hyper::body::Incoming;

use super::{
    body::{Body, Download},
    exchange::Exchange,
    field::{self, Present},
    forward::Timer,
    outcome::Reason,
    upstream::Lease,
};

/// gapi's own answer for `reason`: a line of text. Over HTTP/1 it ends the connection where the reason says so.
pub fn own(reason: Reason, version: Version) -> Response<Body> {
    let mut response = Response::new(Body::text(reason.text()));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if reason.closes() && version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// gapi's own answer without a body.
pub fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// gapi's own answer with a body that no reason is behind: a challenge's.
pub fn bytes(bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::bytes(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// Turns a backend's answer into the client's: checked as strictly as a request, hop-by-hop fields removed, framed anew.
///
/// # Errors
/// [`Reason::BadAnswer`]; the connection is dropped.
pub fn receive(
    answer: Response<Incoming>,
    method: &Method,
    lease: Lease,
    timer: Option<Timer>,
    exchange: &Rc<Exchange>,
) -> Result<Response<Body>, Reason> {
    let (mut parts, incoming) = answer.into_parts();
    let present = Present::of(&parts.headers);
    let length = check(&parts, present)?;
    if present.has(Present::TRANSFER_ENCODING) {
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    let bodiless = *method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    field::strip_hop_by_hop(&mut parts.headers, present);
    let backend_version = std::mem::replace(&mut parts.version, Version::HTTP_11);
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if backend_version == Version::HTTP_2 && exchange.version != Version::HTTP_2 {
        announce_grpc_trailers(&mut parts.headers);
    }
    exchange.note_grpc(&parts.headers);
    let mut download = Download::new(incoming, backend_version, lease, timer, exchange.clone());
    if !bodiless {
        download.look()?;
    }
    let body = match length {
        // hyper drops the length of an empty body, which a 304 may state.
        Some(length) if parts.status == StatusCode::NOT_MODIFIED && exchange.version != Version::HTTP_2 => {
            drop(download);
            Body::claimed(length)
        }
        _ => Body::backend(download),
    };
    Ok(Response::from_parts(parts, body))
}

/// RFC 9112, 6.1 and 6.3, as strict as for requests. Gives the stated length.
fn check(parts: &Parts, present: Present) -> Result<Option<u64>, Reason> {
    if parts.status.as_u16() >= 600 {
        return Err(Reason::BadAnswer);
    }
    let all = |field, name| present.has(field).then(|| parts.headers.get_all(name)).into_iter().flatten();
    let mut codings = all(Present::TRANSFER_ENCODING, header::TRANSFER_ENCODING);
    let coding = codings.next();
    if codings.next().is_some() || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Reason::BadAnswer);
    }
    let mut lengths = all(Present::CONTENT_LENGTH, header::CONTENT_LENGTH);
    let Some(length) = lengths.next() else { return Ok(None) };
    let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if !digits || coding.is_some() || lengths.next().is_some() {
        return Err(Reason::BadAnswer);
    }
    length.to_str().ok().and_then(|length| length.parse().ok()).map(Some).ok_or(Reason::BadAnswer)
}

/// HTTP/1 sends only trailers that were announced, HTTP/2 knows no such duty, and gRPC lives on its trailers.
fn announce_grpc_trailers(headers: &mut HeaderMap) {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if headers.get(header::CONTENT_TYPE).is_some_and(grpc) && !headers.contains_key(header::TRAILER) {
        let names = HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
        headers.insert(header::TRAILER, names);
    }
}
