//! Routes of every kind: to which listeners they attach, and what each parent has to say.

use std::{collections::BTreeSet, sync::Arc};

use foldhash::HashMap;

use crate::{
    api::{Condition, GATEWAY_GROUP, Kind, ObjectKey, ROUTE_KINDS, condition::*, http_route::ParentReference},
    finding::Finding,
    manifest::Object,
};

use super::{
    Age, Input, attach,
    backend::{Backend, Backends, ResolvedBackends},
    expression::Expressions,
    gateway::Gateway,
    index::Index,
    known::{Before, Known},
    problem::{self, Problem, warning},
    rival,
    rule::{Resolver, Rule},
    spec::{self, RouteSpec, RuleSpec},
};

/// A route with at least one Gateway of ours among its parents.
#[derive(Clone, Debug)]
pub struct Route {
    pub kind: Kind,
    pub key: ObjectKey,
    /// `namespace/name`: alphabetical order is that of this text, as the spec has it.
    pub name: String,
    pub age: Age,
    /// As written; empty takes what the listeners take.
    pub hostnames: Vec<String>,
    pub rules: Vec<Rule>,
    /// One for each parentRef to a Gateway of ours, in the order written.
    pub parents: Vec<Parent>,
    /// One for each listener that takes it, in the order of the parentRefs.
    pub attachments: Vec<Attachment>,
}

/// `status.parents[]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    pub reference: ParentReference,
    /// `Accepted` first.
    pub conditions: Vec<Condition>,
    /// The listeners that it attaches the route to: positions of the Gateway and of the listener.
    pub listeners: Vec<(usize, usize)>,
}

impl Parent {
    /// Does it take the route?
    pub fn is_accepted(&self) -> bool {
        self.conditions.first().is_some_and(|accepted| accepted.status == "True")
    }
}

/// A route at a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Position in `Graph::gateways`.
    pub gateway: usize,
    /// Position in the Gateway's listeners.
    pub listener: usize,
    /// Position in `spec.parentRefs` of the first reference that attaches it.
    pub parent: usize,
    /// The route's hostnames, as written, that intersect with the listener's; `None` for a route without hostnames.
    pub hostnames: Vec<Option<String>>,
}

/// What the routes come to.
pub(super) struct Resolved {
    /// The oldest first, then by namespace and name.
    pub routes: Vec<Arc<Route>>,
    pub backends: Arc<HashMap<Arc<str>, Backend>>,
    /// Regular expressions that compile.
    pub expressions: BTreeSet<Arc<str>>,
    /// For the next pass.
    pub known: Arc<Known>,
}

/// Resolves all routes, and counts them at their listeners.
pub(super) fn resolve(index: &Index, gateways: &mut [Gateway], input: &Input, findings: &mut Vec<Finding>) -> Resolved {
    let before = Before::new(&input.last_good.known, input.objects, index, gateways);
    let own = gateways.to_vec();
    let names = gateways.iter().enumerate().map(|(g, gateway)| ((&*gateway.key.namespace, &*gateway.key.name), g));
    let mut pass = Pass {
        index,
        gateways,
        names: names.collect(),
        backends: Backends::new(index, &before),
        expressions: Expressions::new(&input.last_good.expressions),
        before: &before,
        known: HashMap::default(),
        findings,
    };
    let objects = ROUTE_KINDS.iter().flat_map(|kind| index.all(*kind));
    let mut routes: Vec<_> = objects.filter_map(|object| pass.route(object)).collect();
    let Pass { backends, expressions, known, .. } = pass;
    routes.sort_by(|a, b| (a.age, &a.name, a.kind).cmp(&(b.age, &b.name, b.kind)));
    rival::resolve(&mut routes, gateways, input, findings);
    for attachment in routes.iter().filter(|route| route.is_implemented()).flat_map(|route| &route.attachments) {
        gateways[attachment.gateway].listeners[attachment.listener].attached_routes += 1;
    }
    let ResolvedBackends { usable, noted, findings: mut said } = backends.finish();
    findings.append(&mut said);
    let backends = Arc::new(usable);
    let known = Known {
        objects: input.objects.clone(),
        namespaces: index.namespaces.clone(),
        gateways: own,
        routes: known,
        backends: backends.clone(),
        noted,
    };
    Resolved { routes, backends, expressions: expressions.into_good(), known: Arc::new(known) }
}

impl Route {
    /// At least one of its rules is served. One whose rules are all broken is not Accepted; it answers 500.
    pub fn is_implemented(&self) -> bool {
        self.rules.iter().any(|rule| !rule.is_broken())
    }
}

