//! The forms of text that the CRDs ask for, each as a predicate with the words that a person needs.
//!
//! The CRDs write them as regular expressions; where one of those is not anchored as it was surely meant, the predicate
//! follows the expression and not the intention, since the manifests must mean the same here and in a cluster.

use std::ops::RangeInclusive;

/// A form of text: its length in characters, and what must hold of it.
pub struct Form {
    /// "a DNS label (…)": completes "… is not".
    pub name: &'static str,
    /// Completes "write …".
    pub remedy: &'static str,
    pub length: RangeInclusive<usize>,
    pub holds: fn(&str) -> bool,
}

/// API group: empty for core, else a DNS subdomain.
pub const GROUP: Form = Form {
    name: "an API group",
    remedy: "\"\" for core, or a lower-case DNS name such as gateway.networking.k8s.io",
    length: 0..=253,
    holds: |text| text.is_empty() || dns_names(text),
};

/// Kind of an object.
pub const KIND: Form = Form {
    name: "a kind",
    remedy: "a letter, then letters, digits and '-': Service",
    length: 1..=63,
    holds: |text| text.starts_with(|c: char| c.is_ascii_alphabetic()) && alphanumeric_with_dashes(text),
};

/// Namespace: a DNS label.
pub const NAMESPACE: Form =
    Form { name: "a namespace name", remedy: "lower-case letters, digits and '-'", length: 1..=63, holds: dns_label };

/// Name of a listener, a rule or a section.
pub const SECTION_NAME: Form = Form {
    name: "a section name",
    remedy: "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    length: 1..=253,
    holds: dns_names,
};

/// Hostname, which may begin with `*.`.
pub const HOSTNAME: Form = Form {
    name: "a hostname",
    remedy: "a lower-case DNS name without port and final dot; '*' only as the whole first label: *.example.com",
    length: 1..=253,
    holds: wildcard_hostname,
};

/// Hostname without wildcard.
pub const PRECISE_HOSTNAME: Form = Form {
    name: "a hostname without wildcard",
    remedy: "a lower-case DNS name without port and final dot: www.example.com",
    length: 1..=253,
    holds: dns_names,
};

/// `spec.controllerName` of a GatewayClass.
pub const CONTROLLER_NAME: Form = Form {
    name: "a controller name",
    remedy: "a domain and a path: gapi.dev/gateway-controller",
    length: 1..=253,
    holds: |text| text.split_once('/').is_some_and(|(domain, path)| dns_names(domain) && uri_path(path)),
};

/// Name of a header, a query parameter or a cookie: an RFC 9110 token.
pub const HEADER_NAME: Form = Form {
    name: "a header name",
    remedy: "letters, digits and !#$%&'*+-.^_`|~, without spaces and colons",
    length: 1..=256,
    holds: |text| !text.is_empty() && text.bytes().all(token_byte),
};

/// Value of a header: visible ASCII with single spaces or tabs inside.
pub const HEADER_VALUE: Form = Form {
    name: "a header value",
    remedy: "visible ASCII characters, with no more than one space or tab between them",
    length: 1..=4096,
    holds: header_value,
};

/// Duration of GEP-2257.
pub const DURATION: Form = Form {
    name: "a duration",
    remedy: "one to four whole numbers, each with its unit h, m, s or ms: 1h30m, 500ms",
    length: 0..=usize::MAX,
    holds: |text| duration(text).is_some(),
};

/// Path of an external authorisation request.
pub const AUTH_PATH: Form = Form {
    name: "a URI path",
    remedy: "unreserved characters, slashes and %XX escapes",
    length: 0..=1024,
    holds: path_characters,
};

/// `cors.allowOrigins[]`.
pub const ORIGIN: Form = Form {
    name: "an origin",
    remedy: "'*', or scheme, host and perhaps port: https://www.example.com, https://*.example.com:8443",
    length: 1..=253,
    holds: origin,
};

