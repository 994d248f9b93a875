//! *watch* and *parse*: files of a directory become admitted, defaulted, typed objects with their origin.
//!
//! [`tree`] lists and reads the files, [`span`] turns YAML 1.1 or JSON text into a tree that knows where everything
//! stands, [`admit`] judges it as the API server would with the official CRDs, [`parse`] puts the three together and
//! [`accepted`] keeps the last accepted version of each object. Nothing here knows what a Gateway does.

pub mod admit;
pub mod parse;
pub mod served;
pub mod span;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod accepted;
pub mod tree;
pub mod watch;

use crate::{
    api::{Kind, ObjectKey, ObjectMeta},
    finding::Origin,
};

/// An admitted object: made by *parse*, completed (uid, generation, creationTimestamp) by the accepted-object store,
/// read by *resolve*.
///
/// `value` is the whole document as the API server would store it: nulls dropped, defaults in place, `status` as
/// written (foreign conditions are kept, see `status::merge`), namespace defaulted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Object {
    pub key: ObjectKey,
    pub kind: Kind,
    /// As written: `gateway.networking.k8s.io/v1beta1`.
    pub api_version: String,
    pub meta: ObjectMeta,
    pub value: Arc<Value>,
    pub origin: Origin,
    /// Where each field stands, by field path (`spec.rules[0].matches`); empty for objects read back from the store.
    #[serde(skip)]
    pub positions: Positions,
}

impl Object {
    /// The place of `field`, or of its nearest ancestor that has one.
    pub fn place(&self, field: &str) -> Origin {
        let mut path = field;
        loop {
            if let Some((line, column)) = self.positions.get(path) {
                return Origin { file: self.origin.file.clone(), line: *line, column: *column };
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.origin.clone(),
            }
        }
    }

    /// `spec` (or, for kinds without one, the whole document) as the kind's own type.
    ///
    /// # Errors
    /// Never for admitted objects of the matching type; the text of serde's error else.
    pub fn typed<T: for<'de> Deserialize<'de>>(&self, field: Option<&str>) -> Result<T, String> {
        let value = match field {
            Some(field) => self.value.get(field).unwrap_or(&Value::Null),
            None => &*self.value,
        };
        T::deserialize(value).map_err(|error| error.to_string())
    }
}

/// Field path → line and column, both from 1; shared by clones.
pub type Positions = Arc<BTreeMap<String, (u32, u32)>>;

/// A document that gapi does not serve, and why that is no error.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ignored {
    pub origin: Origin,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// `kind of another group`, `not served yet`, …
    pub reason: String,
}
