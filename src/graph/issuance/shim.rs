//! Certificates of annotated Gateways: one for each Secret that TLS listeners name, with the listeners' hostnames. The
//! rules of cert-manager's gateway-shim.

use std::collections::BTreeMap;

use crate::{
    api::{
        Kind, ObjectKey, ObjectMeta, ObjectReference,
        cert_manager::{
            CERT_MANAGER_GROUP, CLUSTER_ISSUER_ANNOTATION, CertificateSpec, IGNORE_LISTENERS_ANNOTATION,
            ISSUER_ANNOTATION, ISSUER_GROUP_ANNOTATION, ISSUER_KIND_ANNOTATION, IssuerRef,
        },
        gateway::{GatewaySpec, Listener},
    },
    finding::Finding,
    manifest::Object,
};

use super::{Asked, annotation};
use crate::graph::{Age, Class, Index, problem::warning};

/// A label that would have a tool remove what carries it.
const APPLYSET_LABEL: &str = "applyset.kubernetes.io/part-of";

/// Adds the Certificates of all Gateways of `classes`, the oldest first: a Certificate that is there already, written or
/// another Gateway's, stays as it is.
pub(super) fn resolve(
    index: &Index,
    classes: &[Class],
    asked: &mut BTreeMap<ObjectKey, Asked>,
    findings: &mut Vec<Finding>,
) {
    let mut gateways: Vec<&Object> = index.all(Kind::Gateway).iter().map(AsRef::as_ref).collect();
    gateways.sort_by_cached_key(|object| (Age::of(&object.meta), object.key.clone()));
    for object in gateways {
        let annotations = &object.meta.annotations;
        if !annotations.contains_key(ISSUER_ANNOTATION) && !annotations.contains_key(CLUSTER_ISSUER_ANNOTATION) {
            continue;
        }
        let Ok(spec) = object.typed::<GatewaySpec>(Some("spec")) else { continue };
        if !classes.iter().any(|class| *class.key.name == *spec.gateway_class_name) || is_leaving(object) {
            continue;
        }
        let issuer = match issuer_ref(&object.meta) {
            Ok(issuer) => issuer,
            Err(message) => {
                let remedy = format!("keep one of {ISSUER_ANNOTATION} and {CLUSTER_ISSUER_ANNOTATION}, with a name");
                findings.push(warning(object, "metadata.annotations", "BadConfig", message, remedy));
                continue;
            }
        };
        gateway(object, spec, &issuer, asked, findings);
    }
}