/// Type of a Gateway address.
pub const ADDRESS_TYPE: Form = Form {
    name: "an address type",
    remedy: "IPAddress, Hostname, NamedAddress or a type with a domain: example.com/kind",
    length: 1..=253,
    holds: address_type,
};

/// Protocol of a listener.
pub const PROTOCOL: Form = Form {
    name: "a protocol",
    remedy: "HTTP, HTTPS, TLS, TCP, UDP or a protocol with a domain: example.com/proto",
    length: 1..=255,
    holds: protocol,
};

/// Value of a label.
pub const LABEL_VALUE: Form = Form {
    name: "a label value",
    remedy: "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    length: 0..=63,
    holds: |text| text.is_empty() || label_name(text),
};

/// A DNS label of RFC 1123 in lower case, of any length.
pub fn dns_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// DNS labels with dots between, of any length.
pub fn dns_names(text: &str) -> bool {
    text.split('.').all(dns_label)
}

/// DNS labels, perhaps after `*.`.
pub fn wildcard_hostname(text: &str) -> bool {
    dns_names(text.strip_prefix("*.").unwrap_or(text))
}

/// The name part of a label or annotation key, and the form of label values: `[A-Za-z0-9]` at the edges, `-_.` inside.
pub fn label_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// The characters that an `Exact` or `PathPrefix` path may hold, at least one of them.
pub fn path_characters(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'%' if bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => 3,
            byte if byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(byte) => 1,
            _ => return false,
        };
    }
    !bytes.is_empty()
}

/// An IPv4 or IPv6 address without zone; the server still takes IPv4 numbers with leading zeros, and reads them as
/// decimal.
pub fn ip_address(text: &str) -> bool {
    let (before, last) = text.rsplit_once(':').map_or(("", text), |(before, last)| (before, last));
    let octet = |octet: &str| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0".to_owned(),
        digits => digits.to_owned(),
    };
    let dotted: Vec<String> = last.split('.').map(octet).collect();
    let plain = match (dotted.len(), before) {
        (1, _) => text.to_owned(),
        (_, "") if !text.contains(':') => dotted.join("."),
        _ => format!("{before}:{}", dotted.join(".")),
    };
    plain.parse::<std::net::IpAddr>().is_ok()
}

/// Milliseconds of a duration of GEP-2257; none where the text is not one.
pub fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut parts, mut total) = (text, 0, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = match rest.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            _ => return None,
        };
        rest = &rest[length..];
        total += number * unit;
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(total)
}

fn alphanumeric_with_dashes(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn uri_path(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte))
}

fn header_value(text: &str) -> bool {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = text.as_bytes();
    let edges = bytes.first().is_some_and(|byte| !blank(byte)) && bytes.last().is_some_and(|byte| !blank(byte));
    edges
        && bytes.iter().all(|byte| byte.is_ascii_graphic() || blank(byte))
        && bytes.windows(2).all(|pair| !(blank(&pair[0]) && blank(&pair[1])))
}

fn origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    let host = match rest.split_once(':') {
        Some((host, port)) if (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return false,
        None => rest,
    };
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    host == "*" || host.strip_prefix("*.").unwrap_or(host).split('.').all(label)
}

/// Not anchored in the CRD: `HostnameX` and `x IPAddress y` pass.
fn address_type(text: &str) -> bool {
    text.starts_with("Hostname")
        || text.contains("IPAddress")
        || text.contains("NamedAddress")
        || after_domain(text, uri_path)
}

/// Its second alternative is not anchored at the left in the CRD: `!! x/y` passes.
fn protocol(text: &str) -> bool {
    let name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    alphanumeric_with_dashes(text) || after_domain(text, name)
}

/// Whether some slash stands behind the last character of a domain, and `rest` holds of all behind it.
fn after_domain(text: &str, rest: fn(&str) -> bool) -> bool {
    let domain_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.match_indices('/').any(|(at, _)| {
        at.checked_sub(1).is_some_and(|before| domain_end(&text.as_bytes()[before])) && rest(&text[at + 1..])
    })
}
