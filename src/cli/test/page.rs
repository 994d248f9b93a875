//! How is the report printed? A table, then what failed and why, what was skipped, and what is worth knowing.

use std::collections::BTreeSet;

use super::row::{Outcome, Row};
use crate::cli::table::Table;

/// The report as text, without its last line.
pub fn page(rows: &[Row]) -> String {
    let mut table = Table::new(["RESULT", "ROUTE", "RULE", "LISTENER", "REQUEST", "STATUS", "ANSWERED BY", "TIME"]);
    for row in rows {
        table.row([
            result(row.outcome).to_owned(),
            route(row),
            row.rule.map(|rule| rule.to_string()).unwrap_or_default(),
            row.listener.clone(),
            request(row),
            row.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            if row.answer.is_empty() { "-".to_owned() } else { row.answer.clone() },
            row.milliseconds.map(|time| format!("{time:.1}ms")).unwrap_or_default(),
        ]);
    }
    let mut page = if table.is_empty() { String::new() } else { table.text("") };
    for (heading, outcome) in [("Failed", Outcome::Failed), ("Skipped", Outcome::Skipped)] {
        let lines = rows.iter().filter(|row| row.outcome == outcome).map(why);
        page += &section(heading, lines);
    }
    let notes: BTreeSet<String> = rows.iter().flat_map(|row| row.notes.iter().cloned()).collect();
    page + &section("Notes", notes.into_iter().map(|note| format!("  {}\n", plain(&note))))
}

/// `3 passed, 1 failed, none skipped`.
pub fn tally(rows: &[Row]) -> String {
    let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    let (passed, failed, skipped) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Skipped));
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "FAILED",
        Outcome::Passed => "ok",
        Outcome::Skipped => "skipped",
    }
}

/// `default/shop`, behind the kind where that is none of HTTP.
fn route(row: &Row) -> String {
    match row.kind {
        Some(kind) => format!("{} {}", kind.names().name, row.route),
        None => row.route.clone(),
    }
}

/// `GET http://a.example/ version: 2`.
fn request(row: &Row) -> String {
    let Some(request) = &row.request else { return "-".to_owned() };
    let headers = request.headers.iter().map(|(name, value)| format!(", {name}: {value}"));
    format!("{} {}{}", request.method, request.url, headers.collect::<String>())
}

/// What happened to a row, why, and what to do, on two lines.
fn why(row: &Row) -> String {
    let mut subject = match row.route.as_str() {
        "" => format!("Gateway {}", row.listener),
        name => format!("{} {name}", row.route_kind().names().name),
    };
    if let Some(rule) = row.rule {
        subject += &format!(" rule {rule}");
        if let Some(name) = &row.rule_name {
            subject += &format!(" ({name})");
        }
    }
    if row.request.is_some() {
        subject += &format!(": {}", request(row));
    }
    let mut text = format!("  {}\n    {} [{}]\n", plain(&subject), plain(&row.message), row.reason);
    if !row.remedy.is_empty() {
        text += &format!("    remedy: {}\n", plain(&row.remedy));
    }
    text
}

/// Text that cannot drive the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn section(heading: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{heading}:\n{lines}") }
}
