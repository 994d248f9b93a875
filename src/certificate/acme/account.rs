//! Accounts at ACME servers: one for each issuer, its key kept as the Secret that the issuer names.

use std::collections::BTreeMap;

use instant_acme::{Account, Error, ExternalAccountKey, Key, NewAccount};
use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;
use zeroize::Zeroizing;

use super::{client::Client, fault};
use crate::{
    api::ObjectKey,
    certificate::{
        decide::back_off,
        event::{Event, Failure},
        key::pem,
        secret::opaque,
        store::Store,
        task::blocking,
    },
    graph::issuance::{AccountState, Issuance, Issuer, Method, issuer::Acme},
    manifest::Object,
};

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

    /// Registers what is not registered. The time at which to ask again.
    pub fn want(
        &mut self,
        issuance: &Issuance,
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
            wake = wake.into_iter().chain(self.want_one(issuer, acme, store, now, events)).min();
        }
        self.entries.retain(|key, _| there.contains(key));
        wake
    }

    fn want_one(
        &mut self,
        issuer: &Issuer,
        acme: &Acme,
        store: &Store,
        now: Timestamp,
        events: &UnboundedSender<Event>,
    ) -> Option<Timestamp> {
        let (digest, key) = (digest(acme), acme.account_key.as_deref().map(hash));
        let entry = self.entries.entry(issuer.key.clone()).or_default();
        if entry.digest != digest || entry.account.is_some() && entry.key != key {
            *entry = Entry { digest: digest.clone(), email: acme.spec.email.clone(), ..Entry::default() };
        }
        let bound = acme.spec.external_account_binding.is_some() && acme.external_account.is_none();
        let keyless = acme.spec.disable_account_key_generation && acme.account_key.is_none();
        if entry.account.is_some() || entry.asking || bound || keyless {
            return None;
        }
        if let Some(time) = entry.not_before.filter(|time| *time > now) {
            return Some(time);
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
        result: Result<(Account, Option<Box<Object>>), Failure>,
        now: Timestamp,
    ) -> Option<Object> {
        let entry = self.entries.get_mut(&issuer).filter(|entry| entry.digest == digest)?;
        entry.asking = false;
        match result {
            Ok((account, secret)) => {
                tracing::info!(issuer = %issuer, account = account.id(), "account registered");
                entry.account = Some(account);
                (entry.problem, entry.failures, entry.not_before) = (None, 0, None);
                let secret = secret.map(|secret| *secret)?;
                let values = secret.value["data"].as_object().into_iter().flat_map(|data| data.values());
                let text = values.filter_map(|value| crate::api::core::decode(value.as_str()?)).next();
                entry.key = text.as_deref().map(hash);
                Some(secret)
            }
            Err(failure) => {
                entry.failures += 1;
                let wait = back_off(failure.cause, entry.failures, failure.retry_after, fastrand::u16(..));
                entry.not_before = now.checked_add(wait).ok();
                entry.problem = Some(failure.message);
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

async fn register(acme: &Acme, namespace: &str, store: &Store) -> Result<(Account, Option<Box<Object>>), Failure> {
    let fault = |error: Error| fault::failure("registering the account", error);
    let client = || Client::new(&acme.spec).map(Box::new).map_err(Failure::local);
    let contact = format!("mailto:{}", acme.spec.email);
    let contacts: &[&str] = if acme.spec.email.is_empty() { &[] } else { &[&contact] };
    if let Some(pem) = &acme.account_key {
        let account = by_key(acme, pem, &client).await?;
        if !contacts.is_empty() {
            account.update_contacts(contacts).await.map_err(fault)?;
        }
        return Ok((account, None));
    }
    let room = store.clone();
    let checked = blocking(move || room.check()).await?;
    checked.map_err(|error| Failure::local(format!("the account's key could not be kept: {error}")))?;
    let new = NewAccount { contact: contacts, terms_of_service_agreed: true, only_return_existing: false };
    let external = acme.external_account.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
    let builder = Account::builder_with_http(client()?);
    let created = builder.create(&new, acme.spec.server.clone(), external.as_ref()).await;
    let (account, credentials) = created.map_err(fault)?;
    let text = pem("PRIVATE KEY", credentials.private_key().secret_pkcs8_der());
    let key = ObjectKey::new("Secret", namespace, &acme.spec.private_key_secret_ref.name);
    let manifest = opaque(namespace, &key.name, acme.key_entry(), &text);
    let store = store.clone();
    let kept = blocking(move || store.put_secret(&key, &manifest)).await?;
    let secret = kept.map_err(|error| Failure::local(format!("the account's key cannot be kept: {error}")))?;
    Ok((account, Some(Box::new(secret))))
}

/// The account of a key that is there; made where the server does not know it.
async fn by_key(
    acme: &Acme,
    pem: &[u8],
    client: &impl Fn() -> Result<Box<Client>, Failure>,
) -> Result<Account, Failure> {
    let builder = Account::builder_with_http(client()?);
    let found = builder.from_key(account_key(pem)?, acme.spec.server.clone()).await;
    match found {
        Ok((account, _)) => Ok(account),
        Err(Error::Api(problem)) if fault::kind(&problem) == "accountDoesNotExist" => {
            let builder = Account::builder_with_http(client()?);
            let created = builder.create_from_key(account_key(pem)?, acme.spec.server.clone()).await;
            match created {
                Ok((account, _)) => Ok(account),
                Err(error) => Err(fault::failure("registering the account", error)),
            }
        }
        Err(error) => Err(fault::failure("looking up the account", error)),
    }
}

/// The library signs with ECDSA on P-256 alone.
fn account_key(pem: &[u8]) -> Result<(Key, PrivateKeyDer<'static>), Failure> {
    let wrong =
        || Failure::local("the account's key is no ECDSA key on P-256 in PEM: remove its Secret, or replace it");
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
    let pair = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| wrong())?;
    let pkcs8 = Zeroizing::new(pair.serialize_der());
    let key = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(|_| wrong())?;
    Ok((key, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()))))
}
