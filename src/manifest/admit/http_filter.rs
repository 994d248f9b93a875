//! Filters of HTTPRoute rules, of backendRefs, and of listeners.

use serde_json::Value;

use super::{
    Fields, Judge, Reason,
    backend_ref::backend,
    http_match::METHODS,
    reference::{self, port},
    scalars::INT32_MAX,
    text::{AUTH_PATH, HEADER_NAME, HEADER_VALUE, ORIGIN, PRECISE_HOSTNAME},
};
use crate::manifest::span::Node;

/// `type` of a filter and the field that carries its configuration.
const TYPES: &[(&str, &str)] = &[
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("ExtensionRef", "extensionRef"),
    ("CORS", "cors"),
    ("ExternalAuth", "externalAuth"),
];

/// The same for a GRPCRoute.
const GRPC_TYPES: &[(&str, &str)] = &[
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("ExtensionRef", "extensionRef"),
];

/// The types that a list of filters may hold only once.
const ONCE: &[&str] = &["CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"];

/// `filters` of a rule or of a backendRef.
pub fn filters(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=16, filter)?;
    let types = once(judge, node, &value)?;
    if types.contains(&"RequestRedirect") && types.contains(&"URLRewrite") {
        judge.conflict(node.place, "has both RequestRedirect and URLRewrite", "keep one of them");
    }
    Some(value)
}

/// The types of the filters, of which some may stand only once.
fn once<'v>(judge: &mut Judge, node: &Node, filters: &'v Value) -> Option<Vec<&'v str>> {
    let types: Vec<&str> = filters.as_array()?.iter().filter_map(|filter| filter["type"].as_str()).collect();
    for name in ONCE {
        if types.iter().filter(|other| *other == name).count() > 1 {
            judge.conflict(node.place, format!("has more than one {name} filter"), "join them into one");
        }
    }
    Some(types)
}

/// `filters` of a GRPCRoute's rule or of its backendRef.
pub fn grpc_filters(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=16, grpc_filter)?;
    once(judge, node, &value)?;
    Some(value)
}

fn grpc_filter(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        let names: Vec<&str> = GRPC_TYPES.iter().map(|(name, _)| *name).collect();
        fields.required("type", |judge, node| judge.choice(node, &names));
        fields.optional("requestHeaderModifier", header_modifier);
        fields.optional("responseHeaderModifier", header_modifier);
        fields.optional("requestMirror", request_mirror);
        fields.optional("extensionRef", reference::local);
        type_and_field(fields, GRPC_TYPES);
    })
}

fn filter(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        fields.required("type", |judge, node| judge.choice(node, &names));
        fields.optional("requestHeaderModifier", header_modifier);
        fields.optional("responseHeaderModifier", header_modifier);
        fields.optional("requestMirror", request_mirror);
        fields.optional("requestRedirect", request_redirect);
        fields.optional("urlRewrite", url_rewrite);
        fields.optional("cors", cors);
        fields.optional("externalAuth", external_auth);
        fields.optional("extensionRef", reference::local);
        type_and_field(fields, TYPES);
    })
}

/// An item of `listeners[].filters.requests`: only what needs no route.
pub fn listener_filter(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("type", |judge, node| judge.choice(node, &["ExternalAuth", "ExtensionRef"]));
        fields.optional("externalAuth", external_auth);
        fields.optional("extensionRef", reference::local);
        type_and_field(fields, &[("ExternalAuth", "externalAuth"), ("ExtensionRef", "extensionRef")]);
    })
}

/// The field that `type` names is there, and no other is.
fn type_and_field(fields: &mut Fields, types: &[(&str, &str)]) {
    let Some(written) = fields.text("type").map(str::to_owned) else { return };
    for (name, field) in types {
        match (*name == written, fields.has(field)) {
            (true, false) => {
                fields.conflict("", format!("a filter of type {name} needs {field}"), format!("add {field}"))
            }
            (false, true) => {
                let remedy = format!("write type: {name}, or remove {field}");
                fields.conflict(field, format!("{field} does not belong to a filter of type {written}"), remedy);
            }
            _ => {}
        }
    }
}

fn header_modifier(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for list in ["set", "add"] {
            fields.optional(list, |judge, node| {
                let value = judge.list(node, 0..=16, header)?;
                judge.unique(node, &value, "name");
                Some(value)
            });
        }
        fields.optional("remove", |judge, node| judge.set(node, 16, Judge::string));
    })
}

fn header(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("name", header_name);
        fields.required("value", |judge, node| judge.form(node, &HEADER_VALUE));
    })
}

fn header_name(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.form(node, &HEADER_NAME)
}

fn request_mirror(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("backendRef", backend);
        fields.optional("percent", |judge, node| judge.integer(node, 0..=100));
        fields.optional("fraction", fraction);
        if fields.has("percent") && fields.has("fraction") {
            fields.conflict("fraction", "percent and fraction exclude each other", "keep one of them");
        }
    })
}

