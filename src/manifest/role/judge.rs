//! Takes out of the files what their writers may not declare. Pure.
//!
//! What was accepted from a file before stays in force where its document is refused now, as in a cluster, where taking
//! a right away undoes nothing. Roles and bindings are judged first; those that are allowed count for the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    name::Writers,
    refusal::{Reason, Refusal, open_findings},
    roles::{Roles, Who, is_rbac},
};
use crate::{
    api::{
        Kind,
        rbac::{Action, Binding, PolicyRule, RBAC_GROUP, Role},
    },
    finding::{Finding, Origin},
    manifest::{
        Object,
        accepted::{Objects, Source, merge},
        parse::ParsedFile,
    },
};

/// What is left of the files, and what is to be said of them.
#[derive(Debug, Default)]
pub struct Judged {
    pub sources: BTreeMap<Arc<str>, Source>,
    pub findings: Vec<Finding>,
}

/// Judges the files that have an entry in `writers`; the others are trusted. `previous` is what was accepted last.
///
/// # Findings
/// `Forbidden` (error) at each document that the file's writers may not declare; `WritableByAll` (error) for what
/// anybody can have written or put in its place, of which nothing is read.
pub fn judge(
    previous: &Objects,
    mut sources: BTreeMap<Arc<str>, Source>,
    writers: &BTreeMap<Arc<str>, Writers>,
) -> Judged {
    if writers.is_empty() {
        return Judged { sources, findings: Vec::new() };
    }
    for (file, source) in &mut sources {
        if writers.get(file).is_some_and(|writers| writers.open.is_some()) {
            *source = Source::Unreadable;
        }
    }
    let mut findings = open_findings(writers);
    let roles = roles_in_force(previous, &sources, writers);
    let judge = Judge { previous, roles: &roles };
    for (file, source) in &mut sources {
        if let (Source::Parsed(parsed), Some(writers)) = (&source, writers.get(file)) {
            let sifted = sift(previous, file, parsed, |object| {
                let refusal = judge.refusal(object, writers);
                findings
                    .extend(refusal.as_ref().map(|refusal| refusal.finding(object, judge.before(object).is_some())));
                refusal.is_none()
            });
            *source = Source::Parsed(sifted);
        }
    }
    Judged { sources, findings }
}

/// The roles and bindings of trusted files, those that stay from before, and those that their writers may declare by
/// what the others give them.
fn roles_in_force(
    previous: &Objects,
    sources: &BTreeMap<Arc<str>, Source>,
    writers: &BTreeMap<Arc<str>, Writers>,
) -> Roles {
    let previous: Objects = previous
        .iter()
        .filter(|(_, object)| is_rbac(object.kind))
        .map(|(key, object)| (key.clone(), object.clone()))
        .collect();
    let sources: BTreeMap<Arc<str>, Source> =
        sources.iter().map(|(file, source)| (file.clone(), only_rbac(source))).collect();
    let mut allowed: BTreeSet<Origin> = BTreeSet::new();
    loop {
        let shown = sources.iter().map(|(file, source)| match source {
            Source::Parsed(parsed) if writers.contains_key(file) => {
                let sifted = sift(&previous, file, parsed, |object| allowed.contains(&object.origin));
                (file.clone(), Source::Parsed(sifted))
            }
            _ => (file.clone(), source.clone()),
        });
        let roles = Roles::new(merge(&previous, &shown.collect()).values());
        let judge = Judge { previous: &previous, roles: &roles };
        let known = allowed.len();
        for (file, source) in &sources {
            let (Source::Parsed(parsed), Some(writers)) = (source, writers.get(file)) else { continue };
            let of_file = parsed.objects.iter().filter(|object| judge.refusal(object, writers).is_none());
            allowed.extend(of_file.map(|object| object.origin.clone()));
        }
        // What is allowed may allow more; nothing is taken back.
        if allowed.len() == known {
            return roles;
        }
    }
}

fn only_rbac(source: &Source) -> Source {
    match source {
        Source::Parsed(parsed) => {
            let objects = parsed.objects.iter().filter(|object| is_rbac(object.kind)).cloned().collect();
            Source::Parsed(Arc::new(ParsedFile {
                objects,
                rejected_keys: parsed.rejected_keys.clone(),
                whole_file_rejected: parsed.whole_file_rejected,
                ..ParsedFile::default()
            }))
        }
        Source::Unreadable => Source::Unreadable,
    }
}

