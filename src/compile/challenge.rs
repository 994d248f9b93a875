//! Challenges, ready to be answered.

use std::sync::Arc;

use bytes::Bytes;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use crate::{
    plan::{ChallengePlan, TlsChallengePlan},
    snapshot::Challenges,
};

/// A challenge whose certificate cannot be used is left out: its name is then refused like any other.
pub(super) fn compile(plan: &ChallengePlan) -> Challenges {
    let http = plan.http.iter();
    let tls = plan.tls.iter();
    Challenges {
        http: http.map(|(token, answer)| (token.as_str().into(), Bytes::from(answer.clone()))).collect(),
        tls: tls.filter_map(|(name, plan)| Some((name.as_str().into(), Arc::new(load(plan)?)))).collect(),
    }
}

fn load(plan: &TlsChallengePlan) -> Option<CertifiedKey> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(plan.key.clone()));
    // Not checked by rustls, which knows nothing of the critical extension that makes it a challenge.
    Some(CertifiedKey::new(vec![CertificateDer::from(plan.certificate.clone())], any_supported_type(&key).ok()?))
}
