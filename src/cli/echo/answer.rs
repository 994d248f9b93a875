//! What is answered to a request.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;

use super::{
    grpc,
    received::{self, query_values},
    websocket,
};
use crate::cli::quantity::{Size, Span};

/// What bodies of answers fail with: the request's own failure, when its body is sent back.
pub(super) type AnswerBody = BoxBody<Bytes, hyper::Error>;

/// Longest wait that a request may ask for.
const MAX_DELAY: Duration = Duration::from_secs(3600);

pub(super) async fn answer(request: Request<Incoming>, name: Arc<str>) -> Result<Response<AnswerBody>, hyper::Error> {
    if websocket::is_asked_for(&request) {
        return Ok(websocket::switch(request).map(|()| empty()));
    }
    if grpc::is_asked_for(&request) {
        return Ok(grpc::answer(request, &name).await);
    }
    let wish = match Wish::of(&request) {
        Ok(wish) => wish,
        Err(reason) => return Ok(refusal(reason)),
    };
    tokio::time::sleep(wish.delay).await;
    let is_head = request.method() == Method::HEAD;
    let mut response = if wish.stream { sent_back(request) } else { reported(request, &name, &wish).await? };
    *response.status_mut() = wish.status;
    response.headers_mut().extend(wish.headers);
    if is_head || matches!(wish.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        drop_body(&mut response);
    }
    Ok(response)
}

/// Leaves what the head says of the body, where an answer without one may say it (RFC 9110, 8.6).
fn drop_body(response: &mut Response<AnswerBody>) {
    let length = response.body().size_hint().exact();
    *response.body_mut() = empty();
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(header::CONTENT_TYPE);
    } else if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
}

/// The request's body and trailers, as they come.
fn sent_back(request: Request<Incoming>) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.boxed());
    for name in [header::CONTENT_TYPE, header::TRAILER] {
        let value = head.headers.get(&name).cloned();
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    response
}

/// What was received, or as many bytes as were asked for; and the trailers that were asked for.
async fn reported(request: Request<Incoming>, name: &str, wish: &Wish) -> Result<Response<AnswerBody>, hyper::Error> {
    let report = received::report(request, name).await?;
    let body = wish.size.map_or_else(|| full(report.into()), |size| Filler { left: size }.map_err(never).boxed());
    let mut response = Response::new(with_trailers(body, wish.trailers.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let names: Vec<&str> = wish.trailers.keys().map(HeaderName::as_str).collect();
    if !names.is_empty() {
        let names = names.join(", ").parse().expect("names of fields are a field value");
        response.headers_mut().insert(header::TRAILER, names);
    }
    Ok(response)
}

/// What a request says about its answer.
struct Wish {
    status: StatusCode,
    delay: Duration,
    stream: bool,
    size: Option<usize>,
    headers: HeaderMap,
    trailers: HeaderMap,
}

impl Wish {
    fn of(request: &Request<Incoming>) -> Result<Wish, String> {
        let query = request.uri().query().unwrap_or("");
        let first = |name: &str| query_values(query, name).into_iter().next();
        let status = request.uri().path().strip_prefix("/status/").map(str::to_owned).or(first("status"));
        let delay = first("delay").map_or(Ok(Span(Duration::ZERO)), |text| text.parse())?.0;
        if delay > MAX_DELAY {
            return Err(format!("a delay is at most {}", Span(MAX_DELAY)));
        }
        Ok(Wish {
            status: status.map_or(Ok(StatusCode::OK), |text| status_of(&text))?,
            delay,
            stream: first("body").is_some_and(|body| body == "stream"),
            size: first("size").map(|text| text.parse::<Size>()).transpose()?.map(|size| size.0),
            headers: fields(&query_values(query, "header"))?,
            trailers: fields(&query_values(query, "trailer"))?,
        })
    }
}

/// Statuses below 200 are not final answers.
fn status_of(text: &str) -> Result<StatusCode, String> {
    let status = text.parse().ok().filter(|status: &StatusCode| status.as_u16() >= 200);
    status.ok_or_else(|| format!("{text:?} is no status from 200 to 999"))
}

fn fields(written: &[String]) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    for field in written {
        let wrong = || format!("{field:?} is no field; write it like name:value");
        let (name, value) = field.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
        fields.append(name, value);
    }
    Ok(fields)
}

fn refusal(reason: String) -> Response<AnswerBody> {
    let mut response = Response::new(full((reason + "\n").into()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn with_trailers(body: AnswerBody, trailers: HeaderMap) -> AnswerBody {
    match trailers.is_empty() {
        true => body,
        false => Unsized(body.with_trailers(async { Some(Ok(trailers)) }).boxed()).boxed(),
    }
}

/// A body that does not say its length, so that HTTP/1.1 sends it in chunks, which trailers need.
struct Unsized(AnswerBody);

impl Body for Unsized {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }
}

fn empty() -> AnswerBody {
    Empty::new().map_err(never).boxed()
}

fn full(bytes: Bytes) -> AnswerBody {
    Full::new(bytes).map_err(never).boxed()
}

pub(super) fn never(error: Infallible) -> hyper::Error {
    match error {}
}

/// A body of so many bytes, made as they are taken.
struct Filler {
    left: usize,
}

const CHUNK: &[u8] = &[b'x'; 16 << 10];

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.left.min(CHUNK.len());
        self.left -= length;
        Poll::Ready((length > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
