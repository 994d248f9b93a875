//! Accounts at ACME servers: one for each issuer, its key kept as the Secret that the issuer names.

use std::collections::{BTreeMap, BTreeSet};

use instant_acme::{Account, Error, ExternalAccountKey, Key, NewAccount};
use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;
use zeroize::Zeroizing;

use super::{
    client::Client,
    fault, rollover,
    signed::{Signer, Voice},
};
use crate::{
    api::{ObjectKey, cert_manager::ROLL_ACCOUNT_KEY_ANNOTATION},
    certificate::{
        decide::{Cause, back_off},
        event::{Event, Failure},
        key::pem,
        secret::{Texts, opaque},
        store::Store,
        task::blocking,
    },
    graph::issuance::{AccountState, Issuance, Issuer, Method, issuer::Acme},
    manifest::Object,
};

/// An account that the server knows, and what is kept of it.
pub struct Registered {
    pub account: Account,
    /// Digest of its key's PEM.
    pub key: String,
    /// Its key's Secret, where that was written.
    pub secret: Option<Box<Object>>,
}

/// The accounts of all issuers.
#[derive(Default)]
pub struct Accounts {
    entries: BTreeMap<ObjectKey, Entry>,
    /// By Certificate, as the last pass had it.
    issuers: BTreeMap<ObjectKey, ObjectKey>,
}

#[derive(Default)]
struct Entry {
    /// Of what it was registered with, but for the key.
    digest: String,
    /// Digest of the key's PEM.
    key: Option<String>,
    email: String,
    account: Option<Account>,
    problem: Option<String>,
    failures: u32,
    not_before: Option<Timestamp>,
    asking: bool,
    /// Its key is being changed: an order made now could not go on.
    changing: bool,
}

impl Accounts {
    /// The account of an issuer, once it is registered.
    pub fn get(&self, issuer: &ObjectKey) -> Option<Account> {
        self.entries.get(issuer)?.account.clone()
    }

    pub fn issuer_of(&self, certificate: &ObjectKey) -> Option<ObjectKey> {
        self.issuers.get(certificate).cloned()
    }

    /// The server does not know the account any more: it is registered anew.
    pub fn forget(&mut self, issuer: &ObjectKey) {
        self.entries.remove(issuer);
    }

    /// What *resolve* knows of them.
    pub fn states(&self) -> BTreeMap<ObjectKey, AccountState> {
        let state = |entry: &Entry| AccountState {
            uri: entry.account.as_ref().map(|account| account.id().to_owned()),
            email: entry.email.clone(),
            problem: entry.problem.clone(),
        };
        self.entries.iter().map(|(key, entry)| (key.clone(), state(entry))).collect()
    }

    /// Issuers that are to be asked for nothing new.
    pub fn changing(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.entries.iter().filter(|(_, entry)| entry.changing).map(|(key, _)| key.clone())
    }

    /// Registers what is not registered, and changes keys where that is asked for, of issuers that are not `busy` with
    /// orders. The time at which to ask again.
    pub fn want(
        &mut self,
        issuance: &Issuance,
        busy: &BTreeSet<ObjectKey>,
        store: &Store,
        now: Timestamp,
        events: &UnboundedSender<Event>,
    ) -> Option<Timestamp> {
        let issuers =
            issuance.wanted.iter().filter_map(|one| Some((one.key.clone(), one.issuer.as_ref().ok()?.key.clone())));
        self.issuers = issuers.collect();
        let mut wake = None;
        let mut there = Vec::new();
        for issuer in &issuance.issuers {
            let Method::Acme(acme) = &issuer.method else { continue };
            there.push(issuer.key.clone());
            wake = wake.into_iter().chain(self.want_one((issuer, acme), busy, store, now, events)).min();
        }
        self.entries.retain(|key, _| there.contains(key));
        wake
    }

