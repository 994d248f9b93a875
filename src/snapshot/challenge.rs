//! ACME challenges that are being answered. Empty but for seconds in weeks: one look costs nothing then.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;
use rustls::sign::CertifiedKey;

/// Where HTTP-01 tokens are asked for (RFC 8555, 8.3).
pub const PATH: &str = "/.well-known/acme-challenge/";

/// Challenges that are pending. Their keys come from the ACME server, few at a time.
#[derive(Default)]
pub struct Challenges {
    /// HTTP-01: the key authorization, by token.
    pub http: HashMap<Box<str>, Bytes>,
    /// TLS-ALPN-01: the certificate, by server name in lower case.
    pub tls: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Challenges {
    /// The key authorization that `path` asks for.
    pub fn answer(&self, path: &str) -> Option<&Bytes> {
        if self.http.is_empty() {
            return None;
        }
        self.http.get(path.strip_prefix(PATH)?)
    }
}
