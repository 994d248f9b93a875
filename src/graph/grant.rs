//! ReferenceGrant: may an object of one namespace refer to one of another?

use super::index::Index;
use crate::api::GATEWAY_GROUP;

/// A reference across namespaces. The referring kinds are all of the Gateway API's group.
pub struct Crossing<'a> {
    pub from_kind: &'a str,
    pub from_namespace: &'a str,
    pub to_group: &'a str,
    pub to_kind: &'a str,
    pub to_namespace: &'a str,
    pub to_name: &'a str,
}

impl Crossing<'_> {
    /// True within a namespace, or where a grant in the namespace referred to allows it. `from` and `to` of a grant are
    /// each combined with OR.
    pub fn is_permitted(&self, index: &Index) -> bool {
        if self.from_namespace == self.to_namespace {
            return true;
        }
        let grants = index.grants.get(self.to_namespace).map_or(&[][..], Vec::as_slice);
        grants.iter().any(|grant| {
            grant.from.iter().any(|from| {
                from.group == GATEWAY_GROUP && from.kind == self.from_kind && from.namespace == self.from_namespace
            }) && grant.to.iter().any(|to| {
                to.group == self.to_group
                    && to.kind == self.to_kind
                    && to.name.as_deref().is_none_or(|name| name.is_empty() || name == self.to_name)
            })
        })
    }

    /// What to do where it is not.
    pub fn remedy(&self) -> String {
        format!(
            "write a ReferenceGrant in namespace {} from {} of namespace {} to {} {}",
            self.to_namespace, self.from_kind, self.from_namespace, self.to_kind, self.to_name
        )
    }
}
