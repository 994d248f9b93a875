//! `apiVersion`, `kind` and `metadata`, the same for every kind.

use serde_json::{Map, Value};

use super::{
    Fields, Judge, Reason,
    owner::{finalizers, managed_fields, owner_references},
    text::{dns_label, dns_names, label_name},
    time::timestamp,
    written,
};
use crate::manifest::span::{Entry, Node};

/// What a kind asks of its objects' names, and whether they live in a namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameRule {
    /// A DNS subdomain, in a namespace.
    Subdomain,
    /// A DNS subdomain, without namespace; one that is written is dropped, as the server does.
    ClusterScoped,
    /// A DNS label, in a namespace: Service.
    Label,
    /// A DNS label, without namespace: Namespace.
    ClusterScopedLabel,
    /// Anything that can be a part of a path, in a namespace: Role, RoleBinding.
    PathSegment,
    /// The same without namespace: ClusterRole, ClusterRoleBinding.
    ClusterScopedPathSegment,
}

impl NameRule {
    fn namespaced(self) -> bool {
        matches!(self, NameRule::Subdomain | NameRule::Label | NameRule::PathSegment)
    }

    fn length(self) -> usize {
        match self {
            NameRule::Subdomain | NameRule::ClusterScoped => 253,
            NameRule::Label | NameRule::ClusterScopedLabel => 63,
            NameRule::PathSegment | NameRule::ClusterScopedPathSegment => usize::MAX,
        }
    }

    fn holds(self, name: &str) -> bool {
        match self {
            NameRule::Subdomain | NameRule::ClusterScoped => dns_names(name),
            NameRule::Label | NameRule::ClusterScopedLabel => dns_label(name),
            NameRule::PathSegment | NameRule::ClusterScopedPathSegment => path_segment(name),
        }
    }
}

/// The most that keys and values of all annotations may take, in bytes.
const ANNOTATION_BYTES: usize = 256 << 10;

impl Judge {
    /// A whole document: `apiVersion`, `kind`, `metadata`, and the fields that `body` names.
    pub fn document(&mut self, node: &Node, name: NameRule, body: impl FnOnce(&mut Fields)) -> Option<Value> {
        self.object(node, |fields| {
            fields.required("apiVersion", Judge::string);
            fields.required("kind", Judge::string);
            match node.get("metadata").is_some_and(|metadata| !metadata.is_null()) {
                true => fields.required("metadata", |judge, node| metadata(judge, node, name)),
                false => nameless(fields),
            }
            body(fields);
        })
    }
}

fn nameless(fields: &mut Fields) {
    fields.raw("metadata");
    let place = fields.place();
    let field = "metadata.name".to_owned();
    fields.judge().fault_at(Reason::MissingField, field, place, "name is required and not there", "add metadata.name");
}

fn metadata(judge: &mut Judge, node: &Node, rule: NameRule) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("name", |judge, node| name(judge, node, rule));
        match rule.namespaced() {
            true => fields.defaulted("namespace", "default", namespace),
            false => cluster_scoped(fields),
        }
        fields.optional("generateName", |judge, node| generate_name(judge, node, rule));
        for field in ["uid", "resourceVersion", "selfLink"] {
            fields.optional(field, Judge::string);
        }
        for field in ["generation", "deletionGracePeriodSeconds"] {
            fields.optional(field, |judge, node| judge.integer(node, i64::MIN..=i64::MAX));
        }
        for field in ["creationTimestamp", "deletionTimestamp"] {
            fields.optional(field, timestamp);
        }
        fields.optional("labels", labels);
        fields.optional("annotations", annotations);
        fields.optional("finalizers", finalizers);
        fields.optional("ownerReferences", owner_references);
        fields.optional("managedFields", |judge, node| judge.list(node, 0..=usize::MAX, managed_fields));
    })
}

fn name(judge: &mut Judge, node: &Node, rule: NameRule) -> Option<Value> {
    let text = judge.text(node)?;
    if text.is_empty() {
        judge.fault(Reason::MissingField, node.place, "must not be empty", "give the object a name");
    } else {
        dns_name(judge, node, text, rule);
    }
    Some(Value::from(text))
}

