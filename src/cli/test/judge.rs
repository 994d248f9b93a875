//! Was it the right answer? And where it was not: why, and what to do.

use std::collections::HashMap;

use http::{Method, StatusCode, header};
use rustls::{pki_types::CertificateDer, server::ParsedCertificate};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    row::Row,
    send::{Fault, Reply, Sending},
};
use crate::{
    api::ObjectKey,
    dataplane::outcome::Reason,
    finding::Finding,
    plan::{EndpointsPlan, FilterPlan, Plan, RulePlan, WeightedBackendPlan},
    view::{View, fingerprint},
};

/// An expiry that is nearer than this is worth a note.
const SOON: i64 = 30 * 86400;

/// What an answer is compared with.
pub struct Judge<'a> {
    pub plan: &'a Plan,
    pub view: &'a View,
    /// Seconds since 1970.
    pub now: i64,
    /// By `namespace/route` and index.
    rules: HashMap<(&'a str, usize), &'a RulePlan>,
    /// The certificates of each listener, `namespace/secret`.
    certificates: HashMap<&'a str, Vec<&'a str>>,
}

/// What is wrong: a reason, the fact and the remedy.
type Wrong = (String, String, String);

impl<'a> Judge<'a> {
    pub fn new(plan: &'a Plan, view: &'a View, now: i64) -> Judge<'a> {
        let listeners = || plan.sockets.values().flat_map(|socket| &socket.listeners);
        let rules = listeners().flat_map(|listener| &listener.hosts).flat_map(|host| &host.rules);
        let keys = |certificates: &'a [crate::plan::CertificatePlan]| {
            certificates.iter().map(|certificate| certificate.key.as_str()).collect()
        };
        Judge {
            plan,
            view,
            now,
            rules: rules.map(|rule| ((rule.route.as_str(), rule.index), rule)).collect(),
            certificates: listeners().map(|one| (one.key.as_str(), keys(&one.certificates))).collect(),
        }
    }

    /// The row with its verdict.
    pub fn verdict(&self, mut row: Row, sending: &Sending, answer: Result<Reply, Fault>) -> Row {
        let rule = row.rule.and_then(|index| self.rules.get(&(row.route.as_str(), index)).copied());
        let reply = match answer {
            Ok(reply) => reply,
            Err(fault) => {
                let (reason, message, remedy) = self.fault(&row, &fault);
                return row.failed(&reason, message, remedy);
            }
        };
        row.status = Some(reply.status.as_u16());
        row.milliseconds = Some((reply.took.as_secs_f64() * 1e5).round() / 1e2);
        let own = own_answer(&reply, sending.request.method());
        row.answer = match (own, rule) {
            (Some(reason), _) => format!("gapi ({})", reason.word()),
            (None, Some(rule)) => self.answerer(rule, &reply),
            (None, None) => String::new(),
        };
        let mut wrong = own.map(|reason| self.own_reason(&row, rule, reason));
        wrong = wrong.or_else(|| self.status(rule, &reply));
        wrong = wrong.or_else(|| rule.and_then(|rule| self.unserved_share(rule)));
        if let (Some(certificate), Some(name)) = (&reply.certificate, &sending.tls) {
            let (bad, notes) = self.certificate(&row.listener, certificate, name);
            row.notes = notes;
            match (&wrong, bad) {
                (Some(_), Some((_, message, _))) => row.notes.push(message),
                (None, bad) => wrong = bad,
                (Some(_), None) => {}
            }
        }
        match wrong {
            Some((reason, message, remedy)) => row.failed(&reason, message, remedy),
            None => row.passed(),
        }
    }

    /// No answer at all.
    fn fault(&self, row: &Row, fault: &Fault) -> Wrong {
        let at = row.address.map(|address| address.to_string()).unwrap_or_default();
        let (reason, message, remedy) = match fault {
            Fault::Connect(error) => (
                "ConnectFailed",
                format!("{at} cannot be reached: {error}"),
                "look at gapi status: is the socket bound?",
            ),
            Fault::Handshake(error) => {
                let certificates = self.certificates.get(row.listener.as_str()).cloned().unwrap_or_default();
                let (fact, remedy) = match certificates.is_empty() {
                    true => ("the listener has no usable certificate", "look at the conditions of the Gateway"),
                    false => ("the TLS handshake failed", "look at the listener's certificateRefs and hostname"),
                };
                ("HandshakeFailed", format!("{fact}: {error}"), remedy)
            }
            Fault::Exchange(error) => {
                ("NoAnswer", format!("the connection ended without an answer: {error}"), "look at the daemon's log")
            }
            Fault::Timeout(what) => {
                ("Timeout", format!("{what} did not come in time"), "look at the backend, or allow more by --timeout")
            }
        };
        (reason.to_owned(), message, remedy.to_owned())
    }

    /// gapi answered by itself, and not by a filter.
    fn own_reason(&self, row: &Row, rule: Option<&RulePlan>, reason: Reason) -> Wrong {
        let finding = rule.and_then(|rule| self.finding(rule));
        let named = |fact: &str, remedy: &str| (format!("{fact}{}", self.backends_text(rule)), remedy.to_owned());
        let (message, remedy) = match (reason, finding) {
            (Reason::InvalidBackend | Reason::RuleBroken | Reason::NoBackend, Some(finding)) => {
                (finding.message.clone(), finding.remedy.clone())
            }
            (Reason::RuleBroken, None) => {
                let broken = rule.and_then(|rule| rule.broken.clone());
                (broken.unwrap_or_else(|| reason.text().trim_end().to_owned()), "correct the rule".to_owned())
            }
            (Reason::NoBackend, None) => {
                named("the rule has no backend, or only weights of 0", "add a backendRef with a weight above 0")
            }
            (Reason::NoEndpoint, _) => {
                named("no ready endpoint: ", "add an EndpointSlice (or Endpoints) of the Service with a ready address")
            }
            (Reason::ConnectFailed, _) => named(
                "no endpoint could be reached: ",
                "start the backend, or correct the addresses of its EndpointSlice",
            ),
            (Reason::ConnectTimeout | Reason::BackendStalled | Reason::BackendTimeout | Reason::RequestTimeout, _) => {
                named("no answer in time from ", "look at the backend, and at the timeouts of the rule")
            }
            (Reason::NoRoute | Reason::Misdirected, _) => (
                "no rule took the request: the configuration changed meanwhile".to_owned(),
                "run the test again".to_owned(),
            ),
            (other, _) => named(&format!("{}: ", other.text().trim_end()), "look at the backend's log"),
        };
        let status = row.status.unwrap_or_default();
        (reason.word().to_owned(), format!("answered {status}: {message}"), remedy)
    }

    /// The status of somebody else's answer.
    fn status(&self, rule: Option<&RulePlan>, reply: &Reply) -> Option<Wrong> {
        let status = reply.status.as_u16();
        if let Some(wanted) = rule.and_then(redirect)
            && status != wanted
        {
            let message = format!("answered {status} where the rule redirects with {wanted}");
            return Some(("WrongAnswer".to_owned(), message, "run the test again; report it if it stays".to_owned()));
        }
        if reply.status.is_server_error() && reply.status != StatusCode::NOT_IMPLEMENTED {
            let message = format!("the backend itself answered {status}{}", self.from_text(rule));
            return Some(("BackendError".to_owned(), message, "look at the backend's log".to_owned()));
        }
        None
    }

    /// Part of the requests fail, though this one did not.
    fn unserved_share(&self, rule: &RulePlan) -> Option<Wrong> {
        if redirect(rule).is_some() {
            return None;
        }
        let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let (index, backend) = rule.backends.iter().enumerate().find(|(_, one)| one.weight > 0 && !self.serves(one))?;
        let share = u64::from(backend.weight) as f64 * 100.0 / total as f64;
        let finding = self.findings(rule).find(|finding| finding.field.contains(&format!(".backendRefs[{index}]")));
        let (status, reason, fact) = match &backend.backend {
            None => (500, Reason::InvalidBackend, "is not valid".to_owned()),
            Some(key) => (503, Reason::NoEndpoint, format!("{key} has no ready endpoint")),
        };
        let fact = finding.map_or(fact, |finding| format!("is not valid: {}", finding.message));
        let message = format!("{share:.0}% of the requests are answered {status}: backendRefs[{index}] {fact}");
        let remedy = finding.map_or("add an EndpointSlice of the Service with a ready address", |one| &one.remedy);
        Some((reason.word().to_owned(), message, remedy.to_owned()))
    }

    fn serves(&self, backend: &WeightedBackendPlan) -> bool {
        let target = backend.backend.as_ref().and_then(|key| self.plan.backends.get(key));
        target.is_some_and(|target| match &target.endpoints {
            EndpointsPlan::Addresses(addresses) => !addresses.is_empty(),
            // Whether it resolves is seen by those requests that it gets.
            EndpointsPlan::Name { .. } => true,
        })
    }

    /// Who may have answered.
    fn answerer(&self, rule: &RulePlan, reply: &Reply) -> String {
        if redirect(rule) == Some(reply.status.as_u16()) {
            let location = reply.headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
            return format!("redirect to {}", location.unwrap_or_default());
        }
        let serving = rule.backends.iter().filter(|backend| backend.weight > 0 && self.serves(backend));
        let mut keys: Vec<&str> = serving.filter_map(|backend| backend.backend.as_deref()).collect();
        keys.dedup();
        match keys[..] {
            [] => "a filter".to_owned(),
            [key] => key.to_owned(),
            _ => format!("one of {}", keys.join(", ")),
        }
    }

    /// `default/a:80 (127.0.0.1:9001)` for each backend of the rule.
    fn backends_text(&self, rule: Option<&RulePlan>) -> String {
        let backends = rule.into_iter().flat_map(|rule| &rule.backends).filter(|backend| backend.weight > 0);
        let texts = backends.filter_map(|backend| {
            let key = backend.backend.as_deref()?;
            let endpoints = match &self.plan.backends.get(key)?.endpoints {
                EndpointsPlan::Addresses(some) => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                EndpointsPlan::Name { host, port } => format!("{host}:{port}"),
            };
            Some(if endpoints.is_empty() { key.to_owned() } else { format!("{key} ({endpoints})") })
        });
        texts.collect::<Vec<_>>().join(" or ")
    }

    fn from_text(&self, rule: Option<&RulePlan>) -> String {
        match self.backends_text(rule) {
            text if text.is_empty() => text,
            text => format!(": {text}"),
        }
    }

    /// What the daemon finds wrong with the rule.
    fn findings(&self, rule: &RulePlan) -> impl Iterator<Item = &'a Finding> + use<'a> {
        let (namespace, name) = rule.route.split_once('/').unwrap_or(("", &rule.route));
        let key = Some(ObjectKey::new("HTTPRoute", namespace, name));
        let field = format!("spec.rules[{}]", rule.index);
        let findings = self.view.findings.iter();
        findings.filter(move |finding| finding.object == key && finding.field.starts_with(&field))
    }

    fn finding(&self, rule: &RulePlan) -> Option<&'a Finding> {
        self.findings(rule).find(|finding| finding.reason != "Unreachable")
    }

    /// What is wrong with the certificate that was shown, and what is worth knowing of it.
    fn certificate(
        &self,
        listener: &str,
        der: &CertificateDer,
        name: &rustls::pki_types::ServerName,
    ) -> (Option<Wrong>, Vec<String>) {
        let secrets = self.certificates.get(listener).cloned().unwrap_or_default();
        let digest = fingerprint(der);
        let known = self.view.certificates.iter().filter(|one| secrets.contains(&one.name.as_str()));
        let shown = known.clone().find(|one| one.fingerprint == digest);
        let secret = shown.map_or("", |one| one.name.as_str());
        let wrong = |reason: &str, message: String, remedy: &str| Some((reason.into(), message, remedy.into()));
        let Ok((_, leaf)) = X509Certificate::from_der(der) else {
            return (wrong("InvalidCertificate", "the certificate cannot be read".into(), "replace it"), Vec::new());
        };
        let end = leaf.validity().not_after.timestamp();
        let date = jiff::Timestamp::from_second(end).map_or_else(|_| "?".into(), |time| time.to_string());
        let mut notes = Vec::new();
        if leaf.issuer() == leaf.subject() {
            notes.push(format!(
                "the certificate of Secret {secret} is self-signed: clients have to be told to trust it"
            ));
        }
        let parsed = ParsedCertificate::try_from(der);
        let is_for = |name| parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok());
        let is_address = matches!(name, rustls::pki_types::ServerName::IpAddress(_));
        let bad = if shown.is_none() {
            let message = format!("the certificate shown is not that of Secret {}", secrets.join(" or "));
            wrong("WrongCertificate", message, "run the test again; is another program at this address?")
        } else if end < self.now {
            wrong("CertificateExpired", format!("the certificate of Secret {secret} expired at {date}"), "renew it")
        } else if leaf.validity().not_before.timestamp() > self.now {
            let message = format!("the certificate of Secret {secret} is not valid yet");
            wrong("CertificateNotYetValid", message, "check this machine's clock")
        } else if !is_address && !is_for(name) {
            let names = shown.map(|one| one.hostnames.join(", ")).unwrap_or_default();
            let message = format!("the certificate of Secret {secret} is for {names}, not for {}", name.to_str());
            wrong("CertificateHostnameMismatch", message, "replace it by one for that name: clients refuse it")
        } else {
            if end - self.now < SOON {
                notes.push(format!("the certificate of Secret {secret} expires at {date}"));
            }
            None
        };
        (bad, notes)
    }
}

/// The status of the rule's redirect.
fn redirect(rule: &RulePlan) -> Option<u16> {
    rule.filters.iter().find_map(|filter| match filter {
        FilterPlan::Redirect { status, .. } => Some(*status),
        _ => None,
    })
}

/// gapi's own answers are known by their text; for HEAD, by its length.
fn own_answer(reply: &Reply, method: &Method) -> Option<Reason> {
    let length = reply.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let is_own = |reason: &&Reason| {
        let text = reason.text();
        let same = if method == Method::HEAD { length == Some(text.len()) } else { reply.body == text };
        same && text.len() > 1 && reason.status() == reply.status
    };
    Reason::ALL.iter().find(is_own).copied()
}