/// All that the routes are resolved with.
struct Pass<'p, 'a> {
    index: &'a Index<'a>,
    gateways: &'p [Gateway],
    /// Positions of the Gateways, by namespace and name.
    names: HashMap<(&'p str, &'p str), usize>,
    backends: Backends<'a>,
    expressions: Expressions<'a>,
    before: &'a Before<'a>,
    /// Routes about which there is nothing to say, by the address of their object.
    known: HashMap<usize, Arc<Route>>,
    findings: &'p mut Vec<Finding>,
}

impl Pass<'_, '_> {
    fn route(&mut self, object: &Arc<Object>) -> Option<Arc<Route>> {
        let address = Arc::as_ptr(object).addr();
        let before = self.before.route(address).filter(|route| self.still_holds(route));
        let said = self.findings.len();
        let route = match before {
            Some(route) => route.clone(),
            None => Arc::new(self.resolve(object)?),
        };
        if self.findings.len() == said {
            self.known.insert(address, route.clone());
        }
        Some(route)
    }

    /// Do the references of a route that was known before lead somewhere still?
    fn still_holds(&mut self, route: &Route) -> bool {
        let (backends, expressions) = (&mut self.backends, &mut self.expressions);
        route.rules.iter().all(|rule| {
            rule.backend_keys().all(|key| backends.is_usable(key))
                && rule.expressions().all(|expression| expressions.check(expression).is_ok())
        })
    }

    fn resolve(&mut self, object: &Arc<Object>) -> Option<Route> {
        let mut spec = spec::route(object)?;
        let references = self.references(object, &mut spec);
        if references.is_empty() {
            return None;
        }
        let rules = if spec.rules.is_empty() { vec![RuleSpec::default()] } else { spec.rules };
        let (backends, expressions) = (&mut self.backends, &mut self.expressions);
        let mut resolver = Resolver { route: object, backends, expressions, unresolved: Vec::new() };
        let rules: Vec<Rule> = rules.into_iter().enumerate().map(|(i, rule)| resolver.rule(i, rule)).collect();
        let unresolved = resolver.unresolved;
        let problems = unresolved.iter().chain(rules.iter().flat_map(|rule| &rule.broken));
        self.findings.extend(problems.map(|problem| problem.finding(object)));

        let mut route = Route {
            kind: object.kind,
            key: object.key.clone(),
            name: format!("{}/{}", object.key.namespace, object.key.name),
            age: Age::of(&object.meta),
            hostnames: spec.hostnames,
            rules,
            parents: Vec::with_capacity(references.len()),
            attachments: Vec::new(),
        };
        for (i, reference, gateway) in references {
            let (accepted, listeners) = self.attach(object, &mut route, &reference, gateway, i);
            let conditions = conditions(object.kind, accepted, &route.rules, &unresolved);
            route.parents.push(Parent { reference, conditions, listeners });
        }
        route.attachments.shrink_to_fit();
        self.findings.extend(attach::untaken(object, &route));
        self.findings.extend(attach::unserved(object, &route, self.gateways));
        self.findings.extend(attach::redirect_loops(object, &route, self.gateways));
        Some(route)
    }

    /// The parentRefs to Gateways of ours, each with its position and the Gateway's.
    fn references(&mut self, object: &Object, spec: &mut RouteSpec) -> Vec<(usize, ParentReference, usize)> {
        let scope = spec.use_default_gateways.as_deref().filter(|scope| !matches!(*scope, "" | "None"));
        if let Some(scope) = scope {
            let message = format!("default Gateways are not served yet: scope {scope} attaches the route to none");
            let (field, remedy) = ("spec.useDefaultGateways", "name its Gateway in spec.parentRefs");
            self.findings.push(warning(object, field, "UnsupportedValue", message, remedy));
        } else if spec.parent_refs.is_empty() {
            let message = "the route has no parent, so it gets no traffic";
            self.findings.push(warning(object, "spec", "NoParent", message, "name its Gateway in spec.parentRefs"));
        }
        let mut references = Vec::new();
        for (i, reference) in std::mem::take(&mut spec.parent_refs).into_iter().enumerate() {
            match self.find(object, &reference, i) {
                Ok(Some(gateway)) => references.push((i, reference, gateway)),
                Ok(None) => {}
                Err(finding) => self.findings.push(*finding),
            }
        }
        references
    }

