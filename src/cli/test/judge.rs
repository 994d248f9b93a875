//! Was it the right answer? And where it was not: why, and what to do.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use http::{Method, StatusCode, header};

use super::{
    backend::{Backends, redirect},
    certificate::Expected,
    row::{Row, Wrong},
    send::{Fault, Reply, Sending},
};
use crate::{
    api::{Kind, ObjectKey},
    dataplane::outcome::Reason,
    finding::Finding,
    plan::{Plan, RulePlan},
    view::View,
};

/// What an answer is compared with.
pub struct Judge<'a> {
    view: &'a View,
    /// Seconds since 1970.
    now: i64,
    pub backends: Backends<'a>,
    /// By kind, `namespace/route` and index.
    rules: HashMap<(Kind, &'a str, usize), &'a RulePlan>,
    /// The certificates of each listener, `namespace/secret`.
    certificates: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Judge<'a> {
    pub fn new(plan: &'a Plan, view: &'a View, now: i64) -> Judge<'a> {
        let listeners = || plan.sockets.values().flat_map(|socket| &socket.listeners);
        let rules = listeners().flat_map(|listener| &listener.hosts).flat_map(|host| &host.rules);
        let certificates = listeners().map(|listener| {
            let keys = listener.certificates.iter().map(|certificate| certificate.key.as_str());
            (listener.key.as_str(), keys.collect())
        });
        Judge {
            view,
            now,
            backends: Backends { plan, unreachable: HashMap::new() },
            rules: rules.map(|rule| ((rule.kind, rule.route.as_str(), rule.index), rule)).collect(),
            certificates: certificates.collect(),
        }
    }

    /// The endpoints of these rows that are to be reached beforehand.
    pub fn endpoints<'r>(&self, rows: impl Iterator<Item = &'r Row>) -> BTreeSet<SocketAddr> {
        Backends::to_be_reached(self.backends.plan, rows.filter_map(|row| self.rule(row)))
    }

    fn rule(&self, row: &Row) -> Option<&'a RulePlan> {
        self.rules.get(&(row.route_kind(), row.route.as_str(), row.rule?)).copied()
    }

    /// The row with its verdict.
    pub fn verdict(&self, mut row: Row, sending: &Sending, answer: Result<Reply, Fault>) -> Row {
        let reply = match answer {
            Ok(reply) => reply,
            Err(fault) => {
                let wrong = self.fault(&row, &fault);
                return row.wrong(wrong);
            }
        };
        let Some(rule) = self.rule(&row) else { return row.skipped("NotProgrammed", "the rule is gone") };
        row.status = Some(reply.status.as_u16());
        row.milliseconds = Some((reply.took.as_secs_f64() * 1e5).round() / 1e2);
        let own = own_answer(&reply, sending.request.method());
        row.answer = own.map_or_else(|| self.answerer(rule, &reply), |reason| format!("gapi ({})", reason.word()));
        row.notes = self.backends.notes(rule);
        let mut wrong = own
            .map(|reason| self.own(rule, reason))
            .or_else(|| self.status(rule, &reply))
            .or_else(|| self.backends.unserved_share(rule, &self.findings(rule), |reason| answered(rule.kind, reason)));
        if let (Some(shown), Some(name)) = (&reply.certificate, &sending.tls) {
            let secrets = self.certificates.get(row.listener.as_str()).cloned().unwrap_or_default();
            let expected = Expected { secrets, views: &self.view.certificates, now: self.now };
            let (bad, notes) = expected.look(shown, name);
            row.notes.extend(notes);
            match (&wrong, bad) {
                (Some(_), Some(bad)) => row.notes.push(bad.message),
                (_, bad) => wrong = wrong.or(bad),
            }
        }
        match wrong {
            Some(wrong) => row.wrong(wrong),
            None => row.passed(),
        }
    }

    /// No answer at all.
    fn fault(&self, row: &Row, fault: &Fault) -> Wrong {
        match fault {
            Fault::Connect(error) => {
                let at = row.address.map(|address| address.to_string()).unwrap_or_default();
                let remedy = "look at gapi status: is the socket bound?";
                Wrong::new("ConnectFailed", format!("{at} cannot be reached: {error}"), remedy)
            }
            Fault::Handshake(error) => {
                let certificates = self.certificates.get(row.listener.as_str());
                let (fact, remedy) = match certificates.is_none_or(Vec::is_empty) {
                    true => ("the listener has no usable certificate", "look at the conditions of the Gateway"),
                    false => ("the TLS handshake failed", "look at the listener's certificateRefs and hostname"),
                };
                Wrong::new("HandshakeFailed", format!("{fact}: {error}"), remedy)
            }
            Fault::Exchange(error) => {
                let message = format!("the connection ended without an answer: {error}");
                Wrong::new("NoAnswer", message, "look at the daemon's log")
            }
            Fault::Timeout(what) => {
                let remedy = "look at the backend, or allow more by --timeout";
                Wrong::new("Timeout", format!("{what} did not come in time{}", self.from(row)), remedy)
            }
        }
    }

    fn from(&self, row: &Row) -> String {
        match self.rule(row).map(|rule| self.backends.text(rule)) {
            Some(text) if !text.is_empty() => format!(" from {text}"),
            _ => String::new(),
        }
    }

    /// gapi answered by itself, and not by a filter.
    fn own(&self, rule: &RulePlan, reason: Reason) -> Wrong {
        let backends = self.backends.text(rule);
        let findings = self.findings(rule);
        let said = reason.text().trim_end();
        let (fact, remedy) = match (reason, findings.first()) {
            (Reason::InvalidBackend | Reason::RuleBroken | Reason::NoBackend, Some(finding)) => {
                (finding.message.clone(), finding.remedy.as_str())
            }
            (Reason::RuleBroken, None) => (rule.broken.clone().unwrap_or_else(|| said.to_owned()), "correct the rule"),
            (Reason::NoBackend, None) => {
                ("the rule has no backend with a weight above 0".to_owned(), "give one a weight")
            }
            (Reason::NoEndpoint, _) => {
                let remedy = "write an EndpointSlice (or Endpoints) of the Service with a ready address";
                (format!("no ready endpoint: {backends}"), remedy)
            }
            (Reason::ConnectFailed | Reason::ConnectTimeout, _) => {
                let remedy = "start the backend, or correct the addresses of its EndpointSlice";
                (format!("no endpoint could be reached: {backends}"), remedy)
            }
            (Reason::BackendStalled | Reason::BackendTimeout | Reason::RequestTimeout, _) => {
                (format!("no answer in time from {backends}"), "look at the backend, and at the timeouts of the rule")
            }
            (Reason::NoRoute | Reason::Misdirected, _) => {
                ("no rule took the request: the configuration changed meanwhile".to_owned(), "run the test again")
            }
            _ => (format!("{said}: {backends}"), "look at the backend's log"),
        };
        let message = match rule.kind {
            Kind::GrpcRoute => format!("the call was refused: {fact}"),
            _ => format!("answered {}: {fact}", reason.status().as_u16()),
        };
        Wrong::new(reason.word(), message, remedy)
    }

    /// The status of somebody else's answer.
    fn status(&self, rule: &RulePlan, reply: &Reply) -> Option<Wrong> {
        let status = reply.status.as_u16();
        if let Some(wanted) = redirect(rule)
            && status != wanted
        {
            let message = format!("answered {status} where the rule redirects with {wanted}");
            return Some(Wrong::new("WrongAnswer", message, "run the test again; report it if it stays"));
        }
        // A backend need not know HEAD or OPTIONS.
        if reply.status.is_server_error() && reply.status != StatusCode::NOT_IMPLEMENTED {
            let message = format!("the backend itself answered {status}: {}", self.backends.text(rule));
            return Some(Wrong::new("BackendError", message, "look at the backend's log"));
        }
        None
    }

    /// Who may have answered.
    fn answerer(&self, rule: &RulePlan, reply: &Reply) -> String {
        if redirect(rule) == Some(reply.status.as_u16()) {
            let location = reply.headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
            return format!("redirect to {}", location.unwrap_or_default());
        }
        match self.backends.serving(rule) {
            none if none.is_empty() => "a filter".to_owned(),
            some => some,
        }
    }

    /// What the daemon finds wrong with the rule.
    pub fn findings(&self, rule: &RulePlan) -> Vec<&'a Finding> {
        let (namespace, name) = rule.route.split_once('/').unwrap_or(("", &rule.route));
        let key = Some(ObjectKey::new(rule.kind.names().name, namespace, name));
        let field = format!("spec.rules[{}]", rule.index);
        let about = |finding: &&Finding| {
            finding.object == key && finding.field.starts_with(&field) && finding.reason != "Unreachable"
        };
        self.view.findings.iter().filter(about).collect()
    }
}

/// What becomes of a request whose backend cannot serve.
fn answered(kind: Kind, reason: Reason) -> String {
    match kind {
        Kind::GrpcRoute => "of the calls are refused".to_owned(),
        _ => format!("of the requests are answered {}", reason.status().as_u16()),
    }
}

/// gapi's own answers are known by their text, which those to calls have as `grpc-message`; for HEAD, by its length.
fn own_answer(reply: &Reply, method: &Method) -> Option<Reason> {
    let length = reply.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let told = reply.headers.get("grpc-message");
    let is_own = |reason: &&Reason| {
        let text = reason.text();
        if let Some(told) = told {
            return text.len() > 1 && text.trim_end().as_bytes() == told.as_bytes();
        }
        let same = if method == Method::HEAD { length == Some(text.len()) } else { reply.body == text };
        same && text.len() > 1 && reason.status() == reply.status
    };
    Reason::ALL.iter().find(is_own).copied()
}