/// Deleted, but for its dependents.
fn is_leaving(object: &Object) -> bool {
    let metadata = &object.value["metadata"];
    let finalizers = metadata["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
    metadata["deletionTimestamp"].is_string() || finalizers.iter().any(|name| name == "foregroundDeletion")
}

fn issuer_ref(meta: &ObjectMeta) -> Result<IssuerRef, String> {
    let annotation = |name: &str| meta.annotations.get(name);
    let (name, kind) = match (annotation(ISSUER_ANNOTATION), annotation(CLUSTER_ISSUER_ANNOTATION)) {
        (Some(_), Some(_)) => return Err(format!("{ISSUER_ANNOTATION} and {CLUSTER_ISSUER_ANNOTATION} are both set")),
        (Some(name), None) => (name, "Issuer"),
        (None, Some(name)) => (name, "ClusterIssuer"),
        (None, None) => return Err("no issuer is named".into()),
    };
    if name.is_empty() {
        return Err("the name of the issuer is empty".into());
    }
    Ok(IssuerRef {
        name: name.clone(),
        kind: annotation(ISSUER_KIND_ANNOTATION).cloned().unwrap_or_else(|| kind.into()),
        group: annotation(ISSUER_GROUP_ANNOTATION).cloned().unwrap_or_else(|| CERT_MANAGER_GROUP.into()),
    })
}

fn gateway(
    object: &Object,
    spec: &GatewaySpec,
    issuer: &IssuerRef,
    asked: &mut BTreeMap<ObjectKey, Asked>,
    findings: &mut Vec<Finding>,
) {
    for (secret, hosts) in secrets(object, spec, findings) {
        let mut certificate = CertificateSpec {
            secret_name: secret.clone(),
            issuer_ref: issuer.clone(),
            dns_names: hosts,
            usages: vec!["digital signature".into(), "key encipherment".into()],
            ..CertificateSpec::default()
        };
        if let Err((name, message)) = annotation::translate(&object.meta.annotations, &mut certificate) {
            let field = format!("metadata.annotations[{name}]");
            let message = format!("{name}: {message}, so no certificate is made for this Gateway");
            findings.push(warning(object, &field, "BadConfig", message, "correct the annotation"));
            return;
        }
        let key = ObjectKey::new("Certificate", &object.key.namespace, &secret);
        if let Some(other) = asked.get(&key) {
            not_ours(object, &key, other, &certificate, findings);
            continue;
        }
        let mut labels = object.meta.labels.clone();
        labels.remove(APPLYSET_LABEL);
        let parent = [("parentrefkind", "Gateway".to_owned()), ("parentrefname", object.key.name.to_string())];
        let meta = ObjectMeta {
            name: secret,
            namespace: object.key.namespace.to_string(),
            labels,
            annotations: parent.map(|(name, value)| (format!("acme.cert-manager.io/http01-{name}"), value)).into(),
            generation: 1,
            creation_timestamp: object.meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        };
        asked.insert(key, Asked { meta, spec: certificate, owner: Some(object.key.clone()) });
    }
}

/// Another's Certificate is left as it is; a listener whose name it lacks is told so.
fn not_ours(object: &Object, key: &ObjectKey, other: &Asked, own: &CertificateSpec, findings: &mut Vec<Finding>) {
    let lacks: Vec<&str> =
        own.dns_names.iter().filter(|name| !other.spec.dns_names.contains(name)).map(String::as_str).collect();
    if lacks.is_empty() {
        return;
    }
    let whose = match &other.owner {
        Some(owner) => format!("made for {owner}"),
        None => "a manifest".to_owned(),
    };
    let message = format!("{key} is {whose} and is not for {}", lacks.join(", "));
    findings.push(warning(object, "metadata.annotations", "BadConfig", message, "name another Secret in this Gateway"));
}

/// The Secrets that TLS listeners name, each with their hostnames in order, every one once.
fn secrets(object: &Object, spec: &GatewaySpec, findings: &mut Vec<Finding>) -> BTreeMap<String, Vec<String>> {
    let ignored = object.meta.annotations.get(IGNORE_LISTENERS_ANNOTATION).map(String::as_str).unwrap_or_default();
    let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (i, listener) in spec.listeners.iter().enumerate() {
        let passes = listener.tls.as_ref().is_some_and(|tls| tls.mode == "Passthrough");
        let is_ignored = ignored.split(',').any(|name| name.trim() == listener.name);
        if !matches!(listener.protocol.as_str(), "HTTPS" | "TLS") || passes || is_ignored {
            continue;
        }
        let (hostname, references) = match block(object, listener) {
            Ok(found) => found,
            Err((field, message, remedy)) => {
                let field = format!("spec.listeners[{i}]{field}");
                let message = format!("listener {} gets no certificate: {message}", listener.name);
                findings.push(warning(object, &field, "BadConfig", message, remedy));
                continue;
            }
        };
        for reference in references {
            let hosts = secrets.entry(reference.name.clone()).or_default();
            if !hosts.iter().any(|host| host == hostname) {
                hosts.push(hostname.to_owned());
            }
        }
    }
    secrets
}

type Block<'a> = Result<(&'a str, &'a [ObjectReference]), (String, String, &'static str)>;

/// Hostname and Secrets of a listener; or field, fact and remedy.
fn block<'a>(object: &Object, listener: &'a Listener) -> Block<'a> {
    let wrong = |field: &str, message: String, remedy| Err((field.to_owned(), message, remedy));
    let Some(hostname) = listener.hostname.as_deref().filter(|hostname| !hostname.is_empty()) else {
        return wrong("", "it has no hostname".into(), "add hostname");
    };
    let references = listener.tls.as_ref().map_or(&[][..], |tls| &tls.certificate_refs);
    if references.is_empty() {
        return wrong(".tls", "it has no certificateRefs".into(), "name the Secret that the certificate is to go into");
    }
    for (i, reference) in references.iter().enumerate() {
        let field = |name: &str| format!(".tls.certificateRefs[{i}].{name}");
        if !matches!(reference.group.as_str(), "" | "core") || !matches!(reference.kind.as_str(), "" | "Secret") {
            return wrong(&field("kind"), format!("{} is no Secret", reference.kind), "refer to a Secret");
        }
        if reference.namespace.as_deref().is_some_and(|namespace| *namespace != *object.key.namespace) {
            let remedy = "use a Secret of the Gateway's namespace, or write a Certificate in the Secret's";
            return wrong(&field("namespace"), "its Secret is in another namespace".into(), remedy);
        }
    }
    Ok((hostname, references))
}
