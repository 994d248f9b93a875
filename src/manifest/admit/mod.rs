//! Would an API server with the official CRDs take this document, and what would it store?
//!
//! One function per object of the API, beside the type that it binds: it names the object's fields, what each may
//! hold, its default, and the rules between them. [`Judge`] collects what is wrong at field paths; the result is the
//! object as the server would store it, nulls dropped and defaults in place. Rules between fields are judged only when
//! no type, required, enum, length or count fault stands, as the server does.

pub mod backend_ref;
pub mod cert_manager;
pub mod core;
pub mod fields;
pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_filter;
pub mod http_match;
pub mod http_route;
pub mod layer4_route;
pub mod list;
pub mod listener;
pub mod metadata;
pub mod owner;
pub mod rbac;
pub mod reference;
pub mod reference_grant;
pub mod scalars;
pub mod status;
#[cfg(test)]
mod tests;
pub mod text;
pub mod time;

use serde_json::Value;

use super::span::{Content, Entries, Node, Place};
use crate::api::Kind;

pub use fields::Fields;

/// Judges a whole document of one kind; the stored form, or nothing where it is no map.
pub type Admit = fn(&mut Judge, &Node) -> Option<Value>;

/// The function that judges documents of `kind`.
pub fn of(kind: Kind) -> Admit {
    match kind {
        Kind::Certificate => cert_manager::certificate::admit,
        Kind::ClusterIssuer => cert_manager::issuer::admit_cluster,
        Kind::ClusterRole => rbac::cluster_role,
        Kind::ClusterRoleBinding => rbac::binding::cluster_role_binding,
        Kind::ConfigMap => core::config_map::admit,
        Kind::EndpointSlice => core::endpoint_slice::admit,
        Kind::Endpoints => core::endpoints::admit,
        Kind::Gateway => gateway::admit,
        Kind::GatewayClass => gateway_class::admit,
        Kind::GrpcRoute => grpc_route::admit,
        Kind::HttpRoute => http_route::admit,
        Kind::Issuer => cert_manager::issuer::admit,
        Kind::Namespace => core::namespace::admit,
        Kind::ReferenceGrant => reference_grant::admit,
        Kind::Role => rbac::role,
        Kind::RoleBinding => rbac::binding::role_binding,
        Kind::Secret => core::secret::admit,
        Kind::Service => core::service::admit,
        Kind::TcpRoute | Kind::UdpRoute => layer4_route::admit,
        Kind::TlsRoute => layer4_route::tls,
    }
}

/// Judges `root` as a document of `kind`: its stored form (meaningful only without faults) and what is wrong with it.
pub fn judge(kind: Kind, root: &Node) -> (Value, Vec<Fault>) {
    let mut judge = Judge::default();
    judge.duplicates(root);
    let value = of(kind)(&mut judge, root).unwrap_or(Value::Null);
    (value, judge.into_faults())
}

/// Faults of one document that are listed; more are only counted.
const LISTED: usize = 200;

/// What kind of fault; decides the finding's reason, and whether rules between fields are still judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    UnknownField,
    DuplicateField,
    /// Required and not there.
    MissingField,
    WrongType,
    /// Not one of the values that the field takes.
    UnsupportedValue,
    /// Pattern, range, format.
    InvalidValue,
    TooLong,
    TooMany,
    TooFew,
    /// Two items of a list are the same, or have the same key.
    DuplicateItem,
    /// A rule between fields.
    Conflict,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownField => "UnknownField",
            Reason::DuplicateField => "DuplicateField",
            Reason::MissingField => "MissingField",
            Reason::WrongType => "WrongType",
            Reason::UnsupportedValue => "UnsupportedValue",
            Reason::InvalidValue => "InvalidValue",
            Reason::TooLong => "TooLong",
            Reason::TooMany => "TooMany",
            Reason::TooFew => "TooFew",
            Reason::DuplicateItem => "DuplicateItem",
            Reason::Conflict => "ConflictingFields",
        }
    }

    /// Whether the server skips the rules between fields once it has seen such a fault.
    fn blocks_rules(self) -> bool {
        matches!(
            self,
            Reason::MissingField | Reason::WrongType | Reason::UnsupportedValue | Reason::TooLong | Reason::TooMany
        )
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub reason: Reason,
    /// Field path as the API server writes it: `spec.rules[0].matches[1].path`.
    pub field: String,
    pub place: Place,
    pub message: String,
    pub remedy: String,
}

/// Collects the faults of one document while its functions walk it.
#[derive(Debug, Default)]
pub struct Judge {
    path: String,
    faults: Vec<Fault>,
    /// Faults of rules between fields, kept apart until it is known that no blocking fault stands.
    conflicts: Vec<Fault>,
    /// Faults beyond [`LISTED`].
    more: usize,
}

