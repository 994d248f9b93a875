//! HTTPRoutes and GRPCRoutes that would share a hostname of a listener. Their rules have different orders of precedence and
//! are never merged: the older route has the hostname, the other is told (GRPCRouteSpec.hostnames).

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

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

/// Positions of a Gateway and of one of its listeners.
type Place = (usize, usize);

/// Takes routes from the listeners where an older one of the other kind has one of their hostnames. The routes come in the
/// order in which they win.
pub(super) fn resolve(routes: &mut [Arc<Route>], gateways: &[Gateway], input: &Input, findings: &mut Vec<Finding>) {
    let contested = contested(routes);
    if contested.is_empty() {
        return;
    }
    let before = routes.to_vec();
    let mut taken: HashMap<(Place, Kind), Taken> = HashMap::default();
    for (r, route) in before.iter().enumerate() {
        let other_kind = match route.kind {
            Kind::GrpcRoute => Kind::HttpRoute,
            Kind::HttpRoute => Kind::GrpcRoute,
            _ => continue,
        };
        let mut lost = Vec::new();
        for attachment in route.attachments.iter().filter(|one| contested.contains(&place(one))) {
            let hostnames = || attachment.hostnames.iter().map(Option::as_deref);
            let rivals = taken.get(&(place(attachment), other_kind));
            match rivals.and_then(|rivals| hostnames().filter_map(|hostname| rivals.first(hostname)).min()) {
                Some(rival) => lost.push((place(attachment), problem(attachment, &before[rival], gateways))),
                None => {
                    let own = taken.entry((place(attachment), route.kind)).or_default();
                    hostnames().for_each(|hostname| own.add(hostname, r));
                }
            }
        }
        if !lost.is_empty() {
            if let Some(object) = input.object(&route.key) {
                findings.extend(lost.iter().map(|(_, problem)| problem.finding(object)));
            }
            routes[r] = Arc::new(without(route, &lost, gateways));
        }
    }
}

fn place(attachment: &Attachment) -> Place {
    (attachment.gateway, attachment.listener)
}

/// The listeners that have routes of both kinds.
fn contested(routes: &[Arc<Route>]) -> HashSet<Place> {
    let places = |kind: Kind| {
        let routes = routes.iter().filter(move |route| route.kind == kind);
        routes.flat_map(|route| route.attachments.iter().map(place))
    };
    let calls: HashSet<Place> = places(Kind::GrpcRoute).collect();
    if calls.is_empty() { calls } else { places(Kind::HttpRoute).filter(|place| calls.contains(place)).collect() }
}

/// The hostnames that the routes of one kind have at a listener, each with the position of the first route that has it.
#[derive(Default)]
struct Taken<'r> {
    any: Option<usize>,
    every: Option<usize>,
    exact: HashMap<&'r str, usize>,
    /// `.example.com` of `*.example.com`.
    wildcard: HashMap<&'r str, usize>,
    /// Whatever lies below such a suffix, itself included where it is a wildcard.
    below: HashMap<&'r str, usize>,
}

impl<'r> Taken<'r> {
    fn add(&mut self, hostname: Option<&'r str>, route: usize) {
        self.any.get_or_insert(route);
        let Some(hostname) = hostname else {
            self.every.get_or_insert(route);
            return;
        };
        match hostname.strip_prefix('*') {
            Some(suffix) => _ = self.wildcard.entry(suffix).or_insert(route),
            None => _ = self.exact.entry(hostname).or_insert(route),
        }
        for suffix in suffixes(hostname) {
            self.below.entry(suffix).or_insert(route);
        }
    }

    /// The first route with a name in common with `hostname`. Both meet the hostname of the listener, and of three names
    /// that meet each other all have one in common.
    fn first(&self, hostname: Option<&str>) -> Option<usize> {
        let Some(hostname) = hostname else { return self.any };
        let same = match hostname.strip_prefix('*') {
            Some(suffix) => self.below.get(suffix),
            None => self.exact.get(hostname),
        };
        let wider = suffixes(hostname).filter_map(|suffix| self.wildcard.get(suffix));
        wider.chain(same).copied().chain(self.every).min()
    }
}

