//! What a pass has to say about the user's manifests: which object, which field, what is wrong, what to do.
//!
//! Findings are made by *parse*, *resolve* and *publish*; `gapi check`, `gapi reload`, `gapi status` and the
//! journal print them, status files carry the same facts as conditions.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::api::ObjectKey;

/// How bad a finding is. Errors make `check`, `reload` and `status` exit 1; warnings do so only under `check --strict`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A document rejected, a file unreadable, a socket not bound, a certificate unusable, state not kept.
    Error,
    /// A reference that leads nowhere, a route that no listener takes, a match that another takes whole.
    Warning,
}

/// Where in the watched directory something stands. Lines and columns count from 1; 0 means the file as a whole.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Origin {
    /// The file, as it was named on the command line or found below the watched directory.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// One thing that a person should know about their manifests.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// Where it stands; none for what has no file (a generated object, the state directory).
    pub origin: Option<Origin>,
    /// The object, where the document could be identified.
    pub object: Option<ObjectKey>,
    /// Field path as the API server writes it, `spec.rules[0].matches[1].path`; empty for the object as a whole.
    pub field: String,
    /// A short CamelCase word: a reason of the spec where it has one, else ours.
    pub reason: String,
    /// The fact.
    pub message: String,
    /// What to do about it, or the choices; empty where the message says it all.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}
