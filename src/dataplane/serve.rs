//! Runs hyper on an accepted connection until it ends, or is asked to.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn, ready},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{
    ConnectionRef, Settings, Worker, answer,
    body::Body,
    drain::Handle,
    exchange,
    field::Present,
    grpc, http as enter,
    io::{HYPER_FIELDS, Io},
    outcome::Reason,
    pulse::{BodyFraming, Farewell, Phase},
    stream::{Offered, Stream},
};

/// Serves HTTP/1 until the connection has ended or was upgraded.
pub async fn http1(worker: Rc<Worker>, connection: ConnectionRef, handle: Rc<Handle>, io: Io) {
    let service = service_fn({
        let (worker, connection, handle) = (worker.clone(), connection.clone(), handle.clone());
        move |request: Request<Incoming>| {
            let present = Present::of(request.headers());
            handle.pulse.message(framing(request.headers(), present), is_websocket(request.headers(), present));
            let handle = handle.clone();
            enter::serve(worker.clone(), connection.clone(), request, present, move |response| {
                if handle.leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            })
        }
    });
    let mut builder = http1_builder(&worker.settings);
    let (mut io, mut service) = (TokioIo::new(io), service);
    let (ended, http1) = loop {
        let mut http1 = builder.serve_connection(io, service).with_upgrades();
        let ended = poll_fn(|cx| {
            handle.attend(cx);
            if handle.closed() {
                return Poll::Ready(Some(Ok(())));
            }
            match Pin::new(&mut http1).poll(cx) {
                // What is still to be written of the answer before would be lost.
                Poll::Pending if handle.pulse.wants_room() && !handle.pulse.waits_for_write() => Poll::Ready(None),
                polled => polled.map(Some),
            }
        })
        .await;
        if let Some(ended) = ended {
            break (ended, http1);
        }
        let parts = http1.into_parts().expect("it reads a head, so it was not upgraded");
        (io, service) = (parts.io, parts.service);
        io.inner_mut().make_room(&parts.read_buf);
        builder.max_headers(worker.settings.max_fields);
    };
    if let Some(reason) = refusal(handle.pulse.farewell(), ended) {
        exchange::refuse(&worker, &connection, "HTTP/1", reason, reason.status().as_u16());
    }
    let upgraded = !handle.closed() && http1.into_parts().is_none();
    if upgraded {
        // Its `Io` lives on with whoever took it, and leaves the list of connections with it.
        handle.pulse.enter(Phase::Upgraded);
    } else {
        worker.connections.remove(&handle);
    }
}

/// Why the connection refused a head by itself, if it did.
fn refusal(farewell: Option<Farewell>, ended: hyper::Result<()>) -> Option<Reason> {
    match (farewell, ended) {
        (Some(Farewell::BadRequest), _) => Some(Reason::BadHead),
        (Some(Farewell::FieldsTooLarge), _) => Some(Reason::HeadTooLarge),
        (Some(Farewell::RequestTimeout), _) => Some(Reason::HeadTimeout),
        (Some(Farewell::UriTooLong), _) => Some(Reason::TargetTooLong),
        (None, Err(error)) if error.is_parse_too_large() => Some(Reason::HeadTooLarge),
        (None, Err(error)) if error.is_parse() => Some(Reason::BadHead),
        _ => None,
    }
}

/// No timer of hyper's: its head timeout begins with silence, and ends without a 408.
fn http1_builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.half_close(true).header_read_timeout(None).max_buf_size(settings.max_head.max(60 << 10) + (4 << 10));
    if settings.max_fields < HYPER_FIELDS {
        builder.max_headers(settings.max_fields);
    }
    builder
}

