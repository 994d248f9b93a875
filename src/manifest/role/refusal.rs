//! Why a file may not declare something, in words.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    custody::{Open, Part},
    name::Writers,
    roles::Who,
};
use crate::{
    api::rbac::PolicyRule,
    finding::{Finding, Origin, Severity},
    manifest::Object,
};

/// One who had a hand in a file and may not declare an object.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub who: Who,
    pub part: Part,
    pub reason: Reason,
}

#[derive(Clone, Debug)]
pub enum Reason {
    /// No rule that they have allows the verb.
    NoRule { verb: &'static str },
    /// The role, or the role that is bound, allows what they may not do themselves.
    Escalation(PolicyRule),
    /// The role that is bound is not there.
    NoRole(String),
}

impl Refusal {
    /// `stays`: something was accepted from the file before.
    pub fn finding(&self, object: &Object, stays: bool) -> Finding {
        let names = object.kind.names();
        let resource = with_group(names.plural, names.group);
        let place = match &*object.key.namespace {
            "" => String::new(),
            namespace => format!(" in namespace {namespace}"),
        };
        let (actor, who) = (self.actor(), &self.who);
        let mut message = match &self.reason {
            Reason::NoRule { verb } => {
                let roles = match names.namespaced {
                    true => "Role or ClusterRole bound to",
                    false => "ClusterRole that a ClusterRoleBinding binds to",
                };
                format!("{actor} may not {verb} {resource}{place}: no {roles} {} allows it", who.subjects())
            }
            Reason::Escalation(rule) => {
                format!("{actor} may not give what they do not have{place}: {}", rule_words(rule))
            }
            Reason::NoRole(role) => format!("{actor} may not bind {role}, which is not there"),
        };
        if stays {
            message += "; what was accepted from this file before stays in force";
        }
        Finding {
            severity: Severity::Error,
            origin: Some(object.origin.clone()),
            object: Some(object.key.clone()),
            field: String::new(),
            reason: "Forbidden".to_owned(),
            message,
            remedy: self.remedy(object),
        }
    }

    fn actor(&self) -> String {
        let who = &self.who;
        match (&self.part, &who.user) {
            (Part::File, Some(_)) => who.to_string(),
            (Part::File, None) => format!("{who}, whose members can write the file,"),
            (Part::Link, _) => format!("{who}, who can change the link to the file,"),
            (Part::Directory(path), Some(_)) => format!("{who}, who owns the directory {},", shown(path)),
            (Part::Directory(path), None) => {
                format!("{who}, whose members can write in the directory {},", shown(path))
            }
        }
    }

    fn remedy(&self, object: &Object) -> String {
        let names = object.kind.names();
        let subjects = self.who.subjects();
        let mut remedy = match &self.reason {
            Reason::NoRule { .. } => {
                let binding = match &*object.key.namespace {
                    "" => "a ClusterRoleBinding".to_owned(),
                    namespace => format!("a RoleBinding in namespace {namespace}"),
                };
                let role = if names.namespaced { "Role" } else { "ClusterRole" };
                format!(
                    "root can declare {binding} for {subjects} to a {role} with apiGroups: [{:?}], resources: [{:?}], \
                     verbs: [\"create\", \"update\"]",
                    names.group, names.plural
                )
            }
            Reason::Escalation(_) if matches!(names.name, "Role" | "ClusterRole") => {
                "root can declare the role, or allow the verb escalate".to_owned()
            }
            Reason::Escalation(_) => "root can declare the binding, or allow the verb bind".to_owned(),
            Reason::NoRole(_) => "declare the role first".to_owned(),
        };
        let file = &object.origin.file;
        remedy += &match (&self.part, &self.who.user) {
            (Part::File, Some(_)) => String::new(),
            (Part::File, None) => format!(", or make the file the owner's alone: chmod g-w {file}"),
            (Part::Link, _) => ", or put the file itself there".to_owned(),
            (Part::Directory(path), Some(_)) => {
                format!(", or take the directory from them: chown root {}", shown(path))
            }
            (Part::Directory(path), None) => format!(", or close the directory: chmod g-w {}", shown(path)),
        };
        remedy
    }
}

/// The config directory itself has no name below itself.
fn shown(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// `httproutes.gateway.networking.k8s.io`, `services`.
pub fn with_group(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// A rule of single values: `create httproutes.gateway.networking.k8s.io web`.
fn rule_words(rule: &PolicyRule) -> String {
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let what = match rule.resources.is_empty() {
        true => first(&rule.non_resource_urls),
        false => with_group(&first(&rule.resources), &first(&rule.api_groups)),
    };
    format!("{} {what} {}", first(&rule.verbs), first(&rule.resource_names)).trim_end().to_owned()
}

/// One for each file, or directory, that anybody can write.
pub fn open_findings(writers: &BTreeMap<Arc<str>, Writers>) -> Vec<Finding> {
    let mut directories: BTreeMap<&str, (&Open, usize)> = BTreeMap::new();
    let mut findings = Vec::new();
    for (file, open) in writers.iter().filter_map(|(file, writers)| Some((file, writers.open.as_ref()?))) {
        match &open.part {
            Part::Directory(path) => directories.entry(path).or_insert((open, 0)).1 += 1,
            _ => {
                findings.push(open_finding(file, open, "nothing of it is read; what was accepted from it before stays"))
            }
        }
    }
    findings.extend(directories.into_iter().map(|(path, (open, count))| {
        let files = if count == 1 { "its file is".to_owned() } else { format!("its {count} files are") };
        open_finding(shown(path), open, &format!("{files} not read; what was accepted from there before stays"))
    }));
    findings
}

fn open_finding(path: &str, open: &Open, outcome: &str) -> Finding {
    let what = if matches!(open.part, Part::File) { "can be written by" } else { "takes files from" };
    let (whom, remedy) = match open.list {
        true => {
            ("others than its owner and group, by its access control list".to_owned(), format!("setfacl -b {path}"))
        }
        false => (format!("everybody (mode {:04o})", open.mode), format!("chmod o-w {path}")),
    };
    Finding {
        severity: Severity::Error,
        origin: Some(Origin { file: path.into(), line: 0, column: 0 }),
        object: None,
        field: String::new(),
        reason: "WritableByAll".to_owned(),
        message: format!("{path} {what} {whom}: {outcome} in force"),
        remedy,
    }
}
