//! What of gRPC the gateway speaks itself: it knows a call by its content type, holds it to its deadline, and says what
//! went wrong as a status of gRPC. All else of a call passes as HTTP/2 does.
//!
//! "The protocol" is gRPC's `PROTOCOL-HTTP2.md`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::{body::Body, outcome::Reason};

const MEDIA_TYPE: &[u8] = b"application/grpc";
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Is a message of gRPC, in whatever encoding (`+proto`)? gRPC-Web is not: it is spoken to servers that know it.
pub fn is_spoken(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes().split_at_checked(MEDIA_TYPE.len());
        kind.is_some_and(|(kind, rest)| {
            kind.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        })
    })
}

/// How long a call may take: `grpc-timeout`, a positive number of at most eight digits and its unit. None where that is
/// malformed: what it means is then the backend's business.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(TIMEOUT).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else { return None };
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    };
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

/// The status that a message's headers or trailers say.
pub fn status(fields: &HeaderMap) -> Option<u16> {
    fields.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// The statuses that the gateway itself gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

impl Code {
    /// What a client is told for `reason`. As gRPC's clients read the HTTP status of an answer that is none of gRPC's
    /// (`http-grpc-status-mapping.md`), and more exact where that knows only UNKNOWN or an older meaning.
    pub fn of(reason: Reason) -> Code {
        match reason {
            // GRPCRoute's backendRefs want UNAVAILABLE for both.
            Reason::InvalidBackend | Reason::NoBackend => Code::Unavailable,
            // Nothing was sent, so a client may well try again; after a deadline it would not.
            Reason::ConnectTimeout => Code::Unavailable,
            _ => match reason.status().as_u16() {
                404 | 421 | 501 => Code::Unimplemented,
                408 | 504 => Code::DeadlineExceeded,
                414 | 431 => Code::ResourceExhausted,
                502 | 503 => Code::Unavailable,
                _ => Code::Internal,
            },
        }
    }
}

/// gapi's own answer for `reason`: "Trailers-Only" in the protocol's words, which ends the stream with its head.
pub fn refusal(reason: Reason) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(Code::of(reason) as u16));
    // Nothing in it has to be percent-encoded: a test holds the texts to that.
    headers.insert(MESSAGE, HeaderValue::from_static(reason.text().trim_ascii_end()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).expect("valid"))).collect()
    }

    #[test]
    fn content_types() {
        for (kind, spoken) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc+json; charset=utf-8", true),
            ("application/grpc;x=y", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            assert_eq!(is_spoken(&fields(header::CONTENT_TYPE, &[kind])), spoken, "{kind}");
        }
        assert!(!is_spoken(&HeaderMap::new()));
    }

    #[test]
    fn timeouts() {
        let read = |values: &[&str]| timeout(&fields(TIMEOUT, values));
        for (value, nanoseconds) in [
            ("1n", 1),
            ("12345678n", 12_345_678),
            ("7u", 7_000),
            ("100m", 100_000_000),
            ("5S", 5_000_000_000),
            ("1M", 60_000_000_000),
            ("00000002H", 7_200_000_000_000),
            ("99999999H", 359_999_996_400_000_000_000),
        ] {
            assert_eq!(read(&[value]).map(|timeout| timeout.as_nanos()), Some(nanoseconds), "{value}");
        }
        for malformed in ["", "5", "S", "123456789S", "-1S", "+1S", "1.5S", " 1S", "1s", "1h", "1ms", "0S", "1S ", "1é"]
        {
            assert_eq!(read(&[malformed]), None, "{malformed}");
        }
        assert_eq!(read(&["1S", "2S"]), None);
    }

    #[test]
    fn codes() {
        for (reason, code) in [
            (Reason::NoRoute, Code::Unimplemented),
            (Reason::Misdirected, Code::Unimplemented),
            (Reason::NoEndpoint, Code::Unavailable),
            (Reason::NoBackend, Code::Unavailable),
            (Reason::InvalidBackend, Code::Unavailable),
            (Reason::ConnectFailed, Code::Unavailable),
            (Reason::ConnectTimeout, Code::Unavailable),
            (Reason::BackendClosed, Code::Unavailable),
            (Reason::Unprocessed, Code::Unavailable),
            (Reason::BadAnswer, Code::Unavailable),
            (Reason::RuleBroken, Code::Internal),
            (Reason::BadTarget, Code::Internal),
            (Reason::RequestTimeout, Code::DeadlineExceeded),
            (Reason::DeadlinePassed, Code::DeadlineExceeded),
            (Reason::BackendStalled, Code::DeadlineExceeded),
            (Reason::ClientStalled, Code::DeadlineExceeded),
            (Reason::HeadTooLarge, Code::ResourceExhausted),
        ] {
            assert_eq!(Code::of(reason), code, "{reason:?}");
        }
    }

    #[test]
    fn texts_stand_in_a_message_as_they_are() {
        for reason in Reason::ALL {
            let text = reason.text().trim_ascii_end();
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%'), "{text}");
        }
    }

    #[test]
    fn an_answer_is_its_head() {
        let response = refusal(Reason::NoRoute);
        assert!(http_body::Body::is_end_stream(response.body()));
        assert_eq!((response.status().as_u16(), status(response.headers())), (200, Some(12)));
        assert_eq!(response.headers()["grpc-message"], "no route matches this request");
    }
}
