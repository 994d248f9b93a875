//! gRPC, framed by hand: messages are not looked into, so that any method of any service is answered.
//!
//! | method | answer |
//! |---|---|
//! | `/grpc.health.v1.Health/Check` | SERVING |
//! | named `ClientStream` | one message: all messages of the request, one behind the other |
//! | named `ServerStream` | each message of the request three times |
//! | any other | each message, as it comes |

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt, BodyStream, Empty, Full, Limited, StreamBody};
use hyper::body::Incoming;

use super::answer::{AnswerBody, never};

/// A flag and a length stand before each message.
const PREFIX: usize = 5;
/// How often `ServerStream` says a message.
const TIMES: usize = 3;
/// Bytes of a request that has to be whole before it is answered.
const MAX_REQUEST: usize = 4 << 20;
/// `HealthCheckResponse` with `status: SERVING`, field 1 with value 1.
const SERVING: &[u8] = &[0x08, 0x01];
/// What the answer says of who gives it.
const HOSTNAME: HeaderName = HeaderName::from_static("x-hostname");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

const OK: u8 = 0;
const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;

pub(super) fn is_asked_for(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

pub(super) async fn answer(request: Request<Incoming>, name: &str) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    let (service, method) = head.uri.path().trim_start_matches('/').rsplit_once('/').unwrap_or_default();
    let body = match (service, method) {
        ("grpc.health.v1.Health", "Check") => said(Ok(frame(SERVING))),
        (_, "ClientStream") => said(whole(body).await.map(|messages| frame(&messages.concat()))),
        (_, "ServerStream") => said(whole(body).await.map(|messages| {
            messages.iter().flat_map(|message| std::iter::repeat_n(frame(message), TIMES)).flatten().collect()
        })),
        _ => body.with_trailers(async { Some(Ok(trailers(OK, ""))) }).boxed(),
    };
    // As a stream it gets no Content-Length: no server of gRPC sends one, and some clients stop reading there.
    let mut response = Response::new(StreamBody::new(BodyStream::new(body)).boxed());
    for name in [header::CONTENT_TYPE, ENCODING] {
        let value = head.headers.get(&name).cloned();
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    let name = HeaderValue::from_str(name).ok();
    response.headers_mut().extend(name.map(|name| (HOSTNAME, name)));
    response
}

type Failure = (u8, &'static str);

fn said(messages: Result<Vec<u8>, Failure>) -> AnswerBody {
    match messages {
        Ok(messages) => {
            let trailers = async { Some(Ok(trailers(OK, ""))) };
            Full::new(Bytes::from(messages)).map_err(never).with_trailers(trailers).boxed()
        }
        Err((status, message)) => {
            let trailers = async move { Some(Ok(trailers(status, message))) };
            Empty::new().map_err(never).with_trailers(trailers).boxed()
        }
    }
}

fn trailers(status: u8, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from(u16::from(status)))]);
    if !message.is_empty() {
        trailers.insert(MESSAGE, HeaderValue::from_static(message));
    }
    trailers
}

/// All messages of a request.
async fn whole(body: Incoming) -> Result<Vec<Bytes>, Failure> {
    let read = Limited::new(body, MAX_REQUEST).collect().await;
    let bytes = read.map_err(|_| (RESOURCE_EXHAUSTED, "the request is too long, or was cut off"))?.to_bytes();
    messages(bytes).ok_or((INTERNAL, "the request ends within a message"))
}

fn messages(mut bytes: Bytes) -> Option<Vec<Bytes>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let prefix: [u8; PREFIX] = *bytes.first_chunk()?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        bytes.advance(PREFIX);
        if length > bytes.len() {
            return None;
        }
        messages.push(bytes.split_to(length));
    }
    Some(messages)
}

/// A message, not compressed.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a request is shorter");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_apart() {
        let framed = Bytes::from([frame(b"one"), frame(b""), frame(b"three")].concat());
        assert_eq!(messages(framed.clone()).expect("whole"), ["one", "", "three"]);
        for cut in [1, 4, 7, framed.len() - 1] {
            assert!(messages(framed.slice(..cut)).is_none(), "{cut}");
        }
    }
}
