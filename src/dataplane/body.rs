//! The body of an answer.

/// Placeholder until answers come from backends.
pub type Body = http_body_util::Empty<bytes::Bytes>;