fn fraction(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("numerator", |judge, node| judge.integer(node, 0..=INT32_MAX));
        fields.defaulted("denominator", 100, |judge, node| judge.integer(node, 1..=INT32_MAX));
        let number = |name: &str| fields.get(name).and_then(Value::as_i64);
        if let (Some(numerator), Some(denominator)) = (number("numerator"), number("denominator"))
            && numerator > denominator
        {
            let message = format!("numerator {numerator} is greater than denominator {denominator}");
            fields.conflict("numerator", message, "write a fraction of at most one");
        }
    })
}

fn request_redirect(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("scheme", |judge, node| judge.choice(node, &["http", "https"]));
        fields.optional("hostname", |judge, node| judge.form(node, &PRECISE_HOSTNAME));
        fields.optional("path", path_modifier);
        fields.optional("port", port);
        fields.defaulted("statusCode", 302, status_code);
    })
}

fn status_code(judge: &mut Judge, node: &Node) -> Option<Value> {
    const CODES: &[i64] = &[301, 302, 303, 307, 308];
    let value = judge.integer(node, i64::MIN..=i64::MAX)?;
    if !value.as_i64().is_some_and(|code| CODES.contains(&code)) {
        let message = format!("status code {value} is not supported");
        judge.fault(Reason::UnsupportedValue, node.place, message, "choose one of: 301, 302, 303, 307, 308");
    }
    Some(value)
}

fn url_rewrite(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("hostname", |judge, node| judge.form(node, &PRECISE_HOSTNAME));
        fields.optional("path", path_modifier);
    })
}

fn path_modifier(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("type", |judge, node| judge.choice(node, &["ReplaceFullPath", "ReplacePrefixMatch"]));
        fields.optional("replaceFullPath", |judge, node| judge.sized(node, 0..=1024));
        fields.optional("replacePrefixMatch", |judge, node| judge.sized(node, 0..=1024));
        path_modifier_fields(fields);
    })
}

fn path_modifier_fields(fields: &mut Fields) {
    let Some(written) = fields.text("type").map(str::to_owned) else { return };
    for (name, field) in [("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")] {
        match (name == written, fields.has(field)) {
            (true, false) => fields.conflict("", format!("type {name} needs {field}"), format!("add {field}")),
            (false, true) => {
                let remedy = format!("write type: {name}, or remove {field}");
                fields.conflict(field, format!("{field} does not belong to type {written}"), remedy);
            }
            _ => {}
        }
    }
}

fn cors(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("allowOrigins", |judge, node| {
            lone_star(judge, node, 64, |judge, node| judge.form(node, &ORIGIN))
        });
        fields.optional("allowCredentials", Judge::boolean);
        fields.optional("allowMethods", |judge, node| lone_star(judge, node, 9, cors_method));
        fields.optional("allowHeaders", |judge, node| lone_star(judge, node, 64, header_name));
        fields.optional("exposeHeaders", |judge, node| judge.set(node, 64, header_name));
        fields.defaulted("maxAge", 5, |judge, node| judge.integer(node, 1..=INT32_MAX));
    })
}

fn cors_method(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.choice(node, &[METHODS, &["*"]].concat())
}

/// A set in which `*` stands alone.
fn lone_star(
    judge: &mut Judge,
    node: &Node,
    max: usize,
    item: fn(&mut Judge, &Node) -> Option<Value>,
) -> Option<Value> {
    let value = judge.set(node, max, item)?;
    let items = value.as_array()?;
    if items.len() > 1 && items.iter().any(|item| item == "*") {
        judge.conflict(node.place, "'*' stands beside others", "write '*' alone, or leave it out");
    }
    Some(value)
}

fn external_auth(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("protocol", |judge, node| judge.choice(node, &["HTTP", "GRPC"]));
        fields.required("backendRef", backend);
        fields.optional("grpc", |judge, node| {
            judge.object(node, |fields| fields.optional("allowedHeaders", any_headers))
        });
        fields.optional("http", auth_http);
        fields.optional("forwardBody", |judge, node| {
            judge.object(node, |fields| {
                fields.optional("maxSize", |judge, node| judge.integer(node, 0..=INT32_MAX));
            })
        });
        auth_protocol(fields);
    })
}

fn auth_protocol(fields: &mut Fields) {
    let Some(written) = fields.text("protocol").map(str::to_owned) else { return };
    for (name, field) in [("GRPC", "grpc"), ("HTTP", "http")] {
        match (name == written, fields.has(field)) {
            (true, false) => {
                fields.conflict("", format!("protocol {name} needs {field}"), format!("add {field}: {{}}"))
            }
            (false, true) => {
                let remedy = format!("write protocol: {name}, or remove {field}");
                fields.conflict(field, format!("{field} does not belong to protocol {written}"), remedy);
            }
            _ => {}
        }
    }
}

fn auth_http(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("path", |judge, node| judge.form(node, &AUTH_PATH));
        fields.optional("allowedHeaders", any_headers);
        fields.optional("allowedResponseHeaders", any_headers);
    })
}

fn any_headers(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.set(node, 64, Judge::string)
}
