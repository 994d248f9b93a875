//! Documents with what an API server that has the official CRDs said of them (tests/admission/corpus).
//!
//! Each file holds documents behind lines `===== accept` or `===== reject [FIELD]`; a refusal must name the field. The
//! files are written by tests/admission/corpus.py; `own.txt` holds the cases where gapi differs on purpose.

use std::{fs, path::Path};

use gapi::manifest::{parse::parse_file, span::Bounds};

fn disagreements(path: &Path) -> (usize, Vec<String>) {
    let text = fs::read_to_string(path).expect("the corpus is text");
    let mut count = 0;
    let mut wrong = Vec::new();
    for case in text.split("===== ").skip(1) {
        let (title, document) = case.split_once('\n').expect("a title ends its line");
        let (verdict, field) = title.split_once(' ').unwrap_or((title, ""));
        let parsed = parse_file("case.yaml", document.as_bytes(), &Bounds::default());
        let named = field.is_empty() || parsed.findings.iter().any(|finding| within(&finding.field, field));
        let agrees = match verdict {
            "accept" => parsed.rejected == 0 && parsed.objects.len() == 1,
            "reject" => parsed.rejected > 0 && named,
            _ => panic!("{title:?} is no verdict"),
        };
        count += 1;
        if !agrees {
            let findings: Vec<String> = parsed.findings.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}: {title}\n{document}\n{findings:#?}", path.display()));
        }
    }
    (count, wrong)
}

/// The server names the map where gapi names the key in it.
fn within(found: &str, field: &str) -> bool {
    found.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn agrees_with_the_api_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admission/corpus");
    let mut total = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let (count, mut found) = disagreements(&entry.expect("readable").path());
        total += count;
        wrong.append(&mut found);
    }
    assert!(total > 300, "only {total} documents");
    assert!(wrong.is_empty(), "{} of {total} documents:\n{}", wrong.len(), wrong.join("\n"));
}
