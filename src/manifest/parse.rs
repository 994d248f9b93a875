//! *parse*: the bytes of one file become admitted objects and findings. Pure: the same bytes give the same result.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::{
    Ignored, Object, Positions, Reading,
    admit::{self, Fault},
    compact,
    served::{Served, served},
    span::{self, Bounds, Content, Document, Entry, Node, Place, Refusal},
};
use crate::{
    api::{KINDS, Kind, ObjectKey, ObjectMeta},
    finding::{Finding, Origin, Severity},
};

/// Findings of one file that are listed; more are only counted.
const LISTED: usize = 1000;

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedFile {
    /// Documents that were admitted, in the order of the text.
    pub objects: Vec<Object>,
    /// Documents that gapi does not serve.
    pub ignored: Vec<Ignored>,
    pub findings: Vec<Finding>,
    /// Documents in the file; the items of a `List` count each. A file refused as a whole counts as one.
    pub documents: usize,
    /// Documents that were not admitted.
    pub rejected: usize,
    /// A syntax error or a bound passed: nothing of the file is known.
    pub whole_file_rejected: bool,
    /// Documents that were not admitted but say what object they are: its last accepted version stays.
    pub rejected_keys: Vec<ObjectKey>,
    /// A document that was not admitted does not say what object it is: it may be any that the file had.
    pub has_unidentified: bool,
    /// The file is no document at all: it is empty, or holds comments and empty documents only.
    pub only_comments: bool,
}

/// Reads the documents of `file`, whose name goes into origins.
pub fn parse_file(file: &str, bytes: &[u8], bounds: &Bounds) -> ParsedFile {
    let mut parser = Parser { file: file.into(), parsed: ParsedFile::default() };
    match documents(bytes, bounds) {
        Ok(documents) => {
            parser.parsed.only_comments = documents.is_empty();
            for document in &documents {
                parser.document(document);
            }
        }
        Err(refusal) => parser.refuse(refusal),
    }
    parser.finish()
}

fn documents(bytes: &[u8], bounds: &Bounds) -> Result<Vec<Document>, Refusal> {
    if bytes.len() > bounds.bytes {
        return Err(Refusal {
            place: Place::default(),
            reason: "FileTooLarge",
            message: format!("the file has {} bytes, at most {} are read", bytes.len(), bounds.bytes),
            remedy: "split the file".to_owned(),
        });
    }
    span::read(&span::decode(bytes)?, bounds)
}

struct Parser {
    file: Arc<str>,
    parsed: ParsedFile,
}

impl Parser {
    fn document(&mut self, document: &Document) {
        for problem in &document.problems {
            self.error(problem.place, None, "", "SyntaxError", &problem.message, &problem.remedy);
        }
        self.node(&document.root, !document.problems.is_empty());
    }

    /// A document or an item of a list; `broken` where the text of the document already has a fault.
    fn node(&mut self, node: &Node, broken: bool) {
        let text = |field: &str| node.get(field).and_then(Node::as_str).filter(|text| !text.is_empty());
        match (text("apiVersion"), text("kind")) {
            (Some(version), Some(kind)) => match served(version, kind) {
                Served::List => self.list(node, version, kind, broken),
                Served::Kind(kind) => self.object(node, kind, version, broken),
                Served::Ignored(reason) if !broken => self.ignore(node, version, kind, reason),
                Served::NotYet if !broken => self.not_yet(node, version, kind),
                Served::Wrong { field, message, remedy } => self.not_served(node, kind, field, &message, &remedy),
                Served::Ignored(_) | Served::NotYet => self.reject(),
            },
            _ if self.is_kustomization() => self.ignore(node, "", "Kustomization", "kustomization without a name"),
            _ => self.unidentified(node),
        }
    }

