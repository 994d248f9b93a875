//! `gapi check`: what the daemon would say about manifests, with file, line and column.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, FileType},
    io::{self, IsTerminal, Read, Write},
    net::Ipv4Addr,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use annotate_snippets::Renderer;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{run::ParseFlags, source_line};
use crate::{
    api::{Kind, ObjectKey},
    finding::{Finding, Origin, Severity},
    graph::{self, Addresses, LastGood},
    manifest::{
        Ignored, Object,
        accepted::{Objects, Source},
        parse::{ParsedFile, parse_file},
        readable,
        role::{self, Custody, Judged, Names, name::Writers, refusal::open_findings, remark::remarks, roles::is_rbac},
        span::{Bounds, decode},
        tree::{Content, Tree},
    },
    plan::shadowed,
};

/// Flags of `gapi check`.
#[derive(Args, Debug)]
pub struct CheckFlags {
    /// Files and directories of manifests; - reads standard input
    #[arg(value_name = "PATH", default_value = "/etc/gapi")]
    pub paths: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: CheckOutput,
    /// Count warnings as errors
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    parse: ParseFlags,
}

/// What `check` prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum CheckOutput {
    /// Findings with their source lines
    Text,
    /// One JSON object
    Json,
}

/// A file as it was read.
pub struct CheckFile {
    pub name: String,
    pub bytes: Arc<[u8]>,
    /// Who had a hand in it.
    pub custody: Custody,
}

/// What all files together say.
#[derive(Debug, Default)]
pub struct CheckReport {
    pub documents: usize,
    pub rejected: usize,
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    /// What was admitted, each object once: the input of *resolve*.
    pub objects: Vec<Arc<Object>>,
    pub ignored: Vec<Ignored>,
}