/// `.b.example`, `.example` of `a.b.example` and of `*.b.example`.
fn suffixes(hostname: &str) -> impl Iterator<Item = &str> {
    hostname.match_indices('.').map(|(start, _)| &hostname[start..])
}

/// A listener that is lost, and why.
type Lost = (Place, Problem);

fn problem(attachment: &Attachment, rival: &Route, gateways: &[Gateway]) -> Problem {
    let listener = &gateways[attachment.gateway].listeners[attachment.listener];
    let theirs = rival.attachments.iter().filter(|one| place(one) == place(attachment)).flat_map(|one| &one.hostnames);
    let mut pairs =
        theirs.flat_map(|their| attachment.hostnames.iter().map(move |own| (their.as_deref(), own.as_deref())));
    let (their, own) = pairs.find(|(their, own)| hostname::intersect(*their, *own)).unwrap_or_default();
    let (their, own) = (their.unwrap_or("every hostname"), own.unwrap_or("every hostname"));
    let meets = if their == own { String::new() } else { format!(", which {own} of this route meets") };
    let message = format!("{} comes first and has {their} at listener {}{meets}", rival.key, listener.key);
    let field = format!("spec.parentRefs[{}]", attachment.parent);
    let remedy = "a hostname has either HTTPRoutes or GRPCRoutes: use another hostname or listener";
    Problem::new(ROUTE_HOSTNAME_CONFLICT, field, message, remedy)
}

/// The route without the listeners of `lost`. A parent that has none left does not accept it.
fn without(route: &Route, lost: &[Lost], gateways: &[Gateway]) -> Route {
    let mut route = route.clone();
    let is_lost = |place: &Place| lost.iter().find(|(other, _)| other == place);
    route.attachments.retain(|attachment| is_lost(&place(attachment)).is_none());
    for parent in &mut route.parents {
        let Some((_, problem)) = parent.listeners.iter().find_map(is_lost) else { continue };
        parent.listeners.retain(|place| is_lost(place).is_none());
        let accepted = &mut parent.conditions[0];
        if parent.listeners.is_empty() {
            *accepted = problem.reason.with(problem::bounded(&problem.text()));
            // Never beside a route that is not accepted (RouteConditionPartiallyInvalid).
            parent.conditions.retain(|condition| condition.type_ != "PartiallyInvalid");
        } else if accepted.status == "True" {
            *accepted = attached(&parent.listeners, gateways);
        }
    }
    route
}

#[cfg(test)]
mod tests {
    use super::{super::hostname, Taken};

    /// Every pair of names of a few labels, of which the pairwise comparison knows whether they meet.
    #[test]
    fn names_meet_as_they_do_pairwise() {
        let labels = ["a", "b", "ab"];
        let mut names: Vec<Option<String>> = vec![None];
        for one in labels {
            names.extend([one.to_owned(), format!("*.{one}")].map(Some));
            for two in labels {
                names.extend([format!("{one}.{two}"), format!("*.{one}.{two}")].map(Some));
                names.extend(labels.map(|three| Some(format!("{one}.{two}.{three}"))));
            }
        }
        for a in &names {
            let mut taken = Taken::default();
            taken.add(a.as_deref(), 7);
            for b in &names {
                let meet = hostname::intersect(a.as_deref(), b.as_deref());
                assert_eq!(taken.first(b.as_deref()), meet.then_some(7), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_first_of_several_is_named() {
        let mut taken = Taken::default();
        for (route, name) in [(3, Some("*.b.c")), (4, Some("a.b.c")), (5, None)] {
            taken.add(name, route);
        }
        for (name, first) in [(Some("a.b.c"), 3), (Some("*.c"), 3), (Some("x.y"), 5), (None, 3)] {
            assert_eq!(taken.first(name), Some(first), "{name:?}");
        }
    }
}
