//! Names that fit where a DNS label has to stand: Services' names and labels' values.

use sha2::{Digest, Sha256};

/// Says of which Gateway a generated object is (GEP-1762).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// What a Service's name, and a label's value, may have.
const MAX_LABEL: usize = 63;
/// Hexadecimal characters of a digest behind a name that was changed.
const DIGEST: usize = 10;

/// `name`, cut where it is too long, then ending in a digest of the whole.
pub fn label(name: &str) -> String {
    distinct(name, name)
}

/// The same for a Service's name, which has no dots.
pub fn service_name(name: &str) -> String {
    distinct(name, &name.replace('.', "-"))
}

fn distinct(name: &str, plain: &str) -> String {
    if plain.len() <= MAX_LABEL && plain == name {
        return plain.to_string();
    }
    let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).take(DIGEST / 2).collect();
    let cut = &plain[..plain.len().min(MAX_LABEL - DIGEST - 1)];
    format!("{}-{digest}", cut.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_apart() {
        assert_eq!(service_name("gapi-echo"), "gapi-echo");
        let long = service_name(&"a".repeat(253));
        assert_eq!(long.len(), 63);
        assert_ne!(long, service_name(&"a".repeat(252)));
        assert_ne!(service_name("gapi-a.b"), service_name("gapi-a-b"));
        assert!(!service_name("gapi-a.b").contains('.'));
        assert_eq!(label("a.b"), "a.b");
    }
}
