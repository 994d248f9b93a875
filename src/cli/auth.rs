//! `gapi auth can-i`: may a file with this owner and group declare that? Asked and answered as kubectl does.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Failure, RuntimeDir,
    check::{collect, judged},
    describe::rbac::rules,
    print,
    source::ask_daemon,
};
use crate::{
    api::{KINDS, Kind, KindNames, ObjectKey, rbac::Action},
    finding::Origin,
    manifest::{
        Object,
        accepted::{Objects, Source, merge},
        role::{Roles, Who, name::myself},
        span::Bounds,
    },
    view::{Answer, Request, text},
};

#[derive(Args, Debug)]
pub struct AuthFlags {
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(Debug, Subcommand)]
enum AuthCommand {
    /// Answer yes (exit code 0) or no (1)
    CanI(CanIFlags),
}

#[derive(Args, Debug)]
struct CanIFlags {
    /// create, update, …; * for all
    #[arg(required_unless_present = "list", value_name = "VERB")]
    verb: Option<String>,
    /// A kind in any spelling, perhaps with a name: httproutes, svc, gateways.gateway.networking.k8s.io/front
    #[arg(required_unless_present = "list", value_name = "KIND[/NAME]")]
    resource: Option<String>,
    /// In this namespace
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    /// In every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// For files of this user [default: whoever asks, with all their groups]
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// For files of this group, may be repeated
    #[arg(long, value_name = "GROUP")]
    as_group: Vec<String>,
    /// Of the kind, such as status
    #[arg(long, value_name = "NAME")]
    subresource: Option<String>,
    /// Print all that is allowed
    #[arg(long, conflicts_with_all = ["verb", "resource", "quiet", "all_namespaces", "subresource"])]
    list: bool,
    /// Leave out the heading of the list
    #[arg(long, requires = "list")]
    no_headers: bool,
    /// Say nothing: the exit code tells
    #[arg(short, long)]
    quiet: bool,
    /// Read the roles from this directory instead of asking the daemon
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    #[command(flatten)]
    runtime_dir: RuntimeDir,
}

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`]; what is not allowed is exit code 1.
pub fn run(flags: &AuthFlags) -> Result<ExitCode, Failure> {
    let AuthCommand::CanI(flags) = &flags.command;
    let roles = match &flags.config_dir {
        Some(directory) => roles_of_files(directory)?,
        None => roles_of_daemon(flags)?,
    };
    let who = match flags.user.is_none() && flags.as_group.is_empty() {
        true => myself(),
        false => Who { user: flags.user.clone(), groups: flags.as_group.clone() },
    };
    match (&flags.verb, &flags.resource) {
        (Some(verb), Some(resource)) => can_i(flags, &roles, &who, verb, resource),
        _ => list(flags, &roles, &who),
    }
}

fn can_i(flags: &CanIFlags, roles: &Roles, who: &Who, verb: &str, resource: &str) -> Result<ExitCode, Failure> {
    let (word, name) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = kind(word);
    if kind.is_none() && word != "*" {
        eprintln!("Warning: {}", unknown(word));
    }
    let namespace = match kind {
        _ if flags.all_namespaces => "",
        Some(names) if !names.namespaced => {
            let group = if names.group.is_empty() { String::new() } else { format!(" in group '{}'", names.group) };
            eprintln!("Warning: resource '{}' is not namespace scoped{group}", names.plural);
            ""
        }
        _ => &flags.namespace,
    };
    let plural = kind.map_or(word, |names| names.plural);
    let subresource = flags.subresource.as_ref().map_or(String::new(), |name| format!("/{name}"));
    let resource = format!("{plural}{subresource}");
    let action = Action { verb, group: kind.map_or("", |names| names.group), resource: &resource, name };
    let allowed = who.is_root() || roles.allow(who, namespace, &action);
    if !flags.quiet {
        print(if allowed { "yes\n" } else { "no\n" })?;
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// kubectl's spellings, and those with a version between: `httproutes.v1.gateway.networking.k8s.io`.
fn kind(word: &str) -> Option<&'static KindNames> {
    let without_version = || {
        let (plural, rest) = word.split_once('.')?;
        let (version, group) = rest.split_once('.').unwrap_or((rest, ""));
        let kind =
            Kind::from_argument(&if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") })?;
        kind.names().versions.contains(&version).then_some(kind)
    };
    Kind::from_argument(word).or_else(without_version).map(Kind::names)
}

fn unknown(word: &str) -> String {
    let kinds: Vec<&str> = KINDS.iter().map(|names| names.plural).collect();
    let what = match word.split_once('.') {
        Some((resource, group)) => format!("'{resource}' in group '{group}'"),
        None => format!("'{word}'"),
    };
    format!("gapi doesn't have a resource type {what}; it has {}", kinds.join(", "))
}

fn list(flags: &CanIFlags, roles: &Roles, who: &Who) -> Result<ExitCode, Failure> {
    let everything = crate::manifest::role::judge::everything();
    let mut table = match who.is_root() {
        true => rules(everything.iter()),
        false => rules(roles.rules(who, &flags.namespace)),
    };
    print(&if flags.no_headers { table.rows_text("") } else { table.text("") })?;
    Ok(ExitCode::SUCCESS)
}

/// What a daemon that starts on this directory would have in force.
fn roles_of_files(directory: &Path) -> Result<Roles, Failure> {
    std::fs::metadata(directory).with_context(|| directory.display().to_string())?;
    let bounds = Bounds::default();
    let (files, mut findings) = collect(&[directory.to_path_buf()], &bounds);
    let sources = judged(&files, &bounds, &mut findings);
    for finding in findings.iter().filter(|finding| concerns_roles(finding.object.as_ref())) {
        eprintln!("Warning: {finding}");
    }
    let whole = |source: &Source| matches!(source, Source::Parsed(_));
    let sources = sources.into_iter().filter(|(_, source)| whole(source)).collect();
    Ok(Roles::new(merge(&Objects::new(), &sources).values()))
}

/// Of what cannot be read nothing is known, roles included.
fn concerns_roles(object: Option<&ObjectKey>) -> bool {
    object.is_none_or(|object| object.served().is_some_and(crate::manifest::role::roles::is_rbac))
}

fn roles_of_daemon(flags: &CanIFlags) -> Result<Roles, Failure> {
    let mut objects = Vec::new();
    for kind in [Kind::Role, Kind::ClusterRole, Kind::RoleBinding, Kind::ClusterRoleBinding] {
        let request = Request::Objects { kind, namespace: None, name: None };
        let answer = ask_daemon(&flags.runtime_dir.runtime_dir, &request).map_err(|failure| match failure {
            Failure::Unreachable(why) => Failure::Unreachable(format!("{why}; --config-dir DIR reads the roles there")),
            other => other,
        })?;
        let Answer::Objects { objects: found } = answer else {
            return Err(anyhow::anyhow!("the daemon answered something else than objects").into());
        };
        objects.extend(found.into_iter().map(|value| Arc::new(object(kind, value))));
    }
    Ok(Roles::new(objects.iter()))
}

/// An object as the daemon has it in force.
fn object(kind: Kind, value: Arc<Value>) -> Object {
    let key = ObjectKey::new(kind.names().name, text(&value, "/metadata/namespace"), text(&value, "/metadata/name"));
    Object {
        key,
        kind,
        api_version: text(&value, "/apiVersion").to_owned(),
        meta: serde_json::from_value(value["metadata"].clone()).unwrap_or_default(),
        value,
        origin: Origin::default(),
        positions: Default::default(),
        reading: Default::default(),
    }
}
