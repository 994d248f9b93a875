//! ReferenceGrant.

use serde::{Deserialize, Serialize};

/// `ReferenceGrant.spec`: who may refer from other namespaces to what in the grant's own.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ReferenceGrantSpec {
    pub from: Vec<ReferenceGrantFrom>,
    pub to: Vec<ReferenceGrantTo>,
}

/// A kind in a namespace that may refer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ReferenceGrantFrom {
    #[serde(default)]
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

/// What may be referred to; without a name, every object of the kind.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ReferenceGrantTo {
    #[serde(default)]
    pub group: String,
    pub kind: String,
    #[serde(default)]
    pub name: Option<String>,
}