/// The file with those objects alone that are `allowed`.
///
/// A document that is refused, by whatever rule, keeps what was accepted from this very file, and not what is another's.
fn sift(
    previous: &Objects,
    file: &str,
    parsed: &Arc<ParsedFile>,
    mut allowed: impl FnMut(&Object) -> bool,
) -> Arc<ParsedFile> {
    let (objects, refused): (Vec<&Object>, Vec<&Object>) = parsed.objects.iter().partition(|object| allowed(object));
    let keys = parsed.rejected_keys.iter().chain(refused.iter().map(|object| &object.key));
    let own = keys.filter(|key| previous.get(*key).is_some_and(|before| &*before.origin.file == file));
    let rejected_keys: Vec<_> = own.cloned().collect();
    if refused.is_empty() && rejected_keys == parsed.rejected_keys {
        return parsed.clone();
    }
    Arc::new(ParsedFile {
        objects: objects.into_iter().cloned().collect(),
        rejected: parsed.rejected + refused.len(),
        rejected_keys,
        ..ParsedFile::clone(parsed)
    })
}

struct Judge<'a> {
    previous: &'a Objects,
    roles: &'a Roles,
}

impl Judge<'_> {
    /// What was accepted from the document's own file.
    fn before(&self, object: &Object) -> Option<&Arc<Object>> {
        self.previous.get(&object.key).filter(|before| before.origin.file == object.origin.file)
    }

    /// Why the object may not be declared by a file with these writers; none when it may.
    fn refusal(&self, object: &Object, writers: &Writers) -> Option<Refusal> {
        let before = self.before(object);
        let same = before.is_some_and(|before| before.value == object.value);
        let verbs: &[&'static str] = match before {
            None => &["create"],
            Some(_) if same => &["create", "update", "patch"],
            Some(_) => &["update", "patch"],
        };
        writers.all.iter().find_map(|(who, part)| {
            let refusal = |reason| Some(Refusal { who: who.clone(), part: part.clone(), reason });
            if !verbs.iter().any(|verb| self.may(who, verb, object)) {
                return refusal(Reason::NoRule { verb: verbs[0] });
            }
            // What stands already gives nothing to anybody.
            match is_rbac(object.kind) && !same {
                true => self.escalation(who, object).and_then(refusal),
                false => None,
            }
        })
    }

    fn may(&self, who: &Who, verb: &str, object: &Object) -> bool {
        let names = object.kind.names();
        let action = Action { verb, group: names.group, resource: names.plural, name: &object.key.name };
        self.roles.allow(who, &object.key.namespace, &action)
    }

    /// Nobody gives what they do not have, unless they may `escalate` the role or `bind` it.
    fn escalation(&self, who: &Who, object: &Object) -> Option<Reason> {
        let namespace = &object.key.namespace;
        let lacking = |rules: &[PolicyRule]| self.roles.lacking(who, namespace, rules).map(Reason::Escalation);
        match object.kind {
            Kind::Role | Kind::ClusterRole if self.may(who, "escalate", object) => None,
            Kind::Role | Kind::ClusterRole => {
                let role: Role = object.typed(None).cloned().unwrap_or_default();
                // What it takes in is not known beforehand, so it takes all there is.
                let all = role.aggregation_rule.is_some().then(everything);
                lacking(&all.unwrap_or(role.rules))
            }
            _ => {
                let Binding { role_ref, .. } = object.typed(None).cloned().unwrap_or_default();
                let resource = if role_ref.kind == "Role" { "roles" } else { "clusterroles" };
                let bind = Action { verb: "bind", group: RBAC_GROUP, resource, name: &role_ref.name };
                if self.roles.allow(who, namespace, &bind) {
                    return None;
                }
                match self.roles.rules_of(&role_ref, namespace) {
                    Some(rules) => lacking(rules),
                    None => Some(Reason::NoRole(format!("{} {}", role_ref.kind, role_ref.name))),
                }
            }
        }
    }
}

/// The rules that allow whatever there is.
pub fn everything() -> Vec<PolicyRule> {
    let star = || vec!["*".to_owned()];
    let resources = PolicyRule { verbs: star(), api_groups: star(), resources: star(), ..PolicyRule::default() };
    vec![resources, PolicyRule { verbs: star(), non_resource_urls: star(), ..PolicyRule::default() }]
}

#[cfg(test)]
mod tests;
