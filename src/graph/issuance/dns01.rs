//! DNS-01 solvers as far as manifests say: the Secrets that they name, and what of them gapi does not have.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    api::cert_manager::{AcmeIssuer, SecretKey, read_duration},
    finding::Finding,
    graph::{Index, problem::warning},
    manifest::Object,
};

use super::{
    issuer::entry,
    provider::{self, EXEC, GROUP, Setting},
};

/// What the entries of Secrets hold, or why they do not.
pub type Secrets = BTreeMap<SecretKey, Result<Arc<[u8]>, String>>;

/// What a solver asks for that gapi does not have, or lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Below `dns01`.
    pub field: String,
    pub message: String,
    pub remedy: String,
}

impl Fault {
    fn new(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { field: field.into(), message: message.into(), remedy: remedy.into() }
    }
}

/// What the solvers of an issuer name.
pub(super) fn secrets(index: &Index, namespace: &str, spec: &AcmeIssuer) -> Secrets {
    let solvers = spec.solvers.iter().filter_map(|solver| solver.dns01.as_ref());
    let named = solvers.flat_map(references);
    named.map(|(_, reference)| (reference.clone(), entry(index, namespace, &reference))).collect()
}

/// The entries of Secrets that a solver names, with the field that does.
pub fn references(dns01: &Value) -> Vec<(String, SecretKey)> {
    fn collect(value: &Value, path: &str, found: &mut Vec<(String, SecretKey)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
                    if name.ends_with("SecretRef") || name == "secretKeyRef" {
                        let reference = SecretKey { name: text("name"), key: text("key") };
                        // cert-manager writes empty ones for what is not there.
                        found.extend(Some((path, reference)).filter(|(_, reference)| !reference.name.is_empty()));
                    } else {
                        collect(value, &path, found);
                    }
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    collect(item, &format!("{path}[{i}]"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(dns01, "", &mut found);
    found
}

/// What of an issuer's solvers cannot work, and which Secrets are not there.
pub(super) fn findings(object: &Object, spec: &AcmeIssuer, secrets: &Secrets, findings: &mut Vec<Finding>) {
    for (i, solver) in spec.solvers.iter().enumerate() {
        let Some(dns01) = &solver.dns01 else { continue };
        let field = |below: &str| format!("spec.acme.solvers[{i}].dns01.{below}");
        if let Some(fault) = fault(dns01) {
            findings.push(warning(object, &field(&fault.field), "UnsupportedValue", fault.message, fault.remedy));
            continue;
        }
        for (below, reference) in references(dns01) {
            if let Some(Err(why)) = secrets.get(&reference) {
                findings.push(warning(object, &field(&below), "InvalidSecretRef", why.clone(), "add it"));
            }
        }
    }
}

/// Why a solver cannot work, whatever its Secrets hold.
pub fn fault(dns01: &Value) -> Option<Fault> {
    let block = |name: &str| Some(&dns01[name]).filter(|block| block.is_object());
    if let Some(rfc2136) = block("rfc2136") {
        return rfc2136_fault(rfc2136);
    }
    if let Some(azure) = block("azureDNS") {
        return azure_fault(azure);
    }
    if let Some(webhook) = block("webhook") {
        return webhook_fault(webhook);
    }
    if block("cloudDNS").is_some_and(|block| !is_named(&block["serviceAccountSecretRef"])) {
        let message = "gapi has no ambient credentials of Google";
        return Some(Fault::new("cloudDNS.serviceAccountSecretRef", message, "name the key of a service account"));
    }
    if let Some(route53) = block("route53") {
        let asked = ["role", "auth"].into_iter().find(|name| !is_empty(&route53[*name]));
        let remedy = "write accessKeyID and secretAccessKeySecretRef";
        return asked.map(|name| Fault::new(format!("route53.{name}"), "gapi assumes no roles of AWS", remedy));
    }
    None
}

fn is_named(reference: &Value) -> bool {
    !is_empty(&reference["name"])
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

fn rfc2136_fault(block: &Value) -> Option<Fault> {
    if is_empty(&block["tsigKeyName"]) {
        let remedy = "add tsigKeyName, tsigSecretSecretRef and tsigAlgorithm";
        return Some(Fault::new("rfc2136.tsigKeyName", "gapi sends no updates that are not signed", remedy));
    }
    let algorithm = block["tsigAlgorithm"].as_str().unwrap_or_default().to_ascii_uppercase();
    let what = match algorithm.as_str() {
        "" => "HMACMD5, which is meant where nothing is written,",
        "HMACMD5" => "HMACMD5",
        "HMACSHA1" => "HMACSHA1",
        _ => return None,
    };
    let message = format!("gapi does not sign with {what} any more");
    Some(Fault::new("rfc2136.tsigAlgorithm", message, "write HMACSHA256 or HMACSHA512, and make such a key"))
}

fn azure_fault(block: &Value) -> Option<Fault> {
    if is_empty(&block["clientID"]) {
        let remedy = "write clientID, clientSecretSecretRef and tenantID";
        return Some(Fault::new("azureDNS.managedIdentity", "gapi has no managed identities of Azure", remedy));
    }
    if block["environment"] == "AzureGermanCloud" {
        let remedy = "write AzurePublicCloud, AzureChinaCloud or AzureUSGovernmentCloud";
        return Some(Fault::new("azureDNS.environment", "AzureGermanCloud has been closed", remedy));
    }
    (block["zoneType"] == "AzurePrivateZone").then(|| {
        Fault::new("azureDNS.zoneType", "gapi changes public zones alone", "remove it, or write AzurePublicZone")
    })
}

fn webhook_fault(block: &Value) -> Option<Fault> {
    let text = |name: &str| block[name].as_str().unwrap_or_default();
    let (group, solver) = (text("groupName"), text("solverName"));
    let all = || provider::names().collect::<Vec<_>>().join(", ");
    if group != GROUP {
        let message = format!("gapi has no webhooks of {group}; those of {GROUP} are its own");
        return Some(Fault::new("webhook.groupName", message, format!("write {GROUP} and one of: {}", all())));
    }
    let config = &block["config"];
    if !config.is_null() && !config.is_object() {
        return Some(Fault::new("webhook.config", "is no object", "write settings as `name: value`"));
    }
    if solver == EXEC {
        return exec_fault(config);
    }
    let Some(settings) = provider::settings(solver) else {
        let message = format!("gapi has no solver {solver}");
        return Some(Fault::new("webhook.solverName", message, format!("write one of: {}", all())));
    };
    settings_fault(config, &settings)
}

/// How a setting is written.
pub fn written(setting: &Setting) -> String {
    if setting.is_secret { format!("{}SecretRef", setting.name) } else { setting.name.to_owned() }
}

fn settings_fault(config: &Value, settings: &[Setting]) -> Option<Fault> {
    let all = || format!("its settings are: ttl, {}", settings.iter().map(written).collect::<Vec<_>>().join(", "));
    for (name, value) in config.as_object().into_iter().flatten() {
        let field = format!("webhook.config.{name}");
        let is_reference = name.ends_with("SecretRef");
        let known = name == "ttl" || settings.iter().any(|setting| written(setting) == *name);
        if !known {
            let secret = settings.iter().any(|setting| setting.is_secret && setting.name == name);
            let message = if secret { "secrets are not written into issuers" } else { "is no setting of this solver" };
            let remedy = if secret { format!("name a Secret: {name}SecretRef: {{name, key}}") } else { all() };
            return Some(Fault::new(field, message, remedy));
        }
        if is_reference && (is_empty(&value["name"]) || is_empty(&value["key"])) {
            return Some(Fault::new(field, "names no entry of a Secret", "write {name, key}"));
        }
        if name == "ttl" && value.as_u64().is_none_or(|ttl| ttl == 0 || ttl > 86_400) {
            return Some(Fault::new(field, "is no time to live", "write seconds, at most 86400"));
        }
        if !is_reference && (value.is_object() || value.is_array()) {
            return Some(Fault::new(field, "is not a plain value", "write a text"));
        }
    }
    let missing = settings.iter().find(|setting| setting.is_required && is_empty(&config[written(setting)]))?;
    Some(Fault::new(format!("webhook.config.{}", written(missing)), "is missing", all()))
}

fn exec_fault(config: &Value) -> Option<Fault> {
    let field = |name: &str| format!("webhook.config.{name}");
    if let Some(name) = config
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .find(|name| !matches!(name.as_str(), "command" | "args" | "env" | "timeout" | "mode"))
    {
        let remedy = "its settings are: command, args, env, timeout, mode";
        return Some(Fault::new(field(name), "is no setting of this solver", remedy));
    }
    if !config["command"].as_str().is_some_and(|path| path.starts_with('/')) {
        return Some(Fault::new(field("command"), "is no absolute path", "write the path of a program"));
    }
    let texts = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    if !config["args"].is_null() && !texts(&config["args"]) {
        return Some(Fault::new(field("args"), "is no list of texts", "write [\"one\", \"two\"]"));
    }
    let is_variable = |item: &Value| {
        let reference = &item["valueFrom"]["secretKeyRef"];
        let named = item["name"].as_str().is_some_and(|name| !name.is_empty() && !name.contains(['=', '\0']));
        named && (item["value"].is_string() || is_named(reference) && !is_empty(&reference["key"]))
    };
    if !config["env"].is_null() && !config["env"].as_array().is_some_and(|items| items.iter().all(is_variable)) {
        let remedy = "write {name, value} or {name, valueFrom: {secretKeyRef: {name, key}}} for each";
        return Some(Fault::new(field("env"), "is no list of variables", remedy));
    }
    if !config["timeout"].is_null() && config["timeout"].as_str().and_then(read_duration).is_none() {
        return Some(Fault::new(field("timeout"), "is no duration", "write it like 60s"));
    }
    (!is_empty(&config["mode"]) && config["mode"] != "RAW")
        .then(|| Fault::new(field("mode"), "is no mode", "leave it out, or write RAW"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn webhook(solver: &str, config: Value) -> Value {
        json!({"webhook": {"groupName": GROUP, "solverName": solver, "config": config}})
    }

    #[test]
    fn references_are_found_wherever_they_stand() {
        let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}}]);
        let found = references(&webhook("exec", json!({"command": "/bin/x", "env": env})));
        assert_eq!(found[0].0, "webhook.config.env[0].valueFrom.secretKeyRef");
        assert_eq!(found[0].1, SecretKey { name: "s".into(), key: "a".into() });
        let block = json!({"rfc2136": {"tsigSecretSecretRef": {"name": "t", "key": "k"}}, "cnameStrategy": "None"});
        assert_eq!(references(&block)[0].0, "rfc2136.tsigSecretSecretRef");
        assert!(references(&json!({"route53": {"secretAccessKeySecretRef": {"name": ""}}})).is_empty());
    }

    #[test]
    fn what_there_is_not_is_told_with_what_there_is() {
        let other = json!({"webhook": {"groupName": "acme.example.com", "solverName": "hetzner"}});
        let told = fault(&other).expect("it is told");
        assert_eq!(told.field, "webhook.groupName");
        assert!(told.remedy.contains("hetzner") && told.remedy.contains("exec"), "{told:?}");
        let told = fault(&webhook("hetznr", json!({}))).expect("it is told");
        assert!(told.field == "webhook.solverName" && told.remedy.contains("hetzner"), "{told:?}");
        let reference = json!({"name": "s", "key": "token"});
        assert_eq!(fault(&webhook("hetzner", json!({"apiTokenSecretRef": reference, "ttl": 60}))), None);
        for (config, field) in [
            (json!({}), "webhook.config.apiTokenSecretRef"),
            (json!({"apiToken": "secret"}), "webhook.config.apiToken"),
            (json!({"apiTokenSecretRef": {"name": "s"}}), "webhook.config.apiTokenSecretRef"),
            (json!({"apiTokenSecretRef": reference, "zone": "x"}), "webhook.config.zone"),
            (json!({"apiTokenSecretRef": reference, "ttl": "1h"}), "webhook.config.ttl"),
        ] {
            let told = fault(&webhook("hetzner", config)).expect("it is told");
            assert_eq!(told.field, field);
            assert!(!told.message.contains("secret\"") && !told.remedy.is_empty());
        }
    }

    #[test]
    fn programs_are_given_by_their_path() {
        assert_eq!(fault(&webhook("exec", json!({"command": "/usr/local/bin/dns", "timeout": "30s"}))), None);
        for config in [
            json!({}),
            json!({"command": "dns"}),
            json!({"command": "/dns", "args": "x"}),
            json!({"command": "/dns", "env": [{"name": "A"}]}),
            json!({"command": "/dns", "timeout": "soon"}),
            json!({"command": "/dns", "mode": "raw"}),
            json!({"command": "/dns", "shell": true}),
        ] {
            assert!(fault(&webhook("exec", config.clone())).is_some(), "{config}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_told() {
        let signed = json!({"nameserver": "a", "tsigKeyName": "k", "tsigAlgorithm": "HMACSHA256"});
        assert_eq!(fault(&json!({"rfc2136": signed})), None);
        assert_eq!(fault(&json!({"cloudflare": {"apiTokenSecretRef": {"name": "a", "key": "b"}}})), None);
        for block in [
            json!({"rfc2136": {"nameserver": "a"}}),
            json!({"rfc2136": {"nameserver": "a", "tsigKeyName": "k"}}),
            json!({"azureDNS": {"managedIdentity": {}}}),
            json!({"cloudDNS": {"project": "p"}}),
            json!({"route53": {"role": "arn:aws:iam::1:role/r"}}),
        ] {
            assert!(fault(&block).is_some(), "{block}");
        }
    }
}
