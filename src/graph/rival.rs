//! HTTPRoutes and GRPCRoutes that would share a hostname of a listener. Their rules have different orders of precedence and
//! are never merged: the older route has the hostname, the other is told (GRPCRouteSpec.hostnames).

use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    api::{Kind, condition::ROUTE_HOSTNAME_CONFLICT},
    finding::Finding,
};

use super::{
    Input,
    gateway::Gateway,
    hostname,
    problem::{self, Problem},
    route::{Attachment, Route, attached},
};

/// What a listener (Gateway and listener positions) has of one kind: positions of routes with their hostnames.
type There = HashMap<(usize, usize, Kind), Vec<(usize, Vec<Option<String>>)>>;

/// Takes routes from the listeners where an older one of the other kind has one of their hostnames. The routes come in the
/// order in which they win.
pub(super) fn resolve(routes: &mut [Arc<Route>], gateways: &[Gateway], input: &Input, findings: &mut Vec<Finding>) {
    if !routes.iter().any(|route| route.kind == Kind::GrpcRoute) {
        return;
    }
    let mut there = There::default();
    for r in 0..routes.len() {
        let other_kind = match routes[r].kind {
            Kind::GrpcRoute => Kind::HttpRoute,
            Kind::HttpRoute => Kind::GrpcRoute,
            _ => continue,
        };
        let mut lost = Vec::new();
        for attachment in &routes[r].attachments {
            let (gateway, listener) = (attachment.gateway, attachment.listener);
            let rivals = there.get(&(gateway, listener, other_kind)).map_or(&[][..], Vec::as_slice);
            match rivals.iter().find(|(_, hostnames)| meet(&attachment.hostnames, hostnames)) {
                Some((rival, _)) => lost.push(problem(attachment, &routes[*rival], gateways)),
                None => {
                    let own = there.entry((gateway, listener, routes[r].kind)).or_default();
                    own.push((r, attachment.hostnames.clone()));
                }
            }
        }
        if !lost.is_empty() {
            if let Some(object) = input.object(&routes[r].key) {
                findings.extend(lost.iter().map(|(_, problem)| problem.finding(object)));
            }
            routes[r] = Arc::new(without(&routes[r], &lost, gateways));
        }
    }
}

/// Is there a name under both? Both meet the hostname of the listener, and of three names that meet each other all have
/// one in common.
fn meet(a: &[Option<String>], b: &[Option<String>]) -> bool {
    a.iter().any(|a| b.iter().any(|b| hostname::intersect(a.as_deref(), b.as_deref())))
}

/// A listener that is lost, and why.
type Lost = ((usize, usize), Problem);

fn problem(attachment: &Attachment, rival: &Route, gateways: &[Gateway]) -> Lost {
    let listener = &gateways[attachment.gateway].listeners[attachment.listener];
    let message = format!("{} comes first and has hostnames of the route at listener {}", rival.key, listener.key);
    let field = format!("spec.parentRefs[{}]", attachment.parent);
    let remedy = "a hostname has either HTTPRoutes or GRPCRoutes: use another hostname or listener";
    let problem = Problem::new(ROUTE_HOSTNAME_CONFLICT, field, message, remedy);
    ((attachment.gateway, attachment.listener), problem)
}

/// The route without the listeners of `lost`. A parent that has none left does not accept it.
fn without(route: &Route, lost: &[Lost], gateways: &[Gateway]) -> Route {
    let mut route = route.clone();
    let is_lost = |place: &(usize, usize)| lost.iter().find(|(other, _)| other == place);
    route.attachments.retain(|attachment| is_lost(&(attachment.gateway, attachment.listener)).is_none());
    for parent in &mut route.parents {
        let Some((_, problem)) = parent.listeners.iter().find_map(is_lost) else { continue };
        parent.listeners.retain(|place| is_lost(place).is_none());
        let accepted = &mut parent.conditions[0];
        if parent.listeners.is_empty() {
            *accepted = problem.reason.with(problem::bounded(&problem.text()));
        } else if accepted.status == "True" {
            *accepted = attached(&parent.listeners, gateways);
        }
    }
    route
}
