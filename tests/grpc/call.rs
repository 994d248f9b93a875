//! Clients and backends of HTTP/2 that see and say each frame of a call.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason as Code, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use crate::stage::HOST;

/// What a loaded machine may need for what must happen.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it is watched that nothing happens.
pub const QUIET: Duration = Duration::from_millis(200);

/// Runs a client's side.
pub fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(LIMIT, client).await.expect("it ends") };
    tokio::task::LocalSet::new().block_on(&runtime, limited)
}

pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    over(stream).await
}

pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::task::spawn_local(async move { drop(connection.await) });
    sender.ready().await.expect("open")
}

/// A call under way.
pub struct Call {
    answer: Option<ResponseFuture>,
    pub up: SendStream<Bytes>,
}

pub fn head(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://{HOST}{path}"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(fields) {
        request = request.header(*name, *value);
    }
    request.body(()).expect("valid")
}

/// Begins a call.
pub async fn open(sender: &mut SendRequest<Bytes>, path: &str, fields: &[(&str, &str)]) -> Call {
    begin(sender, head(path, fields)).await
}

pub async fn begin(sender: &mut SendRequest<Bytes>, head: Request<()>) -> Call {
    let ready = sender.clone().ready().await;
    *sender = ready.expect("open");
    let (answer, up) = sender.send_request(head, false).expect("sent");
    Call { answer: Some(answer), up }
}

/// A call with one message.
pub async fn unary(sender: &mut SendRequest<Bytes>, path: &str, fields: &[(&str, &str)]) -> Result<Whole, h2::Error> {
    let mut call = open(sender, path, fields).await;
    // A gateway that refused may have reset the stream already.
    let _ = call.up.send_data("message".into(), true);
    call.whole().await
}

impl Call {
    pub fn say(&mut self, text: &'static str) {
        self.up.send_data(text.into(), false).expect("open");
    }

    pub fn finish(&mut self) {
        self.up.send_data(Bytes::new(), true).expect("open");
    }

    pub async fn answer(&mut self) -> Result<Response<RecvStream>, h2::Error> {
        self.answer.take().expect("asked once").await
    }

    pub async fn whole(mut self) -> Result<Whole, h2::Error> {
        let (parts, mut body) = self.answer().await?.into_parts();
        let ended_with_head = body.is_end_stream();
        let mut text = String::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            text += &String::from_utf8_lossy(&data);
        }
        let trailers = body.trailers().await?;
        Ok(Whole { status: parts.status.as_u16(), headers: parts.headers, ended_with_head, body: text, trailers })
    }
}

/// An answer to its end.
#[derive(Debug)]
pub struct Whole {
    pub status: u16,
    pub headers: HeaderMap,
    pub ended_with_head: bool,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

impl Whole {
    pub fn code(&self) -> &HeaderValue {
        let fields = self.trailers.as_ref().unwrap_or(&self.headers);
        fields.get("grpc-status").unwrap_or_else(|| panic!("no status in {self:?}"))
    }
}

/// The next bytes, as they come.
pub async fn next(body: &mut RecvStream) -> String {
    let data = body.data().await.expect("more data").expect("no reset");
    body.flow_control().release_capacity(data.len()).expect("open");
    String::from_utf8(data.to_vec()).expect("text")
}

pub fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// The head of a backend's answer.
pub fn ok() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).expect("valid")
}

/// The code of the reset that the other side sends.
pub async fn reset(stream: &mut SendStream<Bytes>) -> Code {
    poll_fn(|cx| stream.poll_reset(cx)).await.expect("open until then")
}

/// Sends as much of `size` bytes as there is room for, until there is none for a while.
pub async fn fill(stream: &mut SendStream<Bytes>, size: usize) -> usize {
    let mut sent = 0;
    while sent < size {
        stream.reserve_capacity((size - sent).min(16 << 10));
        let room = tokio::time::timeout(QUIET * 3, poll_fn(|cx| stream.poll_capacity(cx))).await;
        let Ok(room) = room else { break };
        let room = room.expect("open").expect("open");
        stream.send_data(vec![b'x'; room].into(), false).expect("open");
        sent += room;
    }
    sent
}

/// A backend whose `answer` has each call, with the number of its connection.
pub fn backend<F>(answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let (listener, address) = listen();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let answer = Rc::new(answer);
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                stream.set_nodelay(true).expect("a socket");
                let answer = answer.clone();
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::task::spawn_local(answer(request, respond, number));
                    }
                });
            }
        });
    });
    address
}

/// A listening socket for tokio.
pub fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    (listener, address)
}

/// A backend that says each message again, as it comes, and then OK with a trailer of its own.
pub fn echo() -> SocketAddr {
    backend(|request, mut respond, _| async move {
        let mut down = respond.send_response(ok(), false).expect("open");
        let mut body = request.into_body();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).expect("open");
            let _ = down.send_data(data, false);
        }
        let _ = down.send_trailers(fields(&[("grpc-status", "0"), ("x-own", "kept")]));
    })
}