/// As hyper reads it: it has refused what is ambiguous.
fn framing(headers: &HeaderMap, present: Present) -> BodyFraming {
    if present.has(Present::TRANSFER_ENCODING) {
        return BodyFraming::Chunked;
    }
    if !present.has(Present::CONTENT_LENGTH) {
        return BodyFraming::Length(0);
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    BodyFraming::Length(length.unwrap_or(0))
}

fn is_websocket(headers: &HeaderMap, present: Present) -> bool {
    present.has(Present::UPGRADE)
        && headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Serves HTTP/2 until the connection has ended.
pub async fn http2(worker: Rc<Worker>, connection: ConnectionRef, handle: Rc<Handle>, io: Io) {
    handle.streams.speak();
    let asked = Rc::new(Cell::new(false));
    let service = service_fn({
        let (worker, handle, asked) = (worker.clone(), handle.clone(), asked.clone());
        move |request: Request<Incoming>| {
            asked.set(true);
            let (stream, first) = handle.streams.arrive();
            if first {
                handle.pulse.enter(Phase::Streams);
            }
            http2_stream(worker.clone(), connection.clone(), handle.clone(), stream, request)
        }
    });
    let executor = StreamExecutor(handle.clone());
    let mut http2 = pin!(http2_builder(&worker.settings, executor).serve_connection(TokioIo::new(io), service));
    let mut told = false;
    poll_fn(|cx| {
        handle.attend(cx);
        if handle.closed() {
            return Poll::Ready(());
        }
        if !told && handle.leaving() && (asked.get() || !handle.came_late()) {
            http2.as_mut().graceful_shutdown();
            told = true;
        }
        http2.as_mut().poll(cx).map(|_| ())
    })
    .await;
    worker.connections.remove(&handle);
}

/// Kept small, with what is large in a box: hyper and the executor move it several times.
fn http2_stream(
    worker: Rc<Worker>,
    connection: ConnectionRef,
    handle: Rc<Handle>,
    stream: Rc<Stream>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Offered>, Infallible>> + Unpin {
    let mut answered: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>> =
        if request.headers().len() > worker.settings.max_fields {
            let reason = Reason::HeadTooLarge;
            let response = match grpc::is_spoken(request.headers()) {
                true => grpc::refusal(reason),
                false => answer::bare(reason.status()),
            };
            exchange::refuse(&worker, &connection, "HTTP/2", reason, response.status().as_u16());
            Box::pin(ready(Ok(response)))
        } else {
            let present = Present::of(request.headers());
            Box::pin(enter::serve(worker, connection, request, present, |_| ()))
        };
    poll_fn(move |cx| {
        let answered = answered.as_mut().poll(cx);
        answered
            .map_ok(|answer| answer.map(|body| handle.streams.offer(body, stream.clone(), handle.pulse.clock.clone())))
    })
}

/// Resets that are waiting to be accepted: more are a rapid reset (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 64;
/// Resets that a client provokes in the life of a connection (CVE-2025-8671); `frame` counts them by time.
const MAX_LOCAL_RESETS: usize = 1024;

fn http2_builder(settings: &Settings, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.h2_max_streams)
        .initial_stream_window_size(settings.h2_stream_window)
        .initial_connection_window_size(settings.h2_connection_window)
        .max_header_list_size(settings.h2_max_header_list)
        .max_send_buf_size((settings.h2_max_send_buffer / 4).clamp(1, 256 << 10))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .enable_connect_protocol()
        .keep_alive_interval(settings.stall_timeout / 2)
        .keep_alive_timeout(settings.stall_timeout / 3);
    builder
}

/// Runs the streams of a connection on its thread, and drops (so resets) those that have stalled.
#[derive(Clone)]
struct StreamExecutor(Rc<Handle>);

impl<F: Future + Unpin + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, mut future: F) {
        let handle = self.0.clone();
        // What comes without a request is the rest of a CONNECT stream (RFC 8441): that is open as well.
        let stream = handle.streams.arrived().unwrap_or_else(|| handle.streams.open().0);
        let open = Open { handle, stream };
        tokio::task::spawn_local(poll_fn(move |cx| match open.stream.stalled(cx) {
            true => Poll::Ready(()),
            false => Pin::new(&mut future).poll(cx).map(|_| ()),
        }));
    }
}

/// Keeps a stream in the count of its connection.
struct Open {
    handle: Rc<Handle>,
    stream: Rc<Stream>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.handle.streams.close(&self.stream) && self.handle.pulse.phase() == Phase::Streams {
            self.handle.pulse.enter(Phase::Idle);
        }
    }
}
