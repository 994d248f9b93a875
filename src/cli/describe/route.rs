//! The page of a route: which parents took it and why not, its rules in short, its backends with endpoints.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Page, complaint, complaints, core::endpoints_of, plain};
use crate::{
    api::Kind,
    cli::column::{accepted_condition, number, path_condition},
    view::{Description, backend_refs, kind_of, list, parent_refs, parent_target, text},
};

pub(super) fn describe(page: &mut Page, description: &Description) {
    let route = &description.object;
    if !matches!(kind_of(route), Some(Kind::TcpRoute | Kind::UdpRoute)) {
        let hostnames = list(route, "/spec/hostnames").iter().filter_map(Value::as_str);
        page.field_lines("Hostnames", &hostnames.map(str::to_owned).collect::<Vec<_>>());
    }
    page.section("Parents", &parents(route));
    page.section("Rules", &rules(route));
    if !description.partial {
        page.section("Backends", &backends(route, &description.related));
    }
}

fn parents(route: &Value) -> Vec<String> {
    let parents = list(route, "/spec/parentRefs").iter();
    let lines = parents.flat_map(|parent| {
        let (_, kind, namespace, name) = parent_target(parent, route);
        parent_lines(route, |other| std::ptr::eq(other, parent)).into_iter().map(move |(section, verdict)| {
            let at = if section.is_empty() { String::new() } else { format!(", {section}") };
            format!("{kind} {namespace}/{name}{at}: {verdict}")
        })
    });
    lines.collect()
}

/// For each parentRef that `chosen` picks: the part of the parent that it names (`listener http`, `port 80`), and in one
/// line whether it took the route, and what else is wrong.
pub(super) fn parent_lines(route: &Value, chosen: impl Fn(&Value) -> bool) -> Vec<(String, String)> {
    let picked = parent_refs(route).filter(|(_, parent)| chosen(parent));
    picked.map(|(entry, parent)| (section(parent), entry.map_or("no status from gapi".to_owned(), verdict))).collect()
}

fn section(parent: &Value) -> String {
    let listener = parent.get("sectionName").and_then(Value::as_str).map(|name| format!("listener {name}"));
    let port = parent.get("port").and_then(Value::as_u64).map(|port| format!("port {port}"));
    listener.into_iter().chain(port).collect::<Vec<_>>().join(", ")
}

/// `accepted`, `accepted, but ResolvedRefs False (…): …`, `not accepted (NotAllowedByListeners): …`; behind it, for TCP and
/// UDP, which way its traffic takes.
fn verdict(entry: &Value) -> String {
    let path = path_condition(entry).map_or(String::new(), |condition| format!("; {}", complaint(condition)));
    format!("{}{path}", acceptance(entry))
}

fn acceptance(entry: &Value) -> String {
    let accepted = accepted_condition(entry).map_or("", |condition| text(condition, "/status"));
    let wrong = complaints(list(entry, "/conditions"));
    match (accepted, wrong.as_slice()) {
        ("True", []) => "accepted".to_owned(),
        ("True", wrong) => format!("accepted, but {}", wrong.join("; ")),
        (_, wrong) => {
            let reason = accepted_condition(entry).map_or("no condition Accepted".to_owned(), |condition| {
                format!("{}: {}", text(condition, "/reason"), text(condition, "/message"))
            });
            let others = wrong.iter().filter(|complaint| !complaint.starts_with("Accepted "));
            let others: String = others.map(|complaint| format!("; {complaint}")).collect();
            format!("not accepted, {reason}{others}")
        }
    }
}

fn rules(route: &Value) -> Vec<String> {
    let rules = list(route, "/spec/rules").iter().enumerate();
    rules.flat_map(|(index, rule)| rule_lines(kind_of(route), index, rule)).collect()
}

/// A line for each match, then what happens to the request.
fn rule_lines(kind: Option<Kind>, index: usize, rule: &Value) -> Vec<String> {
    let name = rule.get("name").and_then(Value::as_str).map_or(String::new(), |name| format!(" {name}"));
    let words = if kind == Some(Kind::GrpcRoute) { call_words } else { match_words };
    let matches = match list(rule, "/matches") {
        [] => vec![all_of(kind).to_owned()],
        matches => matches.iter().map(words).collect(),
    };
    let mut lines = vec![format!("{index}{name}: {}", matches[0])];
    lines.extend(matches.iter().skip(1).map(|words| format!("   or {words}")));
    lines.extend(filter_words(rule).into_iter().map(|words| format!("   {words}")));
    let policies = ["timeouts", "retry"].into_iter().filter_map(|name| Some((name, rule.get(name)?.as_object()?)));
    lines.extend(policies.map(|(name, fields)| format!("   {name}{}", field_words(fields))));
    let backends: Vec<String> = list(rule, "/backendRefs").iter().map(backend_words).collect();
    if !backends.is_empty() {
        lines.push(format!("   to {}", backends.join(", ")));
    }
    lines
}

