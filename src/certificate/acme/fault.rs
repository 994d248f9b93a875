//! What an ACME server says is wrong, and what follows from it.

use instant_acme::{Error, Problem};

use super::client::Refusal;
use crate::certificate::{decide::Cause, event::Failure};

/// RFC 8555, 6.7.
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// The type of a problem without its prefix.
pub fn kind(problem: &Problem) -> &str {
    let written = problem.r#type.as_deref().unwrap_or_default();
    written.strip_prefix(PREFIX).unwrap_or(written)
}

/// The failure that an error of instant-acme is; `doing` completes "while …".
pub fn failure(doing: &str, error: Error) -> Failure {
    let message = |what: &dyn std::fmt::Display| format!("while {doing}: {what}");
    match error {
        Error::Api(problem) => {
            let cause = match kind(&problem) {
                "rateLimited" => Cause::Limited,
                "serverInternal" | "badNonce" => Cause::Unreachable,
                _ => Cause::Refused,
            };
            let mut failure = Failure::new(cause, message(&text(&problem)));
            if kind(&problem) == "accountDoesNotExist" {
                (failure.cause, failure.account_gone) = (Cause::Unreachable, true);
            }
            failure
        }
        Error::Other(other) => match other.downcast::<Refusal>() {
            Ok(refusal) => {
                let mut failure = Failure::new(Cause::Limited, message(&refusal));
                failure.retry_after = refusal.retry_after;
                // A limit may be that of one name: it keeps no other from being asked for.
                failure.busy = refusal.kind.is_empty();
                failure
            }
            Err(other) => Failure::new(Cause::Unreachable, message(&other)),
        },
        Error::Unsupported(_) => Failure::new(Cause::Refused, message(&error)),
        error => Failure::new(Cause::Unreachable, message(&error)),
    }
}

/// A problem in one line, with those of its parts.
pub fn text(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or("no detail");
    let mut text = match kind(problem) {
        "" => detail.to_owned(),
        kind => format!("{kind}: {detail}"),
    };
    for part in problem.subproblems.iter().take(5) {
        text = format!("{text}; {}", part.detail.as_deref().unwrap_or_default());
    }
    text.chars().take(2000).collect()
}