    fn want_one(
        &mut self,
        (issuer, acme): (&Issuer, &Acme),
        busy: &BTreeSet<ObjectKey>,
        store: &Store,
        now: Timestamp,
        events: &UnboundedSender<Event>,
    ) -> Option<Timestamp> {
        let (digest, key) = (digest(acme), acme.account_key.as_deref().map(hash));
        let entry = self.entries.entry(issuer.key.clone()).or_default();
        if entry.digest != digest || entry.account.is_some() && entry.key != key {
            let (digest, email, asking) = (digest.clone(), acme.spec.email.clone(), entry.asking);
            *entry = Entry { digest, email, asking, ..Entry::default() };
        }
        let bound = acme.spec.external_account_binding.is_some() && acme.external_account.is_none();
        let keyless = acme.spec.disable_account_key_generation && acme.account_key.is_none();
        let changes = acme.changes_key();
        entry.changing = changes && entry.asking;
        if entry.account.is_some() && !changes || entry.asking || bound || keyless {
            return None;
        }
        if let Some(time) = entry.not_before.filter(|time| *time > now) {
            return Some(time);
        }
        entry.changing = changes;
        if changes && busy.contains(&issuer.key) {
            return None;
        }
        (entry.asking, entry.key) = (true, key);
        let (key, acme, namespace) = (issuer.key.clone(), acme.clone(), issuer.namespace.clone());
        let (store, events) = (store.clone(), events.clone());
        tokio::spawn(async move {
            let result = register(&acme, &namespace, &store).await;
            // Without an engine nobody is left to hear.
            let _ = events.send(Event::Account { issuer: key, digest, result });
        });
        None
    }

