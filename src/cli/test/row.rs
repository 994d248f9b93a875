//! What is said of one match, listener or route.

use std::net::SocketAddr;

use http::Request;
use serde::Serialize;

use super::send::Sending;
use crate::api::Kind;

/// How it went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Failed,
    Passed,
    #[default]
    Skipped,
}

/// One line of the report. What is not known, or has no meaning, is empty.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub outcome: Outcome,
    /// Of the route, where it is none of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// `namespace/route`.
    pub route: String,
    /// Index in the route.
    pub rule: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<String>,
    /// `namespace/gateway/listener`; of a parent, what its reference names.
    pub listener: String,
    /// The address that the request goes to.
    pub address: Option<SocketAddr>,
    pub request: Option<RequestRow>,
    pub status: Option<u16>,
    /// Who answered: `default/echo:80`, `redirect to https://…`, `gapi`.
    pub answer: String,
    pub milliseconds: Option<f64>,
    /// A word for why it failed or was skipped, and the same as a sentence.
    pub reason: String,
    pub message: String,
    pub remedy: String,
    /// What is no failure, and worth knowing.
    pub notes: Vec<String>,
}

/// A request as people write it.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRow {
    pub method: String,
    pub url: String,
    /// Those that the match asks for.
    pub headers: Vec<(String, String)>,
}

/// Why a row fails.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// A word: a condition's or a finding's, one of the access log's, or our own.
    pub reason: String,
    pub message: String,
    pub remedy: String,
}

impl Wrong {
    pub fn new(reason: &str, message: impl Into<String>, remedy: &str) -> Wrong {
        Wrong { reason: reason.to_owned(), message: message.into(), remedy: remedy.to_owned() }
    }
}

/// What a row has of the kind of its route.
pub fn row_kind(kind: Kind) -> Option<Kind> {
    (kind != Kind::HttpRoute).then_some(kind)
}

impl Row {
    /// The kind of its route.
    pub fn route_kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::HttpRoute)
    }

    pub fn wrong(self, wrong: Wrong) -> Row {
        self.failed(&wrong.reason, wrong.message, wrong.remedy)
    }

    pub fn failed(mut self, reason: &str, message: impl Into<String>, remedy: impl Into<String>) -> Row {
        self.outcome = Outcome::Failed;
        (self.reason, self.message, self.remedy) = (reason.to_owned(), message.into(), remedy.into());
        self
    }

    pub fn skipped(mut self, reason: &str, message: impl Into<String>) -> Row {
        self.outcome = Outcome::Skipped;
        (self.reason, self.message) = (reason.to_owned(), message.into());
        self
    }

    pub fn passed(mut self) -> Row {
        self.outcome = Outcome::Passed;
        self
    }

    /// With the request that is, or would be, sent.
    pub fn requesting(mut self, request: &Request<()>, scheme: &str) -> Row {
        let own: &[&str] = match self.kind {
            Some(Kind::GrpcRoute) => &["host", "user-agent", "content-type", "te"],
            _ => &["host", "user-agent", "accept"],
        };
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let host = request.headers().get(http::header::HOST).map(text).unwrap_or_default();
        let asked = request.headers().iter().filter(|(name, _)| !own.contains(&name.as_str()));
        self.request = Some(RequestRow {
            method: request.method().to_string(),
            url: format!("{scheme}://{host}{}", request.uri()),
            headers: asked.map(|(name, value)| (name.to_string(), text(value))).collect(),
        });
        self
    }
}

/// What there is to do: a row that waits for its answer, or is final when nothing is to be sent.
#[derive(Clone, Debug)]
pub struct Task {
    pub row: Row,
    pub sending: Option<Sending>,
}

impl From<Row> for Task {
    fn from(row: Row) -> Task {
        Task { row, sending: None }
    }
}