    fn list(&mut self, node: &Node, version: &str, kind: &str, broken: bool) {
        match node.get("items").map(|items| &items.content) {
            Some(Content::List(items)) => {
                items.iter().for_each(|item| self.node(&list_item(item, version, kind), broken));
            }
            Some(Content::Null) => self.parsed.documents += 1,
            None => {
                self.reject();
                let message = "a list needs items, which are not there";
                self.error(node.place, None, "items", "MissingField", message, "add them; items: [] is the empty list");
            }
            Some(_) => {
                self.reject();
                self.parsed.has_unidentified = true;
                self.error(place_of(node, "items"), None, "items", "WrongType", "must be a list of documents", "");
            }
        }
    }

    fn object(&mut self, node: &Node, kind: Kind, api_version: &str, broken: bool) {
        let names = kind.names();
        let key = key(node, names.name, names.namespaced);
        let (value, faults) = admit::judge(kind, node);
        if broken || !faults.is_empty() {
            self.reject();
            let is_identity =
                |fault: &Fault| matches!(&*fault.field, "metadata" | "metadata.name" | "metadata.namespace");
            self.parsed.has_unidentified |= key.is_none() || faults.iter().any(is_identity);
            for fault in faults {
                self.fault(fault, key.clone());
            }
            self.parsed.rejected_keys.extend(key);
            return;
        }
        let mut meta: ObjectMeta = serde_json::from_value(value["metadata"].clone()).unwrap_or_default();
        meta.creation_timestamp_written = meta.creation_timestamp.is_some();
        self.parsed.documents += 1;
        self.parsed.objects.push(Object {
            key: ObjectKey::new(names.name, &meta.namespace, &meta.name),
            kind,
            api_version: api_version.to_owned(),
            meta,
            value: compact(value).into(),
            origin: self.origin(node.place),
            positions: positions(node),
            reading: Reading::default(),
        });
    }

