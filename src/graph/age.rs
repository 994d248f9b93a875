//! Who is older: the spec's tie-breaker.

use jiff::Timestamp;

use crate::api::ObjectMeta;

/// An object's age for precedence. The smaller is the older and wins.
///
/// Only a timestamp that the manifest itself has counts: `gapi check`, a second machine and one that lost its state
/// must all come to the same answer. Objects without one are the youngest and tie, so that the name decides.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Age {
    Written(Timestamp),
    Unwritten,
}

impl Age {
    /// The age of the object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Age {
        let written = meta.creation_timestamp.as_deref().filter(|_| meta.creation_timestamp_written);
        written.and_then(|text| text.parse().ok()).map_or(Age::Unwritten, Age::Written)
    }
}