    /// The Gateway of ours that a parentRef names; none where it is another controller's.
    ///
    /// # Errors
    /// A finding, where it leads nowhere.
    fn find(&self, object: &Object, reference: &ParentReference, i: usize) -> Result<Option<usize>, Box<Finding>> {
        let is_default = reference.group.is_empty() && reference.kind.is_empty();
        let is_gateway = reference.group == GATEWAY_GROUP && matches!(reference.kind.as_str(), "" | "Gateway");
        if !is_default && !is_gateway {
            let message = format!("{} {} cannot be the parent of a route here", reference.kind, reference.name);
            let field = format!("spec.parentRefs[{i}]");
            return Err(Box::new(warning(object, &field, "UnsupportedParent", message, "name a Gateway")));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(&object.key.namespace);
        let own = self.names.get(&(namespace, reference.name.as_str())).copied();
        if own.is_some() || self.index.get(Kind::Gateway, namespace, &reference.name).is_some() {
            return Ok(own);
        }
        let message = format!("Gateway {namespace}/{} does not exist", reference.name);
        let elsewhere = self.gateways.iter().find(|gateway| *gateway.key.name == *reference.name);
        let remedy = match elsewhere {
            Some(gateway) => {
                format!("there is one in namespace {0}: add namespace: {0} to the parentRef", gateway.key.namespace)
            }
            None => "write the Gateway, or correct the name".into(),
        };
        Err(Box::new(warning(object, &format!("spec.parentRefs[{i}].name"), "ParentNotFound", message, remedy)))
    }

    /// Attaches the route by one parentRef; the condition `Accepted` of that parent, its rules aside, and the listeners.
    fn attach(
        &mut self,
        object: &Object,
        route: &mut Route,
        reference: &ParentReference,
        gateway: usize,
        i: usize,
    ) -> (Condition, Vec<(usize, usize)>) {
        let parent = &self.gateways[gateway];
        match attach::listeners(self.index, parent, object, reference, &route.hostnames, i) {
            Ok(listeners) => {
                let places: Vec<(usize, usize)> = listeners.iter().map(|(l, _)| (gateway, *l)).collect();
                for (listener, hostnames) in listeners {
                    let place = (gateway, listener);
                    if route.attachments.iter().all(|other| (other.gateway, other.listener) != place) {
                        route.attachments.push(Attachment { gateway, listener, parent: i, hostnames });
                    }
                }
                (attached(&places, self.gateways), places)
            }
            Err(problem) => {
                self.findings.push(problem.finding(object));
                (problem.reason.with(problem::bounded(&problem.text())), Vec::new())
            }
        }
    }
}

/// `Accepted` of a parent whose listeners are at these positions.
pub(super) fn attached(places: &[(usize, usize)], gateways: &[Gateway]) -> Condition {
    let names: Vec<&str> = places.iter().map(|(g, l)| gateways[*g].listeners[*l].spec.name.as_str()).collect();
    ROUTE_ACCEPTED.with(problem::bounded(&format!("Attached to {}", names.join(", "))))
}

/// The conditions of a parent, given how it takes the route.
fn conditions(kind: Kind, accepted: Condition, rules: &[Rule], unresolved: &[Problem]) -> Vec<Condition> {
    let broken: Vec<&Problem> = rules.iter().flat_map(|rule| &rule.broken).collect();
    let resolved = problem::condition(unresolved, ROUTE_RESOLVED_REFS.with("All references are resolved"));
    let is_accepted = accepted.status == "True";
    // Rules of other kinds have nothing that could break.
    let fate = if kind == Kind::GrpcRoute { "calls are answered INTERNAL" } else { "requests are answered 500" };
    match broken.as_slice() {
        [first, ..] if is_accepted && rules.iter().all(Rule::is_broken) => {
            let texts: Vec<String> = broken.iter().map(|problem| problem.text()).collect();
            vec![first.reason.with(problem::bounded(&format!("All {fate}: {}", texts.join(". ")))), resolved]
        }
        [first, ..] if is_accepted => {
            let reason = match first.reason == ROUTE_INCOMPATIBLE_FILTERS {
                true => ROUTE_PARTIALLY_INCOMPATIBLE,
                false => ROUTE_PARTIALLY_INVALID,
            };
            // The prefix is the spec's (RouteConditionPartiallyInvalid).
            let texts: Vec<String> =
                broken.iter().map(|problem| format!("Dropped Rule, its {fate}: {}", problem.text())).collect();
            vec![accepted, resolved, reason.with(problem::bounded(&texts.join(". ")))]
        }
        _ => vec![accepted, resolved],
    }
}
