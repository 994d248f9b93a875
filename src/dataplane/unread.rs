//! The body of a request over HTTP/2 that is answered before it has come.
//!
//! A stream whose answer is sent and whose request nobody reads any more is reset (RFC 9113, section 8.1), and there are
//! clients that then throw the answer away, curl among them. What is on its way anyhow is waited for.

use std::time::Duration;

use http::Version;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

/// How long, and how much, is read for it.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST: usize = 64 << 10;

/// Reads what is left, beside the answer.
pub fn discard(mut incoming: Incoming, version: Version) {
    if version != Version::HTTP_2 || incoming.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(async move {
        let mut length = 0;
        let read = async {
            while let Some(Ok(frame)) = incoming.frame().await {
                length += frame.data_ref().map_or(0, |data| data.len());
                if length > MOST {
                    break;
                }
            }
        };
        // Whoever sends more, or later, is reset.
        _ = timeout(PATIENCE, read).await;
    });
}