/// Says what the daemon would say.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(flags: CheckFlags) -> anyhow::Result<ExitCode> {
    let bounds = flags.parse.bounds();
    let (files, unread) = collect(&flags.paths, &bounds);
    let report = check(&files, unread, &bounds);
    let text = match flags.output {
        CheckOutput::Json => report.json(),
        CheckOutput::Text => report.text(&files, std::io::stdout().is_terminal()),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let fails = |finding: &Finding| finding.severity == Severity::Error || flags.strict;
    Ok(if report.findings.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Parses and resolves `files`; an object that stands twice is an error at its second place.
///
/// Addresses are not judged, since those are the daemon's: any that a Gateway asks for is taken for one of the machine's.
pub fn check(files: &[CheckFile], unread: Vec<Finding>, bounds: &Bounds) -> CheckReport {
    let mut report = CheckReport { findings: unread, ..CheckReport::default() };
    let mut first: BTreeMap<ObjectKey, Origin> = BTreeMap::new();
    for source in judged(files, bounds, &mut report.findings).into_values() {
        if let Source::Parsed(parsed) = source {
            report.add(Arc::unwrap_or_clone(parsed), &mut first);
        }
    }
    report.objects.sort_by(|a, b| a.key.cmp(&b.key));
    report.resolve();
    report.findings.sort_by(|a, b| (&a.origin, &a.field, &a.reason).cmp(&(&b.origin, &b.field, &b.reason)));
    report
}

impl CheckReport {
    fn add(&mut self, parsed: ParsedFile, first: &mut BTreeMap<ObjectKey, Origin>) {
        self.documents += parsed.documents;
        self.rejected += parsed.rejected;
        self.findings.extend(parsed.findings);
        self.ignored.extend(parsed.ignored);
        for object in parsed.objects {
            match first.get(&object.key) {
                Some(origin) => self.repeated(&object, origin),
                None => {
                    first.insert(object.key.clone(), object.origin.clone());
                    self.objects.push(Arc::new(object));
                }
            }
        }
    }

    fn resolve(&mut self) {
        let asked = self.objects.iter().filter(|object| object.kind == Kind::Gateway).flat_map(|gateway| {
            let addresses = gateway.value.pointer("/spec/addresses").and_then(Value::as_array);
            addresses.into_iter().flatten().filter_map(|address| address.get("value")?.as_str()?.parse().ok())
        });
        let mut addresses = Addresses { bind: vec![Ipv4Addr::UNSPECIFIED.into()], ..Addresses::default() };
        addresses.advertised = asked.collect();
        addresses.advertised.push(Ipv4Addr::LOCALHOST.into());
        let objects = self.objects.as_slice().into();
        let input = graph::Input {
            objects: &objects,
            addresses: &addresses,
            last_good: &LastGood::default(),
            now: Timestamp::now(),
            progress: None,
        };
        let graph = graph::resolve(&input);
        self.findings.extend(shadowed(&graph, &input));
        self.findings.extend(graph.findings);
    }

    fn repeated(&mut self, object: &Object, first: &Origin) {
        self.rejected += 1;
        self.findings.push(Finding {
            severity: Severity::Error,
            origin: Some(object.origin.clone()),
            object: Some(object.key.clone()),
            field: String::new(),
            reason: "DuplicateObject".to_owned(),
            message: format!("the same object stands at {first}"),
            remedy: "remove one of the two".to_owned(),
        });
    }

    /// `{"documents", "rejected", "findings"}` as one line.
    pub fn json(&self) -> String {
        let findings: Vec<Value> = self.findings.iter().map(|finding| json!(FindingRow::of(finding))).collect();
        let report = json!({"documents": self.documents, "rejected": self.rejected, "findings": findings});
        format!("{report}\n")
    }

    /// Each finding with its source line, what was ignored, and a summary.
    pub fn text(&self, files: &[CheckFile], styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        let mut add = |finding: &Finding, lines: &[&str]| {
            text.push_str(&source_line::render(finding, lines, &renderer));
            text.push_str("\n\n");
        };
        let of_files = |finding: &&Finding| files.iter().any(|file| is_of(finding, &file.name));
        self.findings.iter().filter(|finding| !of_files(finding)).for_each(|finding| add(finding, &[]));
        for file in files {
            let decoded = decode(&file.bytes).ok();
            let text = decoded.as_deref().unwrap_or_default();
            // A carriage return alone ends a line of YAML too.
            let lines: Vec<&str> = text.lines().flat_map(|line| line.split('\r')).collect();
            let secretive = holds_secrets(text);
            for finding in self.findings.iter().filter(|finding| is_of(finding, &file.name)) {
                add(finding, if secretive && (lines.len() == 1 || may_be_secret(finding)) { &[] } else { &lines });
            }
        }
        for ignored in &self.ignored {
            let Ignored { origin, api_version, kind, name, reason } = ignored;
            let name = if name.is_empty() { String::new() } else { format!(" {name}") };
            let version = if api_version.is_empty() { String::new() } else { format!(" ({api_version})") };
            text.push_str(&format!("ignored: {kind}{name}{version}: {reason} ({origin})\n"));
        }
        text.push_str(&self.summary());
        text
    }

    fn summary(&self) -> String {
        let of = |severity: Severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        format!(
            "{}: {} accepted, {} ignored, {} rejected; {}, {}\n",
            count(self.documents, "document"),
            self.objects.len(),
            self.ignored.len(),
            self.rejected,
            count(of(Severity::Error), "error"),
            count(of(Severity::Warning), "warning"),
        )
    }
}

/// The files parsed, without what their writers may not declare; what is to be said of that goes to `findings`.
///
/// Without any role among them the files are not in place yet, so that is a warning only.
pub fn judged(files: &[CheckFile], bounds: &Bounds, findings: &mut Vec<Finding>) -> BTreeMap<Arc<str>, Source> {
    let mut parsed = |file: &CheckFile| {
        let parsed = parse_file(&file.name, &file.bytes, bounds);
        findings.extend(readable::findings(Path::new(&file.name), &parsed));
        (file.name.as_str().into(), Source::Parsed(Arc::new(parsed)))
    };
    let sources: BTreeMap<Arc<str>, Source> = files.iter().map(&mut parsed).collect();
    let writers = Names::default().writers(files.iter().map(|file| (file.name.as_str(), &file.custody)), true);
    let has_roles = sources.values().any(|source| match source {
        Source::Parsed(parsed) => parsed.objects.iter().any(|object| is_rbac(object.kind)),
        Source::Unreadable => false,
    });
    let judged = match has_roles {
        true => role::judge(&Objects::new(), sources, &writers),
        false => Judged { sources, findings: not_in_place(&writers) },
    };
    findings.extend(judged.findings);
    findings.extend(remarks(judged.sources.values().filter_map(Source::parsed).flat_map(|file| &file.objects)));
    judged.sources
}

fn not_in_place(writers: &BTreeMap<Arc<str>, Writers>) -> Vec<Finding> {
    let mut findings = open_findings(writers);
    findings.iter_mut().for_each(|finding| finding.severity = Severity::Warning);
    let people: BTreeSet<String> =
        writers.values().flat_map(|writers| &writers.all).map(|(who, _)| who.to_string()).collect();
    if !people.is_empty() {
        let people: Vec<String> = people.into_iter().collect();
        findings.push(Finding {
            severity: Severity::Warning,
            origin: None,
            object: None,
            field: String::new(),
            reason: "NoRoles".to_owned(),
            message: format!(
                "files here are in the hands of {}: of such files the daemon takes only what Roles and bindings allow, \
                 and there are none here",
                people.join("; ")
            ),
            remedy: "check them together with the roles, or have root own them".to_owned(),
        });
    }
    findings
}

fn is_of(finding: &Finding, file: &str) -> bool {
    finding.origin.as_ref().is_some_and(|origin| &*origin.file == file)
}

/// What a check prints ends in logs of builds, where keys have no place: such files show fewer of their lines.
fn holds_secrets(text: &str) -> bool {
    // The last is how PEM begins in base64.
    ["Secret", "stringData", "PRIVATE KEY", "LS0tLS1CRUdJTi"].iter().any(|sign| text.contains(sign))
}

/// Is this in a Secret, or in a document that may be meant as one?
fn may_be_secret(finding: &Finding) -> bool {
    finding.object.as_ref().is_none_or(|object| object.served() == Some(Kind::Secret))
}

/// A finding as `-o json` prints it.
#[derive(Serialize)]
struct FindingRow<'a> {
    severity: Severity,
    file: &'a str,
    line: u32,
    column: u32,
    object: String,
    field: &'a str,
    reason: &'a str,
    message: &'a str,
    remedy: &'a str,
}

impl<'a> FindingRow<'a> {
    fn of(finding: &'a Finding) -> FindingRow<'a> {
        let origin = finding.origin.as_ref();
        FindingRow {
            severity: finding.severity,
            file: origin.map_or("", |origin| &origin.file),
            line: origin.map_or(0, |origin| origin.line),
            column: origin.map_or(0, |origin| origin.column),
            object: finding.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            field: &finding.field,
            reason: &finding.reason,
            message: &finding.message,
            remedy: &finding.remedy,
        }
    }
}

/// The files that `paths` mean, each once: a file as named, a directory with all manifests below it, in order; and what
/// could not be read.
pub fn collect(paths: &[PathBuf], bounds: &Bounds) -> (Vec<CheckFile>, Vec<Finding>) {
    let (streams, paths): (Vec<PathBuf>, Vec<PathBuf>) = paths.iter().cloned().partition(|path| is_stream(path));
    let tree = Tree::of_paths(&paths, bounds.bytes as u64);
    let mut files: Vec<CheckFile> = Vec::new();
    let mut findings = tree.findings;
    for (name, file) in tree.files {
        if let Content::Bytes(bytes) = &file.content {
            files.push(CheckFile { name: name.to_string(), bytes: bytes.clone(), custody: file.custody.clone() });
        }
    }
    for stream in streams {
        let name = stream.display().to_string();
        match read_stream(&stream, bounds.bytes as u64 + 1) {
            Ok(bytes) => files.push(CheckFile { name, bytes: bytes.into(), custody: Custody::default() }),
            Err(error) => findings.push(unreadable(&name, &format!("{name} cannot be read: {error}"))),
        }
    }
    (files, findings)
}

/// Standard input, or what a shell makes of `<(kustomize build)`.
fn is_stream(path: &Path) -> bool {
    let is_pipe = |kind: FileType| kind.is_fifo() || kind.is_char_device();
    path.as_os_str() == "-" || fs::metadata(path).is_ok_and(|metadata| is_pipe(metadata.file_type()))
}

fn read_stream(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let stream: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path)?),
    };
    let mut bytes = Vec::new();
    stream.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, message: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        origin: Some(Origin { file: name.into(), line: 0, column: 0 }),
        object: None,
        field: String::new(),
        reason: "Unreadable".to_owned(),
        message: message.to_owned(),
        remedy: String::new(),
    }
}
