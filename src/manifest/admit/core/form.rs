//! Forms of text that only the core kinds ask for.

use crate::manifest::admit::{
    metadata::qualified_name,
    text::{Form, dns_label, dns_names},
};

/// Name of a port, hostname of an endpoint.
pub const LABEL: Form = Form {
    name: "a DNS label",
    remedy: "at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
    length: 1..=63,
    holds: dns_label,
};

/// Name of a node.
pub const SUBDOMAIN: Form = Form {
    name: "a DNS name",
    remedy: "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    length: 1..=253,
    holds: dns_names,
};

/// Application protocol, class of a load balancer.
pub const QUALIFIED_NAME: Form = Form {
    name: "a qualified name",
    remedy: "letters, digits, '-', '_' and '.', perhaps after a lower-case domain and '/': kubernetes.io/h2c",
    length: 1..=317,
    holds: qualified_name,
};

/// Name of a container's port.
pub const PORT_NAME: Form = Form {
    name: "a port name",
    remedy: "lower-case letters, digits and single '-' inside, with at least one letter",
    length: 1..=15,
    holds: port_name,
};

/// Where a Service of type ExternalName leads; the final dot of a fully qualified name may be there.
pub const EXTERNAL_NAME: Form = Form {
    name: "a DNS name",
    remedy: "lower-case letters, digits, '-' and '.': db.example.com",
    length: 1..=254,
    holds: |text| {
        let name = text.strip_suffix('.').unwrap_or(text);
        name.len() <= 253 && dns_names(name)
    },
};

/// An endpoint that is named, not numbered.
pub const DOMAIN_NAME: Form = Form {
    name: "a domain name",
    remedy: "at least two labels of lower-case letters, digits and '-': db.example.com",
    length: 1..=254,
    holds: |text| {
        let name = text.strip_suffix('.').unwrap_or(text);
        name.len() <= 253 && name.contains('.') && name.split('.').all(|label| label.len() <= 63 && dns_label(label))
    },
};

/// Key of an entry of a Secret or ConfigMap: the name of the file it would be.
pub const KEY: Form = Form {
    name: "a key for an entry",
    remedy: "at most 253 letters, digits, '-', '_' and '.', not beginning with '..'",
    length: 1..=253,
    holds: |text| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        text.bytes().all(byte) && text != "." && !text.starts_with("..")
    },
};

fn port_name(text: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(byte)
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-')
}
