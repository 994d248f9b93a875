//! The shape of the crate, held by reading its source: which module may know which, what the pure stages must not touch,
//! and what the request path must not have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Module → the modules it may use. A module that is not here may use nothing and be used by nobody.
const EDGES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("snapshot", &[]),
    ("observe", &[]),
    ("finding", &["api"]),
    ("deny", &["finding", "snapshot"]),
    ("manifest", &["api", "finding"]),
    ("graph", &["api", "finding", "manifest"]),
    ("plan", &["api", "finding", "graph"]),
    ("compile", &["finding", "plan", "snapshot"]),
    ("status", &["api", "finding", "graph", "plan"]),
    ("durable", &[]),
    ("certificate", &["api", "durable", "finding", "graph", "manifest", "plan", "status"]),
    ("dataplane", &["observe", "snapshot"]),
    ("publish", &["dataplane", "finding", "snapshot"]),
    ("kernel", &["snapshot"]),
    // The two that put all together, and what they share.
    ("view", EVERYTHING),
    ("daemon", EVERYTHING),
    ("cli", EVERYTHING),
    ("main", EVERYTHING),
];

const EVERYTHING: &[&str] = &["*"];

/// The stages that are functions of their input (by path prefix), but for the files that do their reading and writing.
const PURE: &[&str] = &[
    "api/",
    "finding.rs",
    "manifest/",
    "graph/",
    "plan/",
    "compile/",
    "status/",
    "snapshot/",
    "certificate/decide",
    "deny/parse",
    "certificate/acme/solver",
    "kernel/maglev",
    "kernel/select",
];
const IMPURE: &[&str] = &[
    "manifest/watch",
    "manifest/tree",
    "manifest/accepted",
    "manifest/role/way",
    "manifest/role/name",
    "status/write",
    "snapshot/cell",
];

/// What would make the same input give another output, or a pass wait.
const FORBIDDEN_IN_PURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "Mutex",
    "RwLock",
    "RefCell",
    "OnceCell",
    "fastrand",
    "tokio::",
    "rustix::",
];

/// Nothing is locked, and no other thread waited for, where requests pass.
const FORBIDDEN_IN_DATAPLANE: &[&str] = &["Mutex", "RwLock", "std::fs", "block_on(", "legacy::"];

/// Where one of these words is fine, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("dataplane/gate.rs", "Mutex", "only for Expect: 100-continue, whose callback hyper may call on any thread"),
    ("dataplane/pulse.rs", "Mutex", "of one thread, never contended: hyper asks for Send where connections upgrade"),
    ("dataplane/turn.rs", "Mutex", "of one thread, never contended: hyper asks for Send where connections upgrade"),
    ("dataplane/accept.rs", "Mutex", "once for a connection, and only where clients have a bound of their own"),
    ("dataplane/upstream.rs", "Mutex", "of one thread, held while an HTTP/2 connection to a backend is made"),
    ("dataplane/udp/batch.rs", "unsafe {", "recvmmsg and sendmmsg: no crate gives both with control messages"),
    ("dataplane/udp/bind.rs", "unsafe {", "setsockopt for options that no crate knows"),
    ("dataplane/udp/listening.rs", "unsafe {", "tokio asks for the word that nobody takes the descriptor out"),
    ("kernel/deny/mod.rs", "unsafe impl", "that a struct of bytes may be a key of a map"),
    ("kernel/maps.rs", "unsafe impl", "that structs of integers may be keys and values of maps"),
    ("kernel/table.rs", "unsafe {", "bpf(2) for many slots at once, which aya does not have"),
    ("dataplane/worker.rs", "block_on(", "the worker's thread itself"),
    (
        "publish/inherited.rs",
        "unsafe {",
        "descriptors that the process was started with have no owner but their number",
    ),
];

struct Source {
    /// Below `src`, with slashes.
    path: String,
    /// Without comments, strings and tests.
    code: String,
}

impl Source {
    /// The top-level module that the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or(&self.path);
        first.trim_end_matches(".rs")
    }

    /// How many `super` lead to the crate's root.
    fn depth(&self) -> usize {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').count()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    list(&root, &mut paths);
    paths.sort();
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| Source {
            path: path.strip_prefix(&root).expect("it was found there").to_string_lossy().into_owned(),
            code: code(&fs::read_to_string(path).expect("sources are text")),
        })
        .filter(|source| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"))
        .collect();
    assert!(sources.len() > 20, "the sources are found");
    sources
}

