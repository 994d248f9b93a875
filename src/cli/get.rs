//! `gapi get`: objects with their status, in kubectl's columns and formats.

use std::{collections::HashMap, process::ExitCode, sync::Arc, thread::sleep, time::Duration};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Failure, RuntimeDir,
    column::{Column, Row, columns},
    print,
    source::Source,
    table::Table,
    target::{self, Target},
};
use crate::{
    api::Kind,
    status::yaml::to_yaml,
    view::{Answer, Request, kind_of, text},
};

/// How often `--watch` looks again.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct GetFlags {
    /// KIND[,KIND…] [NAME…] or KIND/NAME…
    #[arg(required = true, value_name = "KIND [NAME]")]
    targets: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// How to print [default: a table]
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Leave out the heading of tables
    #[arg(long)]
    no_headers: bool,
    /// Go on printing objects as they change
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    runtime_dir: RuntimeDir,
}

/// Whose objects.
#[derive(Args, Clone, Debug)]
pub struct Scope {
    /// Of this namespace
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    /// Of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    /// More columns
    Wide,
    Yaml,
    Json,
    /// `kind/name` alone
    Name,
}

impl Scope {
    /// What a request asks for; none for every namespace.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a name in every namespace: it would not name one object.
    pub fn namespace(&self, target: &Target) -> Result<Option<String>, Failure> {
        match self.all_namespaces {
            true if !target.names.is_empty() && target.kind.names().namespaced => Err(Failure::Usage(
                "an object cannot be named across all namespaces; leave out the name or -A".to_owned(),
            )),
            true => Ok(None),
            false => Ok(Some(self.namespace.clone())),
        }
    }

    /// What kubectl says when there is nothing.
    pub fn nothing_found(&self, targets: &[Target]) -> String {
        match self.all_namespaces || targets.iter().all(|target| !target.kind.names().namespaced) {
            true => "No resources found".to_owned(),
            false => format!("No resources found in {} namespace.", self.namespace),
        }
    }
}