impl Judge {
    /// The path of the value that is being judged.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A fault of the value that is being judged.
    pub fn fault(&mut self, reason: Reason, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.fault_at(reason, self.path.clone(), place, message, remedy);
    }

    /// A fault of `field`, a whole path.
    pub fn fault_at(
        &mut self,
        reason: Reason,
        field: String,
        place: Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.faults.len() + self.conflicts.len() >= LISTED {
            self.more += 1;
            return;
        }
        let fault = Fault { reason, field, place, message: message.into(), remedy: remedy.into() };
        match reason {
            Reason::Conflict => self.conflicts.push(fault),
            _ => self.faults.push(fault),
        }
    }

    /// A rule between fields of the value being judged does not hold; judged only when nothing blocks it.
    pub fn conflict(&mut self, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.fault(Reason::Conflict, place, message, remedy);
    }

    /// A value of another type than `wanted` ("a string").
    pub fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let written = written(node);
        let remedy = match (&node.content, wanted) {
            (Content::Bool(_) | Content::Int(_) | Content::Float(_), "a string") => "put it in quotes",
            (Content::String(text), "an integer") if text.trim().parse::<i64>().is_ok() => "remove the quotes",
            (Content::String(text), "a boolean") if text == "true" || text == "false" => "remove the quotes",
            _ => "",
        };
        self.fault(Reason::WrongType, node.place, format!("must be {wanted}, not {written}"), remedy);
    }

    /// Judges `body` one step deeper; `step` is `.name` or `[3]`.
    pub fn at<T>(&mut self, step: impl std::fmt::Display, body: impl FnOnce(&mut Judge) -> T) -> T {
        use std::fmt::Write;
        let length = self.path.len();
        write!(self.path, "{step}").expect("writing to a String cannot fail");
        let result = body(self);
        self.path.truncate(length);
        result
    }

    /// Judges `body` in the field `name` of the value being judged.
    pub fn field<T>(&mut self, name: &str, body: impl FnOnce(&mut Judge) -> T) -> T {
        match self.path.is_empty() {
            true => self.at(name, body),
            false => self.at(format_args!(".{name}"), body),
        }
    }

    /// The faults in the order of the text; those of rules between fields only where nothing blocks them.
    pub fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults;
        if !faults.iter().any(|fault| fault.reason.blocks_rules()) {
            faults.extend(self.conflicts);
        }
        faults.sort_by_key(|fault| fault.place);
        if self.more > 0 {
            let message = format!("{} more faults of this document are not listed", self.more);
            let (field, place, remedy) = (String::new(), Place::default(), "mend the listed ones first".to_owned());
            faults.push(Fault { reason: Reason::TooMany, field, place, message, remedy });
        }
        faults
    }

    /// Reports keys that came twice, anywhere below `node`.
    fn duplicates(&mut self, node: &Node) {
        match &node.content {
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(format_args!("[{index}]"), |judge| judge.duplicates(item));
                }
            }
            Content::Map(fields) => {
                for (key, place) in &fields.duplicates {
                    self.field(key, |judge| {
                        judge.fault(Reason::DuplicateField, *place, "stands twice in one map", "keep one of them");
                    });
                }
                for entry in &fields.entries {
                    self.field(&entry.key, |judge| judge.duplicates(&entry.node));
                }
            }
            _ => {}
        }
    }

    /// An object of the API: `body` names its fields, what it does not name is unknown.
    pub fn object<'n>(&mut self, node: &'n Node, body: impl FnOnce(&mut Fields<'_, 'n>)) -> Option<Value> {
        let entries = self.entries(node)?;
        let mut fields = Fields::new(self, node, entries);
        body(&mut fields);
        Some(Value::Object(fields.finish()))
    }

    /// The entries of a map, or a fault.
    pub fn entries<'n>(&mut self, node: &'n Node) -> Option<&'n Entries> {
        match &node.content {
            Content::Map(entries) => Some(entries),
            _ => {
                self.wrong_type(node, "a map");
                None
            }
        }
    }
}

/// The value as a message shows it: short, with its type.
pub fn written(node: &Node) -> String {
    match &node.content {
        Content::String(text) if text.chars().count() > 60 => {
            format!("\"{}…\"", text.chars().take(60).collect::<String>().escape_debug())
        }
        Content::String(text) => format!("{text:?}"),
        Content::Int(number) => format!("the integer {number}"),
        Content::Float(number) => format!("the number {number}"),
        Content::Bool(flag) => format!("the boolean {flag}"),
        _ => node.type_name().to_owned(),
    }
}
