//! The pages of docs/ say what the program does: every reason that it can give has its entry, and every manifest passes
//! `gapi check`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use gapi::{
    api::condition::{REASONS, Subject},
    dataplane::outcome,
};

const BINARY: &str = env!("CARGO_BIN_EXE_gapi");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn troubleshoot() -> String {
    fs::read_to_string(root().join("docs/troubleshoot.md")).expect("the page is there")
}

fn pages() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(root().join("docs")).expect("docs is there");
    let paths = entries.map(|entry| entry.expect("docs is readable").path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<_> =
        pages.map(|path| (path.clone(), fs::read_to_string(path).expect("pages are text"))).collect();
    pages.sort();
    assert!(pages.len() > 5, "the pages are found");
    pages
}

/// The rows of the tables below a heading, without the head rows; cells without backticks.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.lines().skip_while(|line| *line != format!("## {heading}")).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let rows = section.filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '`']).to_owned()).collect())
        .collect()
}

#[test]
fn every_condition_has_its_entry() {
    let page = troubleshoot();
    let sections = [
        (Subject::Class, "GatewayClass"),
        (Subject::Gateway, "Gateway"),
        (Subject::Listener, "Listener"),
        (Subject::Route, "Route"),
    ];
    for (subject, heading) in sections {
        let written: BTreeMap<[String; 3], String> = rows(&page, heading)
            .into_iter()
            .map(|row| ([row[0].clone(), row[1].clone(), row[2].clone()], row[3].clone()))
            .collect();
        let reasons = REASONS.iter().filter(|reason| reason.subject == subject);
        let known: BTreeSet<[String; 3]> =
            reasons.map(|reason| [reason.condition, reason.status, reason.name].map(str::to_owned)).collect();
        assert_eq!(written.keys().cloned().collect::<BTreeSet<_>>(), known, "{heading}");
        assert!(written.values().all(|meaning| !meaning.is_empty()), "{heading}: {written:#?}");
    }
}

#[test]
fn every_reason_of_the_access_log_has_its_entry() {
    let written: BTreeSet<[String; 3]> = rows(&troubleshoot(), "Reasons of the access log")
        .into_iter()
        .map(|row| [row[0].clone(), row[1].clone(), row[2].clone()])
        .collect();
    let known = outcome::Reason::ALL.iter().map(|reason| {
        [reason.word().to_owned(), reason.status().as_u16().to_string(), reason.fault().word().to_owned()]
    });
    assert_eq!(written, known.collect());
}

/// The golden cases hold the findings that resolve and plan can have.
#[test]
fn every_finding_of_the_golden_cases_has_its_entry() {
    let page = troubleshoot();
    let cases = fs::read_dir(root().join("tests/golden")).expect("the cases are there");
    let files = cases.map(|case| case.expect("readable").path().join("findings.txt"));
    let text: String = files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
    let reasons: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    for reason in reasons {
        assert!(page.contains(&format!("| `{reason}` |")), "{reason} is not in docs/troubleshoot.md");
    }
}

/// Blocks with their fence's words: `yaml`, `yaml complete`, `yaml fragment`.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("```").filter(|words| !words.is_empty()) {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((words.to_owned(), text.join("\n") + "\n"));
        }
    }
    blocks
}

fn check(text: &str, words: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("check").args(words).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary is built");
    child.stdin.take().expect("is piped").write_all(text.as_bytes()).expect("is taken");
    child.wait_with_output().expect("it ends")
}

/// A `complete` block stands for itself, without a warning; others may refer to what stands elsewhere. A `fragment` is no
/// manifest.
#[test]
fn every_manifest_passes_the_check() {
    let mut checked = 0;
    for (path, page) in pages() {
        for (words, text) in blocks(&page) {
            let flags: &[&str] = match words.as_str() {
                "yaml" => &[],
                "yaml complete" => &["--strict"],
                "yaml fragment" => continue,
                other => {
                    assert!(!other.starts_with("yaml"), "{}: ```{other}", path.display());
                    continue;
                }
            };
            let output = check(&text, flags);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}: {said}\n{text}", path.display());
            assert!(!said.contains(" 0 accepted"), "{}: {said}\n{text}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 8, "only {checked} manifests");
}

/// Each command that a page shows is one of gapi's, with flags that it has.
#[test]
fn commands_and_flags_exist() {
    let help = |command: &str| {
        let output = Command::new(BINARY).args([command, "--help"]).output().expect("the binary is built");
        output.status.success().then(|| String::from_utf8(output.stdout).expect("help is text"))
    };
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (path, page) in pages() {
        let shell: String =
            blocks(&page).into_iter().filter(|(words, _)| words == "sh").map(|(_, text)| text).collect();
        for line in shell.lines().filter_map(|line| line.trim().strip_prefix("gapi ")) {
            let line = line.split(['#', '|', '&', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let command = words.next().expect("a command").to_owned();
            if !known.contains_key(&command) {
                let text = help(&command).unwrap_or_else(|| panic!("{}: gapi {command}", path.display()));
                known.insert(command.clone(), text);
            }
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(known[&command].contains(flag), "{}: gapi {line}: no {flag}", path.display());
            }
        }
    }
    assert!(known.contains_key("test") && known.contains_key("check"), "{known:?}");
}

/// The words that `gapi test` itself gives, read from its source; those of others stand in the tables above.
#[test]
fn every_reason_of_the_test_command_has_its_entry() {
    let page = troubleshoot();
    let calls =
        regex::Regex::new(r#"(?:\.failed|\.skipped|Wrong::new)\(\s*"([A-Za-z]+)""#).expect("the pattern is valid");
    let files = fs::read_dir(root().join("src/cli/test")).expect("the sources are there");
    let source: String = files.map(|file| fs::read_to_string(file.expect("readable").path()).expect("text")).collect();
    let reasons: BTreeSet<&str> = calls.captures_iter(&source).map(|found| found.extract::<1>().1[0]).collect();
    assert!(reasons.len() > 10, "{reasons:?}");
    for reason in reasons {
        assert!(page.contains(&format!("| `{reason}` |")), "{reason} is not in docs/troubleshoot.md");
    }
}
