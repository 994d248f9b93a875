//! Chains and keys, from PEM to what rustls presents.

use std::sync::Arc;

use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Compiler, error};
use crate::plan::CertificatePlan;

impl Compiler {
    /// The loaded certificate; none, and a finding, when it cannot be used.
    pub(super) fn certificate(&mut self, plan: &CertificatePlan) -> Option<Arc<CertifiedKey>> {
        if let Some(known) = self.certificates.get(&plan.digest) {
            return known.clone();
        }
        let loaded = match load(plan) {
            Ok(key) => Some(Arc::new(key)),
            Err(why) => {
                let message = format!("Secret {}: its certificate cannot be used: {why}", plan.key);
                let remedy = "replace tls.crt and tls.key by a PEM chain and the private key that belongs to it";
                self.findings.push(error("InvalidCertificate", message, remedy));
                None
            }
        };
        self.certificates.insert(plan.digest.clone(), loaded.clone());
        loaded
    }
}

fn load(plan: &CertificatePlan) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(&plan.chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the chain is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the chain has no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&plan.key_pem).map_err(|error| format!("the key is not PEM: {error}"))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| format!("the key: {error}"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Version 1, of which rustls reads nothing, is served all the same: *resolve* found that the two belong together.
        Ok(())
        | Err(
            rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown) | rustls::Error::InvalidCertificate(_),
        ) => Ok(certified),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_version_1_are_loaded() {
        let pem = include_bytes!("../../tests/support/version-1.pem").to_vec();
        let plan =
            CertificatePlan { key: "default/old".into(), digest: String::new(), chain_pem: pem.clone(), key_pem: pem };
        assert!(load(&plan).is_ok());
    }
}
