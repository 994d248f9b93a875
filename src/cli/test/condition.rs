//! What never gets as far as a request? Parents that do not accept a route, listeners that are not programmed.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::row::{Row, row_kind};
use crate::{
    api::{CONTROLLER_NAME, GATEWAY_GROUP, Kind, ObjectKey, ROUTE_KINDS},
    finding::{Finding, Severity},
    view::{kind_of, list, parent_refs, parent_target, text},
};

/// The daemon's objects and findings.
pub struct Objects {
    pub classes: Vec<Arc<Value>>,
    pub gateways: Vec<Arc<Value>>,
    pub routes: Vec<Arc<Value>>,
    pub findings: Vec<Finding>,
}

/// `namespace/name`.
pub fn name(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

fn row_of(route: &Value) -> Row {
    Row { kind: kind_of(route).and_then(row_kind), route: name(route), ..Row::default() }
}

impl Objects {
    /// A row for each parent that does not accept a route, and for each accepted route that is not `programmed` (by kind
    /// and `namespace/name`).
    pub fn routes(&self, programmed: &BTreeSet<(Kind, &str)>) -> Vec<Row> {
        let mut rows = Vec::new();
        for route in &self.routes {
            let parents: Vec<_> = parent_refs(route).filter_map(|(entry, parent)| Some((entry?, parent))).collect();
            let refused = parents.iter().filter_map(|(entry, parent)| {
                let row = Row { listener: parent_name(parent, route), ..row_of(route) };
                bad(list(entry, "/conditions"), &["Accepted"]).map(|condition| condition.tell(row))
            });
            let before = rows.len();
            rows.extend(refused);
            if rows.len() == before && !programmed.contains(&(row_of(route).route_kind(), name(route).as_str())) {
                rows.push(self.untested(route, parents.is_empty()));
            }
        }
        rows
    }

    /// A route that is accepted, or that no Gateway of ours has to accept, and whose rules are nowhere.
    fn untested(&self, route: &Value, without_parent: bool) -> Row {
        let row = row_of(route);
        let is_it = |key: &ObjectKey| {
            *key.kind == *text(route, "/kind") && format!("{}/{}", key.namespace, key.name) == row.route
        };
        let about = |finding: &&Finding| {
            finding.object.as_ref().is_some_and(is_it)
                && ["NoParent", "ParentNotFound", "NotServed"].contains(&finding.reason.as_str())
        };
        match (self.findings.iter().find(about), without_parent) {
            (Some(finding), _) => row.clone().failed(&finding.reason, &finding.message, &finding.remedy),
            (None, true) => row.skipped("NotOurs", "it has no parent among the Gateways of gapi"),
            (None, false) => row.failed(
                "NotProgrammed",
                "no listener that takes it is programmed",
                "look at the Gateway's conditions",
            ),
        }
    }

    /// A row for each route of which a document was rejected: what is served is older than what is written, or nothing.
    pub fn rejected(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            let Some(key) = &finding.object else { continue };
            let Some(kind) = ROUTE_KINDS.iter().find(|kind| *key.kind == *kind.names().name) else { continue };
            let (kind, route) = (row_kind(*kind), format!("{}/{}", key.namespace, key.name));
            if rows.iter().all(|row| (row.kind, &row.route) != (kind, &route)) {
                let field = if finding.field.is_empty() { String::new() } else { format!("{}: ", finding.field) };
                let place = finding.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
                let message = format!("rejected: {field}{}{place}", finding.message);
                rows.push(Row { kind, route, ..Row::default() }.failed(&finding.reason, message, &finding.remedy));
            }
        }
        rows
    }

    /// A row for each Gateway and each listener that is not as it should be.
    pub fn gateways(&self) -> Vec<Row> {
        let ours = |class: &&Arc<Value>| text(class, "/spec/controllerName") == CONTROLLER_NAME;
        let classes: BTreeSet<&str> =
            self.classes.iter().filter(ours).map(|class| text(class, "/metadata/name")).collect();
        let mut rows = Vec::new();
        for gateway in self.gateways.iter().filter(|one| classes.contains(text(one, "/spec/gatewayClassName"))) {
            let listeners = list(gateway, "/status/listeners").iter().filter_map(|listener| {
                let row = Row { listener: format!("{}/{}", name(gateway), text(listener, "/name")), ..Row::default() };
                let types = ["Accepted", "ResolvedRefs", "Programmed"];
                bad(list(listener, "/conditions"), &types).map(|condition| condition.tell(row))
            });
            let before = rows.len();
            rows.extend(listeners);
            let row = Row { listener: name(gateway), ..Row::default() };
            if rows.len() == before
                && let Some(condition) = bad(list(gateway, "/status/conditions"), &["Accepted", "Programmed"])
            {
                rows.push(condition.tell(row));
            }
        }
        rows
    }
}

/// A condition that is not True.
struct Bad<'a> {
    type_: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl Bad<'_> {
    fn tell(&self, row: Row) -> Row {
        let subject = if row.route.is_empty() { "gateway" } else { row.route_kind().names().singular };
        let path = if row.route.is_empty() { &row.listener } else { &row.route };
        let mut parts = path.split('/');
        let (namespace, object) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let remedy = format!("gapi describe {subject} {object} -n {namespace} says more");
        let message = if self.message.is_empty() { "no message" } else { self.message };
        row.failed(self.reason, format!("not {}: {message}", self.type_), remedy)
    }
}

/// The first of `types` whose condition is there and not True.
fn bad<'a>(conditions: &'a [Value], types: &[&'a str]) -> Option<Bad<'a>> {
    types.iter().find_map(|type_| {
        let condition = conditions.iter().find(|condition| text(condition, "/type") == *type_)?;
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        (text(condition, "/status") != "True").then_some(Bad { type_, reason, message })
    })
}

/// `namespace/gateway`, with the listener where the reference names one.
fn parent_name(parent: &Value, route: &Value) -> String {
    let (group, kind, namespace, name) = parent_target(parent, route);
    let own = (group, kind) == (GATEWAY_GROUP, "Gateway");
    let target = if own { format!("{namespace}/{name}") } else { format!("{kind} {namespace}/{name}") };
    match text(parent, "/sectionName") {
        "" => target,
        section => format!("{target}/{section}"),
    }
}
