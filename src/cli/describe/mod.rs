//! `gapi describe`: one object with its conditions, what it refers to, and what is wrong, in words.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Failure, RuntimeDir,
    age::age,
    get::{Scope, not_found},
    print,
    source::Source,
    table::Table,
    target::{self, Target},
};
use crate::{
    api::{Kind, condition::ROUTE_IN_KERNEL},
    finding::Severity,
    view::{Answer, Description, Request, kind_of, list, text},
};

mod certificate;
mod core;
mod gateway;
pub(super) mod rbac;
mod route;

#[derive(Args, Debug)]
pub struct DescribeFlags {
    /// KIND [NAME…] or KIND/NAME…
    #[arg(required = true, value_name = "KIND [NAME]")]
    targets: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    runtime_dir: RuntimeDir,
}

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`]; a name that is not found is exit code 1.
pub fn run(flags: &DescribeFlags) -> Result<ExitCode, Failure> {
    let targets = target::parse(&flags.targets)?;
    let mut source = Source::new(&flags.runtime_dir.runtime_dir);
    let (mut pages, mut missing) = (Vec::new(), Vec::new());
    for target in &targets {
        let namespace = flags.scope.namespace(target)?;
        for name in names(target) {
            let descriptions = ask(&mut source, target.kind, namespace.clone(), name.cloned())?;
            if let (Some(name), true) = (name, descriptions.is_empty()) {
                missing.push(not_found(target.kind, name));
            }
            pages.extend(descriptions.iter().map(|description| page(description, Timestamp::now())));
        }
    }
    print(&pages.join("\n\n"))?;
    for missing in &missing {
        eprintln!("{missing}");
    }
    if pages.is_empty() && missing.is_empty() {
        eprintln!("{}", flags.scope.nothing_found(&targets));
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Each name asked for; one nothing for all.
fn names(target: &Target) -> Vec<Option<&String>> {
    match target.names.as_slice() {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    }
}

fn ask(
    source: &mut Source,
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
) -> Result<Vec<Description>, Failure> {
    match source.ask(&Request::Describe { kind, namespace, name })? {
        Answer::Describe { descriptions } => Ok(descriptions),
        _ => Err(anyhow::anyhow!("the daemon answered something else than a description").into()),
    }
}

/// What is printed of one object.
fn page(description: &Description, now: Timestamp) -> String {
    let mut page = Page { text: String::new(), now };
    page.head(&description.object);
    match kind_of(&description.object) {
        Some(Kind::GatewayClass) => gateway::describe_class(&mut page, description),
        Some(Kind::Gateway) => gateway::describe_gateway(&mut page, description),
        Some(Kind::GrpcRoute | Kind::HttpRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute) => {
            route::describe(&mut page, description);
        }
        Some(Kind::Service) => core::describe_service(&mut page, description),
        Some(Kind::EndpointSlice | Kind::Endpoints) => core::describe_endpoints(&mut page, &description.object),
        Some(Kind::Secret | Kind::ConfigMap) => core::describe_data(&mut page, &description.object),
        Some(Kind::ReferenceGrant) => core::describe_grant(&mut page, &description.object),
        Some(Kind::Certificate) => certificate::describe(&mut page, &description.object),
        Some(Kind::Issuer | Kind::ClusterIssuer) => certificate::describe_issuer(&mut page, &description.object),
        Some(Kind::Role | Kind::ClusterRole) => rbac::describe_role(&mut page, &description.object),
        Some(Kind::RoleBinding | Kind::ClusterRoleBinding) => rbac::describe_binding(&mut page, &description.object),
        Some(Kind::Namespace) | None => {}
    }
    page.findings(description);
    page.text
}

/// Text under way.
struct Page {
    text: String,
    now: Timestamp,
}

/// Column at which values stand.
const INDENT: usize = 14;

impl Page {
    /// `Name:         value`.
    fn field(&mut self, name: &str, value: impl AsRef<str>) {
        let value = if value.as_ref().is_empty() { "<none>" } else { value.as_ref() };
        self.text += &format!("{:<INDENT$}{}\n", format!("{name}:"), printable(value));
    }

    /// `Name:` with a line for each value below one another.
    fn field_lines(&mut self, name: &str, values: &[String]) {
        self.field(name, values.first().map_or("", String::as_str));
        for value in values.iter().skip(1) {
            self.text += &format!("{:INDENT$}{}\n", "", printable(value));
        }
    }

    /// A heading with lines below it; nothing when there are none.
    fn section(&mut self, name: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.text += &format!("{name}:\n");
        }
        for line in lines {
            self.text += &format!("  {}\n", printable(line));
        }
    }

    fn table(&mut self, name: &str, mut table: Table) {
        if !table.is_empty() {
            self.text += &format!("{name}:\n{}", table.text("  "));
        }
    }

    /// What every object has.
    fn head(&mut self, object: &Value) {
        self.field("Name", text(object, "/metadata/name"));
        if !text(object, "/metadata/namespace").is_empty() {
            self.field("Namespace", text(object, "/metadata/namespace"));
        }
        self.field_lines("Labels", &pairs(object, "/metadata/labels", "="));
        self.field_lines("Annotations", &pairs(object, "/metadata/annotations", ": "));
        self.field("API Version", text(object, "/apiVersion"));
        self.field("Kind", text(object, "/kind"));
        self.field("Age", age(text(object, "/metadata/creationTimestamp"), self.now));
    }

    fn conditions(&mut self, conditions: &[Value]) {
        let mut table = Table::new(["TYPE", "STATUS", "REASON", "AGE", "MESSAGE"]);
        for condition in conditions {
            let cell = |pointer| text(condition, pointer).to_owned();
            let since = age(text(condition, "/lastTransitionTime"), self.now);
            table.row([cell("/type"), cell("/status"), cell("/reason"), since, cell("/message")]);
        }
        self.table("Conditions", table);
    }

    fn findings(&mut self, description: &Description) {
        let line = |finding: &crate::finding::Finding| {
            let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
            format!("{severity}: {}", without_object(finding))
        };
        self.section("Findings", &description.findings.iter().map(line).collect::<Vec<_>>());
    }
}

/// A finding on the page of its own object.
fn without_object(finding: &crate::finding::Finding) -> String {
    crate::finding::Finding { object: None, ..finding.clone() }.to_string()
}

/// `key=value` of a map, in order.
fn pairs(object: &Value, pointer: &str, between: &str) -> Vec<String> {
    let map = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let mut pairs: Vec<String> = map.map(|(key, value)| format!("{key}{between}{}", plain(value))).collect();
    pairs.sort();
    pairs
}

/// Text without quotes; JSON for the rest.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Nothing in a manifest reaches the terminal as a command.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The conditions of an object's status.
fn conditions(object: &Value) -> &[Value] {
    list(object, "/status/conditions")
}

/// What of `conditions` is not as it should be: `ResolvedRefs False (RefNotPermitted): message`.
fn complaints(conditions: &[Value]) -> Vec<String> {
    // Conditions that tell of something bad when they are True.
    let is_bad = |condition: &&Value| match text(condition, "/type") {
        "Conflicted" | "PartiallyInvalid" | "OverlappingTLSConfig" | "InsecureFrontendValidationMode" => {
            text(condition, "/status") == "True"
        }
        // User space is as good a way.
        type_ if type_ == ROUTE_IN_KERNEL.condition => false,
        _ => text(condition, "/status") != "True",
    };
    conditions.iter().filter(is_bad).map(complaint).collect()
}

fn complaint(condition: &Value) -> String {
    let part = |pointer| text(condition, pointer);
    let message = if part("/message").is_empty() { String::new() } else { format!(": {}", part("/message")) };
    format!("{} {} ({}){message}", part("/type"), part("/status"), part("/reason"))
}
