//! Another key for an account (RFC 8555, 7.3.5), in two steps, each of which ends with a Secret on disk: the new key is
//! kept beside the old one, and only then is the server told. Whatever is cut off, one of the two keys is the account's.

use instant_acme::{Account, Error};
use serde_json::json;

use super::{
    account::{self, Registered},
    client::Client,
    fault,
    signed::Voice,
};
use crate::{
    api::ObjectKey,
    certificate::{
        decide::Cause,
        event::Failure,
        key::pem,
        secret::{Texts, opaque},
        store::Store,
    },
    graph::issuance::issuer::Acme,
};

/// Makes the key that is to follow `old`, and keeps it beside.
pub async fn prepare(acme: &Acme, account: Account, secret: ObjectKey, store: &Store) -> Result<Registered, Failure> {
    let Some(old) = acme.account_key.as_deref() else { return Err(Failure::local("the account's key is gone")) };
    let (_, next) = instant_acme::Key::generate_pkcs8().map_err(|error| Failure::local(error.to_string()))?;
    let next = pem("PRIVATE KEY", next.secret_pkcs8_der());
    let entries: [(&str, &[u8]); 2] = [(acme.key_entry(), old), (&acme.next_key_entry(), next.as_bytes())];
    // The mark comes with the change itself.
    let text = opaque(&secret, Texts::new(), &entries);
    account::keep(account, old, secret, text, store).await
}

/// Has the server take `next` in place of `old`, unless it did before, and keeps it alone.
pub async fn change(
    acme: &Acme,
    (old, next): (&[u8], &[u8]),
    secret: ObjectKey,
    store: &Store,
) -> Result<Registered, Failure> {
    let account = match account::find(acme, next).await? {
        Some(account) => account,
        None => {
            let account = account::by_key(acme, old).await?;
            let fault = |error| fault::failure("changing the account's key", error);
            replace(acme, account.id(), old, next).await.map_err(fault)?;
            let unknown = || Failure::new(Cause::Unreachable, "the server does not know the account's new key");
            account::find(acme, next).await?.ok_or_else(unknown)?
        }
    };
    let text = opaque(&secret, account::marks(acme), &[(acme.key_entry(), next)]);
    let registered = account::keep(account, next, secret, text, store).await?;
    tracing::info!(account = registered.account.id(), "the account has another key");
    Ok(registered)
}

async fn replace(acme: &Acme, account: &str, old: &[u8], next: &[u8]) -> Result<(), Error> {
    let signer = |pem| account::signer(pem).map_err(|failure| Error::Other(failure.message.into()));
    let client = Client::new(&acme.spec).map_err(|why| Error::Other(why.into()))?;
    let voice = Voice::new(client, &acme.spec.server, Some(account), signer(old)?).await?;
    let url = voice.key_change().ok_or(Error::Unsupported("keyChange"))?;
    let next = signer(next)?;
    let payload = json!({ "account": account, "oldKey": voice.signer().public() });
    let inner = next.sign(json!({ "jwk": next.public(), "url": url }), Some(&payload))?;
    voice.post(url, Some(&inner)).await.map(|_| ())
}
