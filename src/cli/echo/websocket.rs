//! WebSockets (RFC 6455): every message comes back as it came.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the accept key is made with (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A frame's payload is at most this long; closed with 1009 else.
const MAX_PAYLOAD: u64 = 1 << 20;

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const PROTOCOL_ERROR: u16 = 1002;
const TOO_BIG: u16 = 1009;

/// Does the request ask for a WebSocket (RFC 6455, 4.2.1)?
pub(super) fn is_asked_for(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// The answer to such a request; the connection is served on.
pub(super) fn switch(mut request: Request<Incoming>) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    if request.headers().get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    }
    let accept = accept_key(request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes());
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64 is a field value"));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            // A client that goes away without a word is no event.
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    response
}

fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Sends every frame back, a pong for a ping, until the close.
async fn echo(mut stream: TokioIo<Upgraded>) -> std::io::Result<()> {
    loop {
        let [first, second] = read_array(&mut stream).await?;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(read_array(&mut stream).await?)),
            127 => u64::from_be_bytes(read_array(&mut stream).await?),
            length => u64::from(length),
        };
        let opcode = first & 0x0f;
        // Reserved bits, no mask, or a control frame in parts or too long (RFC 6455, 5.2 and 5.5).
        let is_control = opcode >= CLOSE;
        if first & 0x70 != 0 || second & 0x80 == 0 || is_control && (first & 0x80 == 0 || length > 125) {
            return close(&mut stream, PROTOCOL_ERROR).await;
        }
        if length > MAX_PAYLOAD {
            return close(&mut stream, TOO_BIG).await;
        }
        let mask: [u8; 4] = read_array(&mut stream).await?;
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match opcode {
            PING => write_frame(&mut stream, 0x80 | PONG, &payload).await?,
            PONG => {}
            CLOSE => {
                write_frame(&mut stream, 0x80 | CLOSE, &payload).await?;
                return stream.shutdown().await;
            }
            0..=2 => write_frame(&mut stream, first, &payload).await?,
            _ => return close(&mut stream, PROTOCOL_ERROR).await,
        }
    }
}

async fn read_array<const N: usize>(stream: &mut TokioIo<Upgraded>) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn close(stream: &mut TokioIo<Upgraded>, code: u16) -> std::io::Result<()> {
    write_frame(stream, 0x80 | CLOSE, &code.to_be_bytes()).await?;
    stream.shutdown().await
}

/// A server's frames are not masked.
async fn write_frame(stream: &mut TokioIo<Upgraded>, first: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
