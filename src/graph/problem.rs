//! What is wrong with a field: said once, written down twice, as a condition and as a finding.

use crate::{
    api::{Condition, condition::Reason},
    finding::{Finding, Severity},
    manifest::Object,
};

/// Conditions hold no more than this; the API server counts code points.
const MAX_MESSAGE: usize = 32768;

/// A mistake with its place, its fact and its remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The condition that it causes.
    pub reason: &'static Reason,
    pub severity: Severity,
    /// Field path, `spec.rules[0].backendRefs[1].port`.
    pub field: String,
    pub message: String,
    /// Empty where the message says it all.
    pub remedy: String,
    /// Something else makes a finding of it.
    pub quiet: bool,
}

impl Problem {
    /// A warning-level problem.
    pub fn new(
        reason: &'static Reason,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        let (field, message, remedy) = (field.into(), message.into(), remedy.into());
        Problem { reason, severity: Severity::Warning, field, message, remedy, quiet: false }
    }

    /// The same, as an error.
    pub fn error(self) -> Problem {
        Problem { severity: Severity::Error, ..self }
    }

    /// The same, without a finding of its own.
    pub fn quiet(self) -> Problem {
        Problem { quiet: true, ..self }
    }

    /// The sentence for status: field, fact, remedy.
    pub fn text(&self) -> String {
        match self.remedy.as_str() {
            "" => format!("{}: {}", self.field, self.message),
            remedy => format!("{}: {}; {remedy}", self.field, self.message),
        }
    }

    /// The finding about `object`.
    pub fn finding(&self, object: &Object) -> Finding {
        let Problem { reason, severity, field, message, remedy, .. } = self;
        Finding { severity: *severity, ..warning(object, field, reason.name, message, remedy) }
    }
}

/// A warning about a field of `object`, for what has no condition.
pub fn warning(
    object: &Object,
    field: &str,
    reason: &str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        severity: Severity::Warning,
        origin: Some(object.place(field)),
        object: Some(object.key.clone()),
        field: field.into(),
        reason: reason.into(),
        message: message.into(),
        remedy: remedy.into(),
    }
}

/// The condition that several problems make together: the first one's reason, everybody's text.
pub fn condition<'a>(problems: impl IntoIterator<Item = &'a Problem>, good: Condition) -> Condition {
    let mut problems = problems.into_iter().peekable();
    let Some(first) = problems.peek() else { return good };
    let reason = first.reason;
    let texts: Vec<String> = problems.map(Problem::text).collect();
    reason.with(bounded(&texts.join(". ")))
}

/// `text`, cut to what a condition can hold.
pub fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        None => text.to_string(),
        Some(_) => text.chars().take(MAX_MESSAGE - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fit_a_condition() {
        assert_eq!(bounded("é"), "é");
        assert_eq!(bounded(&"é".repeat(40_000)).chars().count(), 32768);
    }
}
