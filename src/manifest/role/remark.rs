//! What is no reason to refuse a file, and should be known: bindings that give nothing.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    api::{Kind, ObjectKey, rbac::Binding},
    finding::{Finding, Severity},
    manifest::Object,
};

/// Looks at the roles and bindings among the documents of all files.
///
/// # Findings
/// `RoleNotFound`, `SubjectIgnored`; all warnings.
pub fn remarks<'a>(documents: impl Iterator<Item = &'a Object>) -> Vec<Finding> {
    let (mut bindings, mut roles) = (Vec::new(), BTreeSet::new());
    for document in documents {
        match document.kind {
            Kind::RoleBinding | Kind::ClusterRoleBinding => bindings.push(document),
            Kind::Role | Kind::ClusterRole => _ = roles.insert(&document.key),
            _ => {}
        }
    }
    bindings.into_iter().flat_map(|binding| of_binding(binding, &roles)).collect()
}

fn of_binding(object: &Object, roles: &BTreeSet<&ObjectKey>) -> Vec<Finding> {
    let binding: Binding = object.typed(None).cloned().unwrap_or_default();
    let role = &binding.role_ref;
    let namespace = if role.kind == "Role" { &*object.key.namespace } else { "" };
    let key = ObjectKey::new(Arc::from(role.kind.as_str()), namespace, &role.name);
    let mut findings = Vec::new();
    if !roles.contains(&key) {
        let message = format!("there is no {key}, so the binding gives nothing");
        findings.push(warning(object, "roleRef.name", "RoleNotFound", message, "declare it, or mend the name"));
    }
    for (index, subject) in binding.subjects.iter().enumerate().filter(|(_, subject)| subject.kind == "ServiceAccount")
    {
        let message = format!("the subject ServiceAccount {} is ignored: files have no service accounts", subject.name);
        let field = format!("subjects[{index}]");
        findings.push(warning(object, &field, "SubjectIgnored", message, "name a User or a Group of this machine"));
    }
    findings
}

fn warning(object: &Object, field: &str, reason: &str, message: String, remedy: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        origin: Some(object.place(field)),
        object: Some(object.key.clone()),
        field: field.to_owned(),
        reason: reason.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}