/// Objects that were found, and the names that were not, in words.
pub struct Found {
    pub objects: Vec<Arc<Value>>,
    pub missing: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`]; a name that is not found is exit code 1.
pub fn run(flags: &GetFlags) -> Result<ExitCode, Failure> {
    let targets = target::parse(&flags.targets)?;
    let mut source = Source::new(&flags.runtime_dir.runtime_dir);
    let mut printer = Printer::new(flags, &targets);
    let found = printer.find(&mut source, &targets)?;
    printer.print(&found.objects)?;
    for missing in &found.missing {
        eprintln!("{missing}");
    }
    if flags.watch && found.missing.is_empty() {
        return printer.watch(&mut source, &targets, found.objects);
    }
    if found.objects.is_empty() && found.missing.is_empty() {
        eprintln!("{}", flags.scope.nothing_found(&targets));
    }
    Ok(if found.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The objects that `target` names.
///
/// # Errors
/// When nobody answers.
pub fn find(source: &mut Source, target: &Target, namespace: Option<&str>) -> Result<Found, Failure> {
    let mut found = Found { objects: Vec::new(), missing: Vec::new() };
    let request = |name: Option<&String>| Request::Objects {
        kind: target.kind,
        namespace: namespace.map(str::to_owned),
        name: name.cloned(),
    };
    let mut ask = |name| match source.ask(&request(name))? {
        Answer::Objects { objects } => Ok::<_, Failure>(objects),
        _ => Err(anyhow::anyhow!("the daemon answered something else than objects").into()),
    };
    if target.names.is_empty() {
        found.objects = ask(None)?;
    }
    for name in &target.names {
        match ask(Some(name))? {
            objects if objects.is_empty() => found.missing.push(not_found(target.kind, name)),
            objects => found.objects.extend(objects),
        }
    }
    Ok(found)
}

/// As kubectl says it: `Error from server (NotFound): gateways.gateway.networking.k8s.io "x" not found`.
pub fn not_found(kind: Kind, name: &str) -> String {
    let names = kind.names();
    let group = if names.group.is_empty() { String::new() } else { format!(".{}", names.group) };
    format!("Error from server (NotFound): {}{group} {name:?} not found", names.plural)
}

/// Prints what is found, first whole and then, while watching, what changes.
struct Printer<'a> {
    flags: &'a GetFlags,
    /// Several kinds are told apart by `kind/name`, as kubectl does.
    several_kinds: bool,
    /// A single object is printed as itself, not in a list.
    single: bool,
    tables: HashMap<Kind, Table>,
}

impl<'a> Printer<'a> {
    fn new(flags: &'a GetFlags, targets: &[Target]) -> Printer<'a> {
        let single = matches!(targets, [target] if target.names.len() == 1);
        let several_kinds = targets.iter().any(|target| target.kind != targets[0].kind);
        Printer { flags, several_kinds, single, tables: HashMap::new() }
    }

    fn find(&self, source: &mut Source, targets: &[Target]) -> Result<Found, Failure> {
        let mut all = Found { objects: Vec::new(), missing: Vec::new() };
        for target in targets {
            let namespace = self.flags.scope.namespace(target)?;
            let found = find(source, target, namespace.as_deref())?;
            all.objects.extend(found.objects);
            all.missing.extend(found.missing);
        }
        Ok(all)
    }

    fn print(&mut self, objects: &[Arc<Value>]) -> Result<(), Failure> {
        let text = match self.flags.output {
            None | Some(Output::Wide) => self.table(objects),
            Some(Output::Name) => objects.iter().map(|object| full_name(object) + "\n").collect(),
            Some(Output::Yaml) => self.documents(objects).iter().map(to_yaml).collect::<Vec<_>>().join("---\n"),
            Some(Output::Json) => self.documents(objects).iter().map(json_text).collect(),
        };
        print(&text)
    }

    /// One document for all of them; one for each where only one was asked for, or while watching.
    fn documents(&self, objects: &[Arc<Value>]) -> Vec<Value> {
        let mut documents: Vec<Value> = match self.single || self.flags.watch {
            true => objects.iter().map(|object| Value::clone(object)).collect(),
            false => vec![
                json!({ "apiVersion": "v1", "items": objects, "kind": "List", "metadata": { "resourceVersion": "" } }),
            ],
        };
        documents.iter_mut().for_each(Value::sort_all_objects);
        documents
    }

    /// A table for each kind, a blank line between.
    fn table(&mut self, objects: &[Arc<Value>]) -> String {
        let mut kinds: Vec<Kind> = Vec::new();
        for object in objects {
            let Some(kind) = kind_of(object) else { continue };
            let (header, cells) = (self.header(kind), self.cells(kind, object));
            self.tables.entry(kind).or_insert_with(|| Table::new(header)).row(cells);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let headless = self.flags.no_headers;
        let mut texts = Vec::new();
        for kind in kinds {
            let table = self.tables.get_mut(&kind).expect("it has a row");
            texts.push(if headless { table.rows_text("") } else { table.text("") });
        }
        texts.join("\n")
    }

    /// Does the table of `kind` say which namespace?
    fn shows_namespace(&self, kind: Kind) -> bool {
        self.flags.scope.all_namespaces && kind.names().namespaced
    }

    fn columns(&self, kind: Kind) -> impl Iterator<Item = &'static Column> {
        let wide = self.flags.output == Some(Output::Wide);
        columns(kind).iter().filter(move |column| wide || !column.wide)
    }

    fn header(&self, kind: Kind) -> Vec<&'static str> {
        let first = self.shows_namespace(kind).then_some("NAMESPACE").into_iter().chain(["NAME"]);
        first.chain(self.columns(kind).map(|column| column.header)).collect()
    }

    fn cells(&self, kind: Kind, object: &Value) -> Vec<String> {
        let row = Row { now: Timestamp::now(), wide: self.flags.output == Some(Output::Wide) };
        let namespace = self.shows_namespace(kind).then(|| text(object, "/metadata/namespace").to_owned());
        let name = if self.several_kinds { full_name(object) } else { text(object, "/metadata/name").to_owned() };
        let cells = self.columns(kind).map(|column| (column.cell)(object, row));
        namespace.into_iter().chain([name]).chain(cells).collect()
    }

    /// Prints each object that is new or changed, until nobody reads or nobody answers.
    fn watch(
        &mut self,
        source: &mut Source,
        targets: &[Target],
        mut before: Vec<Arc<Value>>,
    ) -> Result<ExitCode, Failure> {
        loop {
            sleep(WATCH_INTERVAL);
            let objects = self.find(source, targets)?.objects;
            let known: HashMap<String, &Arc<Value>> = before.iter().map(|object| (identity(object), object)).collect();
            let is_news = |object: &&Arc<Value>| known.get(&identity(object)).is_none_or(|known| *known != *object);
            let news: Vec<Arc<Value>> = objects.iter().filter(is_news).cloned().collect();
            if !news.is_empty() {
                self.print_changes(&news)?;
            }
            before = objects;
        }
    }

    /// Rows under the heading that is already there; documents one after another.
    fn print_changes(&mut self, news: &[Arc<Value>]) -> Result<(), Failure> {
        match self.flags.output {
            None | Some(Output::Wide) => {}
            Some(Output::Yaml) => {
                print("---\n")?;
                return self.print(news);
            }
            Some(_) => return self.print(news),
        }
        for object in news {
            let Some(kind) = kind_of(object) else { continue };
            let is_first = !self.tables.contains_key(&kind);
            let text = if is_first { self.table(std::slice::from_ref(object)) } else { self.row(kind, object) };
            print(&text)?;
        }
        Ok(())
    }

    fn row(&mut self, kind: Kind, object: &Value) -> String {
        let cells = self.cells(kind, object);
        let table = self.tables.get_mut(&kind).expect("its heading was printed");
        table.row(cells);
        table.rows_text("")
    }
}

fn identity(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), full_name(object))
}

/// `gateway.gateway.networking.k8s.io/echo`; `service/echo` for core kinds.
fn full_name(object: &Value) -> String {
    let name = text(object, "/metadata/name");
    match kind_of(object).map(Kind::names) {
        Some(names) if names.group.is_empty() => format!("{}/{name}", names.singular),
        Some(names) => format!("{}.{}/{name}", names.singular, names.group),
        None => name.to_owned(),
    }
}

/// JSON with kubectl's indentation.
pub fn json_text(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).expect("a value is JSON");
    String::from_utf8_lossy(&text).into_owned() + "\n"
}
