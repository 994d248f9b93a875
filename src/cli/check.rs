//! `gapi check`: what the daemon would say about manifests, with file, line and column.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{IsTerminal, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use annotate_snippets::Renderer;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::source_line;
use crate::{
    api::ObjectKey,
    finding::{Finding, Origin, Severity},
    manifest::{
        Ignored, Object,
        parse::parse_file,
        span::{Bounds, decode},
    },
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
}

/// What `check` prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum CheckOutput {
    /// Findings with their source lines
    Text,
    /// One JSON object
    Json,
}

/// A file as it was read, or why it could not be.
pub struct CheckFile {
    pub name: String,
    pub bytes: Result<Vec<u8>, String>,
}

/// What all files together say.
#[derive(Debug, Default)]
pub struct CheckReport {
    pub documents: usize,
    pub rejected: usize,
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    /// What was admitted, each object once: the input of *resolve*.
    pub objects: Vec<Object>,
    pub ignored: Vec<Ignored>,
}

/// Says what the daemon would say.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(flags: CheckFlags) -> anyhow::Result<ExitCode> {
    let files = collect(&flags.paths);
    let report = check(&files);
    let text = match flags.output {
        CheckOutput::Json => report.json(),
        CheckOutput::Text => report.text(&files, std::io::stdout().is_terminal()),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let fails = |finding: &Finding| finding.severity == Severity::Error || flags.strict;
    Ok(if report.findings.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Parses `files`; an object that stands twice is an error at its second place.
pub fn check(files: &[CheckFile]) -> CheckReport {
    let mut report = CheckReport::default();
    let mut first: BTreeMap<ObjectKey, Origin> = BTreeMap::new();
    for file in files {
        match &file.bytes {
            Ok(bytes) => report.add(&file.name, bytes, &mut first),
            Err(message) => report.unreadable(&file.name, message),
        }
    }
    report
}

impl CheckReport {
    fn add(&mut self, name: &str, bytes: &[u8], first: &mut BTreeMap<ObjectKey, Origin>) {
        let parsed = parse_file(name, bytes, &Bounds::default());
        self.documents += parsed.documents;
        self.rejected += parsed.rejected;
        self.findings.extend(parsed.findings);
        self.ignored.extend(parsed.ignored);
        for object in parsed.objects {
            match first.get(&object.key) {
                Some(origin) => self.repeated(&object, origin),
                None => {
                    first.insert(object.key.clone(), object.origin.clone());
                    self.objects.push(object);
                }
            }
        }
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

    fn unreadable(&mut self, name: &str, message: &str) {
        self.findings.push(Finding {
            severity: Severity::Error,
            origin: Some(Origin { file: name.into(), line: 0, column: 0 }),
            object: None,
            field: String::new(),
            reason: "Unreadable".to_owned(),
            message: message.to_owned(),
            remedy: String::new(),
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
        for file in files {
            let findings = self.findings.iter().filter(|finding| is_of(finding, &file.name));
            let decoded = file.bytes.as_ref().ok().and_then(|bytes| decode(bytes).ok());
            let lines: Vec<&str> = decoded.as_deref().unwrap_or_default().lines().collect();
            for finding in findings {
                text.push_str(&source_line::render(finding, &lines, &renderer));
                text.push_str("\n\n");
            }
        }
        for ignored in &self.ignored {
            let Ignored { origin, api_version, kind, name, reason } = ignored;
            text.push_str(&format!("ignored: {kind} {name} ({api_version}): {reason} ({origin})\n"));
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

fn is_of(finding: &Finding, file: &str) -> bool {
    finding.origin.as_ref().is_some_and(|origin| &*origin.file == file)
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

/// The files that `paths` mean, each once: a file as named, a directory with all manifests below it, in order.
pub fn collect(paths: &[PathBuf]) -> Vec<CheckFile> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            files.push(CheckFile {
                name: "-".to_owned(),
                bytes: read.map(|_| bytes).map_err(|error| error.to_string()),
            });
        } else {
            visit(path, &mut seen, &mut files);
        }
    }
    files
}

fn visit(path: &Path, seen: &mut HashSet<(u64, u64)>, files: &mut Vec<CheckFile>) {
    let mut failed = |message: String| {
        files.push(CheckFile { name: path.display().to_string(), bytes: Err(message) });
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return failed(format!("cannot be read: {error}")),
    };
    if !seen.insert((metadata.dev(), metadata.ino())) {
        return;
    }
    if metadata.is_dir() {
        match entries(path) {
            Ok(entries) => entries.iter().for_each(|entry| visit(entry, seen, files)),
            Err(error) => failed(format!("cannot be listed: {error}")),
        }
    } else if metadata.is_file() {
        let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"));
        files.push(CheckFile { name: path.display().to_string(), bytes });
    } else {
        failed("is neither a file nor a directory".to_owned());
    }
}

/// Directories and manifests in a directory, by name; hidden names and other endings are passed over.
fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let manifest = [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
        if !name.starts_with('.') && (manifest || path.is_dir()) {
            entries.push(path);
        }
    }
    entries.sort();
    Ok(entries)
}
