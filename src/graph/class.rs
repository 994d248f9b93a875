//! GatewayClasses of our controller; `gapi` is there without a manifest.

use crate::{
    api::{
        CONTROLLER_NAME, Condition, DEFAULT_CLASS, Kind, ObjectKey,
        condition::{CLASS_ACCEPTED, CLASS_INVALID_PARAMETERS, CLASS_SUPPORTED_VERSION},
        gateway_class::GatewayClassSpec,
    },
    finding::Finding,
    manifest::Object,
};

use super::{
    index::Index,
    problem::{self, Problem, warning},
};

/// The release of the Gateway API that gapi implements.
pub const BUNDLE_VERSION: &str = "v1.7.0";

/// A GatewayClass of our controller.
#[derive(Clone, Debug)]
pub struct Class {
    pub key: ObjectKey,
    /// Its Gateways are served.
    pub accepted: bool,
    pub conditions: Vec<Condition>,
}

/// The classes of our controller, by name. A manifest may take the name `gapi` for another controller: then that class
/// is not ours, as in a cluster.
pub fn resolve(index: &Index, findings: &mut Vec<Finding>) -> Vec<Class> {
    let mut classes = Vec::new();
    for object in index.all(Kind::GatewayClass) {
        let Ok(spec) = object.typed::<GatewayClassSpec>(Some("spec")) else { continue };
        if spec.controller_name != CONTROLLER_NAME {
            findings.extend((&*object.key.name == DEFAULT_CLASS).then(|| taken(object, spec)));
            continue;
        }
        let problem = spec.parameters_ref.as_ref().map(|parameters| {
            let message = format!("{} {} cannot be used: gapi has no parameters", parameters.kind, parameters.name);
            Problem::new(CLASS_INVALID_PARAMETERS, "spec.parametersRef", message, "remove spec.parametersRef")
        });
        findings.extend(problem.iter().map(|problem| problem.finding(object)));
        classes.push(class(object.key.clone(), problem));
    }
    if index.get(Kind::GatewayClass, "", DEFAULT_CLASS).is_none() {
        classes.push(class(ObjectKey::new("GatewayClass", "", DEFAULT_CLASS), None));
        classes.sort_by(|a, b| a.key.cmp(&b.key));
    }
    classes
}

/// Our own class's name in the hands of another controller: its Gateways are not served, which is hardly meant.
fn taken(object: &Object, spec: &GatewayClassSpec) -> Finding {
    let message = format!("this class belongs to controller {}, so its Gateways are not served", spec.controller_name);
    warning(object, "spec.controllerName", "ClassTaken", message, format!("use {CONTROLLER_NAME}, or remove the class"))
}

fn class(key: ObjectKey, problem: Option<Problem>) -> Class {
    let good = CLASS_ACCEPTED.with("Gateways of this class are served by gapi");
    let version = CLASS_SUPPORTED_VERSION.with(format!("Gateway API {BUNDLE_VERSION}, experimental channel"));
    Class { key, accepted: problem.is_none(), conditions: vec![problem::condition(&problem, good), version] }
}
