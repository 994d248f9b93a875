//! GatewayClass.

use serde::{Deserialize, Serialize};

use super::ObjectReference;

/// `GatewayClass.spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    pub controller_name: String,
    #[serde(default)]
    pub parameters_ref: Option<ObjectReference>,
    #[serde(default)]
    pub description: Option<String>,
}
