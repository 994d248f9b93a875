//! A finding with the source line that it stands in.

use annotate_snippets::{AnnotationKind, Group, Level, Origin as Place, Renderer, Snippet};

use crate::finding::{Finding, Severity};

/// Characters of a line that are shown.
const SHOWN: usize = 200;

/// Prints `finding`: severity, object and field, the line with a mark under the place, and the remedy.
pub fn render(finding: &Finding, lines: &[&str], renderer: &Renderer) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut subject = String::new();
    if let Some(object) = &finding.object {
        subject.push_str(&format!("{object}: "));
    }
    if !finding.field.is_empty() {
        subject.push_str(&format!("{}: ", finding.field));
    }
    let title = level.primary_title(format!("{subject}{}", finding.message));
    let mut group = Group::with_title(title);
    if let Some(origin) = &finding.origin {
        let line = (origin.line as usize).checked_sub(1).and_then(|index| lines.get(index));
        group = match line {
            Some(line) => {
                let line: String = line.trim_end().chars().take(SHOWN + origin.column as usize).collect();
                let mark = mark(&line, origin.column as usize);
                let snippet = Snippet::source(line).line_start(origin.line as usize).path(&*origin.file);
                group.element(snippet.annotation(AnnotationKind::Primary.span(mark)))
            }
            None if origin.line == 0 => group.element(Place::path(&*origin.file)),
            None => {
                let place = Place::path(&*origin.file).line(origin.line as usize);
                group.element(place.char_column(origin.column as usize))
            }
        };
    }
    if !finding.remedy.is_empty() {
        group = group.element(Level::HELP.message(finding.remedy.as_str()));
    }
    renderer.render(&[group])
}

/// The bytes of the word, quoted text or rest of line that begins in `column`.
fn mark(line: &str, column: usize) -> std::ops::Range<usize> {
    let start = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let rest = &line[start..];
    let length = match rest.chars().next() {
        None => 0,
        Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
        Some(first) => {
            let word = rest.find([':', ',', '}', ']', ' ']).unwrap_or(rest.len());
            word.max(first.len_utf8())
        }
    };
    start..start + length
}