fn list(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            list(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// What is left of a file when comments, the contents of strings, and the tests at its end are taken out.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(without_strings).collect::<Vec<_>>().join("\n")
}

fn without_strings(line: &str) -> String {
    let mut kept = String::new();
    let (mut inside, mut escaped) = (false, false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            // A quote as a character is no string.
            '\'' if !inside && characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => inside = !inside,
            '/' if !inside && characters.peek() == Some(&'/') => break,
            _ if inside => {}
            _ => kept.push(character),
        }
    }
    kept
}

/// The names that follow `crate::`, alone or in braces.
fn used_modules(source: &Source) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let to_root = "super::".repeat(source.depth());
    for root in ["crate::", &to_root] {
        for (at, _) in source.code.match_indices(root) {
            let before = source.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let rest = &source.code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(heads(group)),
                None => used.extend(head(rest)),
            }
        }
    }
    used
}

/// The identifier at the start.
fn head(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first identifiers of the items of a group, whose opening brace is already taken.
fn heads(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn modules_use_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    let sources = sources();
    let modules: BTreeSet<&str> = sources.iter().map(Source::module).filter(|module| *module != "lib").collect();
    for module in &modules {
        if !allowed.contains_key(module) {
            wrong.push(format!("src/{module} is not in the table of this test"));
        }
    }
    for source in &sources {
        let module = source.module();
        let allowed = allowed.get(module).copied().unwrap_or_default();
        for used in used_modules(source) {
            let fine = used == module || allowed == EVERYTHING || allowed.contains(&used.as_str());
            if !fine && modules.contains(used.as_str()) {
                wrong.push(format!("src/{}: {module} must not use {used}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Else the table could not be held: what a glob brings in is not seen.
#[test]
fn nothing_is_taken_from_the_root_by_a_glob() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|source| source.code.contains("use crate::*") || source.code.contains("use crate::{*"))
        .map(|source| source.path.clone())
        .collect();
    assert!(wrong.is_empty(), "use crate::* in {wrong:?}");
}

#[test]
fn pure_stages_touch_nothing() {
    let sources = sources();
    let pure = sources.iter().filter(|source| {
        PURE.iter().any(|prefix| source.path.starts_with(prefix))
            && !IMPURE.iter().any(|prefix| source.path.starts_with(prefix))
    });
    refuse(pure, FORBIDDEN_IN_PURE);
}

#[test]
fn the_request_path_locks_nothing() {
    let sources = sources();
    refuse(sources.iter().filter(|source| source.path.starts_with("dataplane/")), FORBIDDEN_IN_DATAPLANE);
}

#[test]
fn no_file_is_unsafe_without_need() {
    let sources = sources();
    refuse(sources.iter(), &["unsafe {", "unsafe fn", "unsafe impl"]);
}

fn refuse<'a>(sources: impl Iterator<Item = &'a Source>, words: &[&str]) {
    let mut wrong = Vec::new();
    for source in sources {
        for (number, line) in source.code.lines().enumerate() {
            let excepted = |word: &str| EXCEPTIONS.iter().any(|(path, fine, _)| *path == source.path && *fine == word);
            for word in words.iter().filter(|word| line.contains(**word) && !excepted(word)) {
                wrong.push(format!("src/{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The reader of this test itself.
#[test]
fn uses_are_found() {
    let source = |path: &str, text: &str| Source { path: path.into(), code: code(text) };
    let used = |path: &str, text: &str| used_modules(&source(path, text)).into_iter().collect::<Vec<_>>();
    let text =
        "use crate::{\n    api::{self, Kind},\n    plan, // crate::cli\n};\nlet x = crate::graph::y(\"crate::view\");";
    assert_eq!(used("status/write.rs", text), ["api", "graph", "plan"]);
    assert_eq!(used("plan/lower.rs", "use super::super::graph::Graph;\nuse super::rule;"), ["graph"]);
    assert_eq!(used("plan/mod.rs", "use super::graph;\n#[cfg(test)]\nmod tests { use crate::cli; }"), ["graph"]);
}