    fn ignore(&mut self, node: &Node, api_version: &str, kind: &str, reason: &str) {
        self.parsed.documents += 1;
        let name = node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::as_str);
        self.parsed.ignored.push(Ignored {
            origin: self.origin(node.place),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        });
    }

    fn not_yet(&mut self, node: &Node, api_version: &str, kind: &str) {
        self.ignore(node, api_version, kind, "not served yet");
        self.parsed.findings.push(Finding {
            severity: Severity::Warning,
            origin: Some(self.origin(place_of(node, "kind"))),
            object: key(node, kind, true),
            field: "kind".to_owned(),
            reason: "KindNotServed".to_owned(),
            message: format!("gapi does not serve the kind {kind} yet; the document is ignored"),
            remedy: String::new(),
        });
    }

    /// Another version of a kind of ours, or no kind of a group of ours.
    fn not_served(&mut self, node: &Node, kind: &str, field: &str, message: &str, remedy: &str) {
        self.reject();
        let names = KINDS.iter().find(|names| names.name == kind);
        let key = key(node, kind, names.is_none_or(|names| names.namespaced));
        if names.is_some() {
            self.parsed.rejected_keys.extend(key.clone());
        }
        self.parsed.has_unidentified |= names.is_none() || key.is_none();
        self.error(place_of(node, field), key, field, "NotServed", message, remedy);
    }

    fn unidentified(&mut self, node: &Node) {
        self.reject();
        self.parsed.has_unidentified = true;
        if !matches!(node.content, Content::Map(_)) {
            let message = format!("a document is a map, not {}", node.type_name());
            return self.error(node.place, None, "", "WrongType", &message, "");
        }
        for field in ["apiVersion", "kind"] {
            match node.get(field).filter(|value| !value.is_null()) {
                None => {
                    let message = format!("{field} is required and not there");
                    self.error(node.place, None, field, "MissingField", &message, "add it");
                }
                Some(value) if value.as_str().is_none_or(str::is_empty) => {
                    let message = format!("must be a string, not {}", admit::written(value));
                    self.error(value.place, None, field, "WrongType", &message, "");
                }
                Some(_) => {}
            }
        }
    }

    fn is_kustomization(&self) -> bool {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        matches!(name, "kustomization.yaml" | "kustomization.yml")
    }

    fn reject(&mut self) {
        self.parsed.documents += 1;
        self.parsed.rejected += 1;
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.reject();
        self.parsed.whole_file_rejected = true;
        let Refusal { place, reason, message, remedy } = refusal;
        self.error(place, None, "", reason, &message, &remedy);
    }

    fn fault(&mut self, fault: Fault, object: Option<ObjectKey>) {
        self.error(fault.place, object, &fault.field, fault.reason.as_str(), &fault.message, &fault.remedy);
    }

    fn error(
        &mut self,
        place: Place,
        object: Option<ObjectKey>,
        field: &str,
        reason: &str,
        message: &str,
        remedy: &str,
    ) {
        self.parsed.findings.push(Finding {
            severity: Severity::Error,
            origin: Some(self.origin(place)),
            object,
            field: field.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    fn origin(&self, place: Place) -> Origin {
        Origin { file: self.file.clone(), line: place.line, column: place.column }
    }

    fn finish(mut self) -> ParsedFile {
        // Most files have one document, and are kept for long.
        self.parsed.objects.shrink_to_fit();
        let more = self.parsed.findings.len().saturating_sub(LISTED);
        if more > 0 {
            self.parsed.findings.truncate(LISTED);
            let message = format!("{more} more findings of this file are not listed");
            self.error(Place::default(), None, "", "MoreFindings", &message, "mend the listed ones first");
        }
        self.parsed
    }
}

/// An item of a typed list (`HTTPRouteList`) may leave its kind to the list, as the API server does.
fn list_item<'a>(item: &'a Node, version: &str, list: &str) -> Cow<'a, Node> {
    let kind = list.strip_suffix("List").filter(|kind| !kind.is_empty() && item.get("kind").is_none());
    let (Some(kind), Content::Map(fields)) = (kind, &item.content) else { return Cow::Borrowed(item) };
    let mut fields = fields.clone();
    fields.entries.retain(|entry| entry.key != "apiVersion");
    let implied = [("apiVersion", version), ("kind", kind)].map(|(key, text)| Entry {
        key: key.to_owned(),
        key_place: item.place,
        node: Node { content: Content::String(text.to_owned()), place: item.place },
    });
    fields.entries.splice(..0, implied);
    Cow::Owned(Node { content: Content::Map(fields), place: item.place })
}

/// The object that a document means, where it says so.
fn key(node: &Node, kind: &str, namespaced: bool) -> Option<ObjectKey> {
    let metadata = node.get("metadata")?;
    let name = metadata.get("name").and_then(Node::as_str).filter(|text| !text.is_empty())?;
    let namespace = match metadata.get("namespace").filter(|namespace| namespaced && !namespace.is_null()) {
        Some(namespace) => namespace.as_str()?,
        None => "",
    };
    let namespace = if namespaced && namespace.is_empty() { "default" } else { namespace };
    Some(ObjectKey::new(kind, namespace, name))
}

fn place_of(node: &Node, field: &str) -> Place {
    node.get(field).map_or(node.place, |value| value.place)
}

/// Where each field of a document stands.
fn positions(root: &Node) -> Positions {
    let mut positions = BTreeMap::new();
    walk(root, &mut String::new(), &mut positions);
    Arc::new(positions.into())
}

fn walk(node: &Node, path: &mut String, positions: &mut BTreeMap<String, (u32, u32)>) {
    let length = path.len();
    let mut step = |path: &mut String, node: &Node| {
        positions.insert(path.clone(), (node.place.line, node.place.column));
        walk(node, path, positions);
        path.truncate(length);
    };
    match &node.content {
        Content::List(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                step(path, item);
            }
        }
        Content::Map(entries) => {
            for entry in &entries.entries {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(&entry.key);
                step(path, &entry.node);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
