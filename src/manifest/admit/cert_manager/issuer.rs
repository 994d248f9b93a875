//! Issuer and ClusterIssuer.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{CONDITIONS, any_map, not_empty, secret_key, solver::solver, strings};
use crate::manifest::{
    admit::{
        Fields, Judge, Reason,
        metadata::NameRule,
        status::{self, Shape},
    },
    span::Node,
};

/// `status` of both.
const STATUS: Shape = Shape::Object(&[
    (
        "acme",
        Shape::Object(&[
            ("lastPrivateKeyHash", Shape::Scalar),
            ("lastRegisteredEmail", Shape::Scalar),
            ("uri", Shape::Scalar),
        ]),
    ),
    ("conditions", CONDITIONS),
]);

/// Judges an Issuer.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    document(judge, node, NameRule::Subdomain)
}

/// Judges a ClusterIssuer.
pub fn admit_cluster(judge: &mut Judge, node: &Node) -> Option<Value> {
    document(judge, node, NameRule::ClusterScoped)
}

fn document(judge: &mut Judge, node: &Node, rule: NameRule) -> Option<Value> {
    judge.document(node, rule, |fields| {
        fields.required("spec", spec);
        status::status(fields, &STATUS);
    })
}

/// What makes certificates; the webhook asks for exactly one.
const TYPES: [&str; 5] = ["acme", "ca", "selfSigned", "vault", "venafi"];

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("acme", acme);
        fields.optional("ca", ca);
        fields.optional("selfSigned", |judge, node| {
            judge.object(node, |fields| fields.optional("crlDistributionPoints", strings))
        });
        fields.optional("vault", any_map);
        fields.optional("venafi", any_map);
        let written: Vec<&str> = TYPES.into_iter().filter(|name| fields.has(name)).collect();
        match written.as_slice() {
            [] => fields.conflict("", "the issuer is of no type", format!("write one of: {}", TYPES.join(", "))),
            [_] => {}
            [_, second, ..] => {
                fields.conflict(second, format!("{} stand side by side", written.join(", ")), "keep one of them");
            }
        }
    })
}

fn ca(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for list in ["crlDistributionPoints", "issuingCertificateURLs", "ocspServers"] {
            fields.optional(list, strings);
        }
        fields.required("secretName", Judge::string);
        not_empty(fields, "secretName", "name the Secret with the certificate and the key of the CA");
    })
}

fn acme(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("caBundle", bytes);
        fields.optional("disableAccountKeyGeneration", Judge::boolean);
        fields.optional("email", Judge::string);
        fields.optional("enableDurationFeature", Judge::boolean);
        fields.optional("externalAccountBinding", external_account);
        fields.optional("preferredChain", |judge, node| judge.sized(node, 0..=64));
        fields.required("privateKeySecretRef", |judge, node| secret_key(judge, node, false));
        fields.optional("profile", Judge::string);
        fields.defaulted("renewalInformationSource", "ARI", |judge, node| judge.choice(node, &["ARI", "None"]));
        fields.required("server", Judge::string);
        fields.optional("skipTLSVerify", Judge::boolean);
        fields.optional("solvers", |judge, node| judge.list(node, 0..=usize::MAX, solver));
        not_empty(fields, "server", "write the URL of the server's directory");
        trust(fields);
    })
}

fn trust(fields: &mut Fields) {
    let bundle = fields.text("caBundle").unwrap_or_default().to_owned();
    if bundle.is_empty() {
        return;
    }
    if fields.get("skipTLSVerify") == Some(&Value::Bool(true)) {
        fields.conflict("caBundle", "stands beside skipTLSVerify", "keep caBundle");
    }
    // What is not base64 has been told.
    let Ok(pem) = STANDARD.decode(bundle) else { return };
    if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
        fields.conflict("caBundle", "holds no PEM certificate", "write base64 of PEM certificates");
    }
}

/// `format: byte`.
fn bytes(judge: &mut Judge, node: &Node) -> Option<Value> {
    let text = judge.text(node)?;
    let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    if STANDARD.decode(&compact).is_err() {
        judge.fault(Reason::InvalidValue, node.place, "is not base64", "encode it: base64 -w0 FILE");
    }
    Some(Value::from(compact))
}

fn external_account(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("keyAlgorithm", |judge, node| judge.choice(node, &["HS256", "HS384", "HS512"]));
        fields.required("keyID", Judge::string);
        fields.required("keySecretRef", |judge, node| secret_key(judge, node, true));
        not_empty(fields, "keyID", "write the identifier that the server gave");
    })
}
