//! The pages of Certificate, Issuer and ClusterIssuer.

use serde_json::Value;

use super::{Page, conditions};
use crate::{
    cli::column::number,
    view::{list, text},
};

pub(super) fn describe(page: &mut Page, certificate: &Value) {
    let owner = list(certificate, "/metadata/ownerReferences").first();
    if let Some(owner) = owner {
        page.field("Made for", format!("{} {}", text(owner, "/kind"), text(owner, "/name")));
    }
    page.field("Secret", text(certificate, "/spec/secretName"));
    let kind = match text(certificate, "/spec/issuerRef/kind") {
        "" => "Issuer",
        written => written,
    };
    page.field("Issuer", format!("{kind} {}", text(certificate, "/spec/issuerRef/name")));
    let names = ["/spec/dnsNames", "/spec/ipAddresses", "/spec/uris", "/spec/emailAddresses"];
    let names = names.iter().flat_map(|pointer| list(certificate, pointer)).filter_map(Value::as_str);
    page.field_lines("Names", &names.map(str::to_owned).collect::<Vec<_>>());
    page.field("Not Before", text(certificate, "/status/notBefore"));
    page.field("Not After", text(certificate, "/status/notAfter"));
    page.field("Renewal Time", text(certificate, "/status/renewalTime"));
    page.field("Revision", number(certificate, "/status/revision").to_string());
    if number(certificate, "/status/failedIssuanceAttempts") > 0 {
        page.field("Failures", number(certificate, "/status/failedIssuanceAttempts").to_string());
        page.field("Last Failure", text(certificate, "/status/lastFailureTime"));
    }
    page.conditions(conditions(certificate));
}

pub(super) fn describe_issuer(page: &mut Page, issuer: &Value) {
    let types = ["acme", "ca", "selfSigned", "vault", "venafi"];
    let type_ = types.into_iter().find(|name| issuer.pointer(&format!("/spec/{name}")).is_some());
    page.field("Type", type_.unwrap_or_default());
    match type_ {
        Some("acme") => {
            page.field("Server", text(issuer, "/spec/acme/server"));
            page.field("Email", text(issuer, "/spec/acme/email"));
            page.field("Account", text(issuer, "/status/acme/uri"));
        }
        Some("ca") => page.field("Secret", text(issuer, "/spec/ca/secretName")),
        _ => {}
    }
    page.conditions(conditions(issuer));
}