fn dns_name(judge: &mut Judge, node: &Node, text: &str, rule: NameRule) {
    if text.len() > rule.length() {
        let message = format!("has {} bytes, at most {} allowed", text.len(), rule.length());
        judge.fault(Reason::InvalidValue, node.place, message, "shorten it");
    }
    if !rule.holds(text) {
        let remedy = match rule.length() {
            usize::MAX => "write anything but '.', '..' and what has '/' or '%' in it",
            63 => "write lower-case letters, digits and '-', beginning and ending with a letter or digit",
            _ => "write lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        };
        judge.fault(Reason::InvalidValue, node.place, format!("{} is not a name", written(node)), remedy);
    }
}

/// An empty namespace is the default one, as for the server.
fn namespace(judge: &mut Judge, node: &Node) -> Option<Value> {
    let text = judge.text(node)?;
    if text.is_empty() {
        return Some(Value::from("default"));
    }
    dns_name(judge, node, text, NameRule::Label);
    Some(Value::from(text))
}

/// The server drops the namespace of a cluster-scoped object, whatever it says; only its type is judged.
fn cluster_scoped(fields: &mut Fields) {
    if let Some(node) = fields.raw("namespace").filter(|node| !node.is_null()) {
        fields.judge().field("namespace", |judge| judge.string(node));
    }
}

/// Judged although a name is there: its last dash would be followed by what the server generates.
fn generate_name(judge: &mut Judge, node: &Node, rule: NameRule) -> Option<Value> {
    let text = judge.text(node)?;
    let masked = match text.strip_suffix('-').and_then(|stem| stem.strip_suffix(|last: char| last.is_ascii())) {
        Some(stem) => format!("{stem}a"),
        None => text.to_owned(),
    };
    if !text.is_empty() {
        dns_name(judge, node, &masked, rule);
    }
    Some(Value::from(text))
}

pub fn labels(judge: &mut Judge, node: &Node) -> Option<Value> {
    strings(judge, node, |judge, entry, text| {
        let node = &entry.node;
        label_key(judge, entry, &entry.key);
        if text.len() > 63 || !(text.is_empty() || label_name(text)) {
            judge.fault(
                Reason::InvalidValue,
                node.place,
                format!("{} is not a label value", written(node)),
                "write at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
            );
        }
    })
}

fn annotations(judge: &mut Judge, node: &Node) -> Option<Value> {
    let mut bytes = 0;
    let value = strings(judge, node, |judge, entry, text| {
        bytes += entry.key.len() + text.len();
        label_key(judge, entry, &entry.key.to_lowercase());
    });
    if bytes > ANNOTATION_BYTES {
        let message = format!("annotations take {bytes} bytes, at most {ANNOTATION_BYTES} allowed");
        judge.fault(Reason::TooLong, node.place, message, "shorten them");
    }
    value
}

/// A map of strings, where null counts as the empty string.
pub fn strings(judge: &mut Judge, node: &Node, mut rule: impl FnMut(&mut Judge, &Entry, &str)) -> Option<Value> {
    let entries = judge.entries(node)?;
    let mut value = Map::new();
    for entry in &entries.entries {
        judge.field(&entry.key, |judge| {
            let text = if entry.node.is_null() { Some("") } else { judge.text(&entry.node) };
            if let Some(text) = text {
                rule(judge, entry, text);
                value.insert(entry.key.clone(), Value::from(text));
            }
        });
    }
    Some(Value::Object(value))
}

/// A qualified name: a name, perhaps after a DNS subdomain and a slash.
fn label_key(judge: &mut Judge, entry: &Entry, compared: &str) {
    if !qualified_name(compared) {
        let shown: String = entry.key.chars().take(60).collect();
        judge.fault(
            Reason::InvalidValue,
            entry.key_place,
            format!("{shown:?} is not a key for labels and annotations"),
            "write at most 63 letters, digits, '-', '_' and '.', perhaps after a lower-case domain and '/'",
        );
    }
}

/// The server's `IsPathSegmentName`; nor can a file have NUL in its name.
pub fn path_segment(name: &str) -> bool {
    !matches!(name, "." | "..") && !name.contains(['/', '%', '\0'])
}

/// The server's `IsQualifiedName`.
pub fn qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    name.len() <= 63 && label_name(name) && prefix.is_none_or(|prefix| prefix.len() <= 253 && dns_names(prefix))
}