    /// Takes what came of a registration; the Secret of a new key is handed back.
    pub fn heard(
        &mut self,
        issuer: ObjectKey,
        digest: &str,
        result: Result<Registered, Failure>,
        now: Timestamp,
    ) -> Option<Object> {
        let mut entry = self.entries.get_mut(&issuer);
        if let Some(entry) = &mut entry {
            (entry.asking, entry.changing) = (false, false);
        }
        let Some(entry) = entry.filter(|entry| entry.digest == digest) else {
            // Something else is asked for by now; a key that was written is there all the same.
            return result.ok()?.secret.map(|secret| *secret);
        };
        match result {
            Ok(Registered { account, key, secret }) => {
                tracing::info!(issuer = %issuer, account = account.id(), "account registered");
                (entry.account, entry.key) = (Some(account), Some(key));
                (entry.problem, entry.failures, entry.not_before) = (None, 0, None);
                secret.map(|secret| *secret)
            }
            Err(failure) => {
                entry.failures += 1;
                let wait = back_off(failure.cause, entry.failures, failure.retry_after, fastrand::u16(..));
                entry.not_before = now.checked_add(wait).ok();
                entry.problem = Some(failure.message);
                if failure.cause != Cause::Refused {
                    // Which key the account has is not known before the next try.
                    entry.account = None;
                }
                None
            }
        }
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of all that an account is registered with.
fn digest(acme: &Acme) -> String {
    let spec = &acme.spec;
    let external = acme.external_account.as_ref().map(|(id, key)| (id, hash(key)));
    let text = json!([spec.server, spec.email, spec.ca_bundle, spec.skip_tls_verify, external]).to_string();
    hash(text.as_bytes())
}

async fn register(acme: &Acme, namespace: &str, store: &Store) -> Result<Registered, Failure> {
    let fault = |error: Error| fault::failure("registering the account", error);
    let contacts = contacts(acme);
    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let secret = ObjectKey::new("Secret", namespace, &acme.spec.private_key_secret_ref.name);
    if let (Some(old), Some(next)) = (&acme.account_key, &acme.next_key) {
        return rollover::change(acme, (old, next), secret, store).await;
    }
    if let Some(pem) = &acme.account_key {
        let account = by_key(acme, pem).await?;
        account.update_contacts(&contacts).await.map_err(fault)?;
        return match acme.rolls {
            true => rollover::prepare(acme, account, secret, store).await,
            false => Ok(Registered { account, key: hash(pem), secret: None }),
        };
    }
    let room = store.clone();
    let checked = blocking(move || room.check()).await?;
    checked.map_err(|error| Failure::local(format!("the account's key could not be kept: {error}")))?;
    let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let external = acme.external_account.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
    let builder = Account::builder_with_http(client(acme)?);
    let created = builder.create(&new, acme.spec.server.clone(), external.as_ref()).await;
    let (account, credentials) = created.map_err(fault)?;
    let pem = pem("PRIVATE KEY", credentials.private_key().secret_pkcs8_der());
    let text = opaque(&secret, marks(acme), &[(acme.key_entry(), pem.as_bytes())]);
    keep(account, pem.as_bytes(), secret, text, store).await
}

/// The annotations of a new key's Secret.
pub(super) fn marks(acme: &Acme) -> Texts {
    let mark = (ROLL_ACCOUNT_KEY_ANNOTATION.to_owned(), acme.key_mark.clone());
    std::iter::once(mark).filter(|(_, value)| !value.is_empty()).collect()
}

/// Writes the Secret of an account's key; when it returns, it is durable.
pub(super) async fn keep(
    account: Account,
    pem: &[u8],
    secret: ObjectKey,
    text: Zeroizing<String>,
    store: &Store,
) -> Result<Registered, Failure> {
    let store = store.clone();
    let kept = blocking(move || store.put_secret(&secret, &text)).await?;
    let secret = kept.map_err(|error| Failure::local(format!("the account's key cannot be kept: {error}")))?;
    Ok(Registered { account, key: hash(pem), secret: Some(Box::new(secret)) })
}

fn contacts(acme: &Acme) -> Option<String> {
    Some(format!("mailto:{}", acme.spec.email)).filter(|_| !acme.spec.email.is_empty())
}

fn client(acme: &Acme) -> Result<Box<Client>, Failure> {
    Client::new(&acme.spec).map(Box::new).map_err(Failure::local)
}

/// The account of a key, if the server knows it.
pub(super) async fn find(acme: &Acme, pem: &[u8]) -> Result<Option<Account>, Failure> {
    let builder = Account::builder_with_http(client(acme)?);
    match builder.from_key(account_key(pem)?, acme.spec.server.clone()).await {
        Ok((account, _)) => Ok(Some(account)),
        Err(Error::Api(problem)) if fault::kind(&problem) == "accountDoesNotExist" => Ok(None),
        Err(error) => Err(fault::failure("looking up the account", error)),
    }
}

/// The account of a key that is there; made where the server does not know it.
pub(super) async fn by_key(acme: &Acme, pem: &[u8]) -> Result<Account, Failure> {
    if let Some(account) = find(acme, pem).await? {
        return Ok(account);
    }
    let fault = |error| fault::failure("registering the account", error);
    if let Some((id, key)) = &acme.external_account {
        let voice = Voice::new(*client(acme)?, &acme.spec.server, None, signer(pem)?).await.map_err(fault)?;
        voice.register(contacts(acme).as_slice(), (id, key)).await.map_err(fault)?;
        let unknown = || Failure::new(Cause::Unreachable, "the server does not know the account that it made");
        return find(acme, pem).await?.ok_or_else(unknown);
    }
    let builder = Account::builder_with_http(client(acme)?);
    let created = builder.create_from_key(account_key(pem)?, acme.spec.server.clone()).await;
    created.map(|(account, _)| account).map_err(fault)
}

/// The library signs with ECDSA on P-256 alone.
fn account_key(pem: &[u8]) -> Result<(Key, PrivateKeyDer<'static>), Failure> {
    let pkcs8 = pkcs8(pem)?;
    let key = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(|_| wrong_key())?;
    Ok((key, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()))))
}

/// What signs with an account's key where the library does not.
pub(super) fn signer(pem: &[u8]) -> Result<Signer, Failure> {
    Signer::new(&pkcs8(pem)?).map_err(|_| wrong_key())
}

fn pkcs8(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong_key())?;
    let pair = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| wrong_key())?;
    Ok(Zeroizing::new(pair.serialize_der()))
}

fn wrong_key() -> Failure {
    Failure::local("the account's key is no ECDSA key on P-256 in PEM: remove its Secret, or replace it")
}
