//! What do the Roles, ClusterRoles and bindings in force allow?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    api::{
        Kind, ObjectKey,
        rbac::{Action, Binding, PolicyRule, RBAC_GROUP, Role, RoleRef, Subject},
        selector::selects,
    },
    manifest::Object,
};

/// The user and the groups in whose name something is declared; the rights of all of them together.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Who {
    /// None where only a group is known: who writes a file that its group can write.
    pub user: Option<String>,
    pub groups: Vec<String>,
}

impl Who {
    fn is(&self, subject: &Subject) -> bool {
        match subject.kind.as_str() {
            "User" => self.user.as_ref() == Some(&subject.name),
            "Group" => self.groups.contains(&subject.name),
            // A file has an owner and a group, not a service account.
            _ => false,
        }
    }

    /// Root-owned files may declare anything.
    pub fn is_root(&self) -> bool {
        self.user.as_deref() == Some("root")
    }

    /// `User alice or Group developers`.
    pub fn subjects(&self) -> String {
        let user = self.user.iter().map(|user| format!("User {user}"));
        user.chain(self.groups.iter().map(|group| format!("Group {group}"))).collect::<Vec<_>>().join(" or ")
    }
}

/// `alice (group developers)`, `group developers`.
impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let groups = self.groups.join(", ");
        match &self.user {
            Some(user) if groups.is_empty() => f.write_str(user),
            Some(user) => write!(f, "{user} (group {groups})"),
            None => write!(f, "group {groups}"),
        }
    }
}

/// A binding with the rules that it gives.
#[derive(Debug)]
struct Grant {
    /// Where; everywhere for a ClusterRoleBinding.
    namespace: Option<Arc<str>>,
    subjects: Vec<Subject>,
    rules: Arc<[PolicyRule]>,
}

/// The roles and bindings in force.
#[derive(Debug, Default)]
pub struct Roles {
    grants: Vec<Grant>,
    /// The rules of each Role and ClusterRole.
    rules: BTreeMap<ObjectKey, Arc<[PolicyRule]>>,
}

/// Rules of single values that one rule may stand for where it is not covered as a whole.
const MOST_PIECES: usize = 100_000;

/// Is it one of the four kinds that say who may declare what?
pub fn is_rbac(kind: Kind) -> bool {
    kind.names().group == RBAC_GROUP
}

impl Roles {
    /// From all objects in force; those of other kinds are passed over.
    pub fn new<'a>(objects: impl Iterator<Item = &'a Arc<Object>> + Clone) -> Roles {
        let mut roles = Roles::default();
        let written: BTreeMap<&ObjectKey, (&Object, Role)> = objects
            .clone()
            .filter(|object| matches!(object.kind, Kind::Role | Kind::ClusterRole))
            .map(|object| (&object.key, (&**object, object.typed(None).cloned().unwrap_or_default())))
            .collect();
        for key in written.keys() {
            roles.rules.insert((*key).clone(), rules(key, &written).into());
        }
        for object in objects.filter(|object| matches!(object.kind, Kind::RoleBinding | Kind::ClusterRoleBinding)) {
            let binding: Binding = object.typed(None).cloned().unwrap_or_default();
            if let Some(rules) = roles.rules_of(&binding.role_ref, &object.key.namespace) {
                let namespace = (object.kind == Kind::RoleBinding).then(|| object.key.namespace.clone());
                let rules = rules.clone();
                roles.grants.push(Grant { namespace, subjects: binding.subjects, rules });
            }
        }
        roles
    }

    /// The rules of the role that a binding in `namespace` refers to.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<&Arc<[PolicyRule]>> {
        let namespace = if role.kind == "Role" { namespace } else { "" };
        self.rules.get(&ObjectKey::new(role.kind.as_str(), namespace, &role.name))
    }

    /// Every rule that `who` has in `namespace`; with an empty one those that hold everywhere.
    pub fn rules<'a>(&'a self, who: &'a Who, namespace: &'a str) -> impl Iterator<Item = &'a PolicyRule> {
        self.grants
            .iter()
            .filter(move |grant| grant.namespace.as_deref().is_none_or(|own| own == namespace))
            .filter(|grant| grant.subjects.iter().any(|subject| who.is(subject)))
            .flat_map(|grant| grant.rules.iter())
    }

    /// May `who` do this in `namespace`, or, with an empty one, to what is in none or to those of all?
    pub fn allow(&self, who: &Who, namespace: &str, action: &Action) -> bool {
        self.rules(who, namespace).any(|rule| rule.allows(action))
    }

    /// The first action of `rules` that `who` may not do in `namespace`, as a rule of single values.
    pub fn lacking(&self, who: &Who, namespace: &str, rules: &[PolicyRule]) -> Option<PolicyRule> {
        let own: Vec<&PolicyRule> = self.rules(who, namespace).collect();
        let covered = |wanted: &PolicyRule| own.iter().any(|rule| rule.covers(wanted));
        let whole = rules.iter().filter(|rule| !covered(rule));
        // What is too much to look at piece by piece is not theirs to give.
        let mut pieces = whole.flat_map(|rule| rule.single().enumerate());
        pieces.find(|(index, piece)| *index > MOST_PIECES || !covered(piece)).map(|(_, piece)| piece)
    }
}

/// The rules of a role: as written, or those of all the ClusterRoles that it takes in, and that they take in.
fn rules(key: &ObjectKey, written: &BTreeMap<&ObjectKey, (&Object, Role)>) -> Vec<PolicyRule> {
    let mut seen: BTreeSet<&ObjectKey> = BTreeSet::new();
    let mut ahead: Vec<&ObjectKey> = vec![key];
    let mut all: Vec<PolicyRule> = Vec::new();
    while let Some((key, (_, role))) = ahead.pop().and_then(|key| written.get_key_value(key)) {
        if !seen.insert(key) {
            continue;
        }
        match &role.aggregation_rule {
            None => all.extend(role.rules.iter().filter(|rule| !all.contains(rule)).cloned().collect::<Vec<_>>()),
            Some(aggregation) => ahead.extend(written.iter().filter_map(|(other, (object, _))| {
                let takes = |selector| selects(selector, &object.meta.labels).unwrap_or(false);
                let selected = aggregation.cluster_role_selectors.iter().any(takes);
                (object.kind == Kind::ClusterRole && selected).then_some(*other)
            })),
        }
    }
    all
}