/// What a rule without matches takes.
fn all_of(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::GrpcRoute) => "every call",
        Some(Kind::TcpRoute | Kind::TlsRoute) => "every connection",
        Some(Kind::UdpRoute) => "every datagram",
        _ => "path / and below",
    }
}

/// A match of a GRPCRoute: `service echo.Echo, method Say, header version = two`.
fn call_words(one: &Value) -> String {
    let how = if text(one, "/method/type") == "RegularExpression" { "like " } else { "" };
    let names = [("service", text(one, "/method/service")), ("method", text(one, "/method/method"))];
    let names =
        names.into_iter().filter(|(_, name)| !name.is_empty()).map(|(what, name)| format!("{what} {how}{name}"));
    let headers = list(one, "/headers").iter().map(|header| value_words("header", header));
    let words: Vec<String> = names.chain(headers).collect();
    if words.is_empty() { all_of(Some(Kind::GrpcRoute)).to_owned() } else { words.join(", ") }
}

fn match_words(one: &Value) -> String {
    let path = match (text(one, "/path/type"), text(one, "/path/value")) {
        ("", "") => "path / and below".to_owned(),
        ("Exact", value) => format!("path {value} alone"),
        ("RegularExpression", value) => format!("path like {value}"),
        (_, value) => format!("path {value} and below"),
    };
    let method = one.get("method").and_then(Value::as_str).map(|method| format!("method {method}"));
    let headers = list(one, "/headers").iter().map(|header| value_words("header", header));
    let query = list(one, "/queryParams").iter().map(|query| value_words("query", query));
    [path].into_iter().chain(method).chain(headers).chain(query).collect::<Vec<_>>().join(", ")
}

fn value_words(what: &str, one: &Value) -> String {
    let how = if text(one, "/type") == "RegularExpression" { "like" } else { "=" };
    format!("{what} {} {how} {}", text(one, "/name"), text(one, "/value"))
}

/// `RequestRedirect scheme=https statusCode=301`: the filter's type and its fields.
fn filter_words(rule: &Value) -> Vec<String> {
    let words = |filter: &Value| {
        let fields = filter.as_object().into_iter().flatten().filter(|(key, _)| *key != "type");
        let fields: String = fields.filter_map(|(_, value)| value.as_object()).map(field_words).collect();
        format!("{}{fields}", text(filter, "/type"))
    };
    list(rule, "/filters").iter().map(words).collect()
}

/// ` scheme=https statusCode=301`.
fn field_words(fields: &Map<String, Value>) -> String {
    fields.iter().map(|(key, value)| format!(" {key}={}", plain(value))).collect()
}

fn backend_words(backend: &Value) -> String {
    let weight =
        backend.get("weight").and_then(Value::as_u64).map_or(String::new(), |weight| format!(" (weight {weight})"));
    let namespace = backend.get("namespace").and_then(Value::as_str).map_or(String::new(), |name| format!("{name}/"));
    format!("{namespace}{}:{}{weight}", text(backend, "/name"), number(backend, "/port"))
}

/// Every backend once, with its endpoints.
fn backends(route: &Value, related: &[Arc<Value>]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let transport = if kind_of(route) == Some(Kind::UdpRoute) { "UDP" } else { "TCP" };
    for backend in backend_refs(route) {
        let namespace = match text(backend, "/namespace") {
            "" => text(route, "/metadata/namespace"),
            written => written,
        };
        let (name, port) = (text(backend, "/name"), number(backend, "/port"));
        let is_service = |other: &&Arc<Value>| {
            kind_of(other) == Some(Kind::Service)
                && (text(other, "/metadata/namespace"), text(other, "/metadata/name")) == (namespace, name)
        };
        let kind = backend.get("kind").and_then(Value::as_str).unwrap_or("Service");
        let endpoints = match related.iter().find(is_service) {
            _ if kind != "Service" => format!("{kind} is a kind that cannot be a backend"),
            None => format!("there is no Service {namespace}/{name}"),
            Some(service) => endpoints_of(service, port, transport, related),
        };
        let line = format!("{namespace}/{name}:{port}   {endpoints}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
