//! One issuance from its start to the Secret on disk.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::{
    acme,
    decide::Cause,
    dns::{authority::Resolvers, record::Records},
    event::{Done, Event, Failure, Link},
    secret,
    sign::{self, Issued},
    store::{Order, Store},
};
use crate::{
    api::core::Secret,
    graph::issuance::{Method, Wanted, form_digest, request_digest},
    manifest::Object,
};

/// What is to be issued, and what with.
pub struct Job {
    pub wanted: Wanted,
    pub store: Store,
    /// The order that an earlier run left.
    pub order: Option<Order>,
    /// Of the ACME server.
    pub account: Option<instant_acme::Account>,
    pub records: Records,
    /// Who is asked about challenges in DNS.
    pub resolvers: Resolvers,
}

/// Issues, keeps, and tells what came of it.
pub async fn run(job: Job, link: Link) {
    let event = match issue(&job, &link).await {
        Ok(done) => Event::Issued { task: link.task.clone(), done: Box::new(done) },
        Err(failure) => Event::Failed { task: link.task.clone(), failure },
    };
    link.tell(event);
}

async fn issue(job: &Job, link: &Link) -> Result<Done, Failure> {
    let store = job.store.clone();
    let room = blocking(move || store.check()).await?;
    room.map_err(|error| Failure::local(format!("what is issued could not be kept: {error}")))?;
    let issuer = job.wanted.issuer.clone().map_err(Failure::local)?;
    let issued = match (&issuer.method, &job.account) {
        (Method::Acme(acme), Some(account)) => acme::obtain(job, &issuer, acme, account, link).await?,
        (Method::Acme(_), None) => return Err(Failure::local("the account is not registered yet")),
        _ => {
            link.step(format!("{} signs it", issuer.key));
            let wanted = job.wanted.clone();
            let sign = move || {
                sign::issue(&wanted.spec, &issuer.method, wanted.judgement.certificate.as_ref(), Timestamp::now())
            };
            blocking(sign).await?.map_err(|why| Failure::new(Cause::Refused, why))?
        }
    };
    let (wanted, store) = (job.wanted.clone(), job.store.clone());
    blocking(move || keep(&wanted, &store, &issued)).await?
}

/// Writes the Secret in the form that is wanted now, with the certificate that is there.
pub async fn rewrite(wanted: Wanted, secret: Arc<Object>, store: Store, link: Link) {
    let rewritten = blocking(move || match there(&wanted, &secret) {
        Some(issued) => keep(&wanted, &store, &issued),
        None => Err(Failure::local("the Secret holds no certificate")),
    });
    let event = match rewritten.await.and_then(|done| done) {
        Ok(done) => Event::Rewritten { task: link.task.clone(), done: Box::new(done) },
        Err(failure) => Event::Failed { task: link.task.clone(), failure },
    };
    link.tell(event);
}

fn there(wanted: &Wanted, secret: &Object) -> Option<Issued> {
    let certificate = wanted.judgement.certificate.as_ref()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let ca = secret.typed::<Secret>(None).ok()?.bytes("ca.crt");
    Some(Issued {
        chain: text(&certificate.chain_pem)?,
        ca: ca.as_deref().and_then(text),
        key: Zeroizing::new(text(&certificate.key_pem)?),
        remark: (!wanted.attempt.remark.is_empty()).then(|| wanted.attempt.remark.clone()),
    })
}

fn keep(wanted: &Wanted, store: &Store, issued: &Issued) -> Result<Done, Failure> {
    let text = secret::manifest(wanted, issued).map_err(|why| Failure::new(Cause::Refused, why))?;
    let key = wanted.secret();
    let fault = |error: std::io::Error| Failure::local(format!("{key} cannot be kept: {error}"));
    let secret = store.put_secret(&key, &text).map_err(fault)?;
    if wanted.spec.is_ca {
        let pem = issued.ca.as_deref().unwrap_or(&issued.chain);
        store.put_authority(&key, pem).map_err(fault)?;
    }
    let remark = issued.remark.clone().unwrap_or_default();
    let (request, form) = (request_digest(&wanted.spec), form_digest(&wanted.spec));
    Ok(Done { secret, request, form, remark })
}

/// Runs what takes its time beside the runtime.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|error| Failure::local(format!("issuance broke off: {error}")))
}
