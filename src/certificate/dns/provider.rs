//! Who changes the zone.

use std::{future::Future, net::SocketAddr, time::Duration};

use dns_update::{DnsRecord, DnsRecordType, DnsUpdater};
use serde_json::Value;
use tokio::{task::spawn_blocking, time::timeout};
use zeroize::Zeroizing;

use super::{
    acme_dns::AcmeDns, block, cloudflare::Cloudflare, exec::Program, record::Record, settings::Settings, webhook,
};
use crate::graph::issuance::{
    dns01::{Secrets, fault, references},
    provider::{EXEC, GROUP},
};

/// Of one request to an API.
pub const REQUEST: Duration = Duration::from_secs(30);
/// Of one change, which may be several requests. Programs have a time of their own.
const CHANGE: Duration = Duration::from_secs(90);
/// Of what an API says, so much is told.
const MAX_MESSAGE: usize = 1000;

const KEY: &str = "check email and the Secret of apiKeySecretRef";

/// A solver's provider, with its secrets. They never reach a log: it has no `Debug`.
pub struct Provider {
    kind: Kind,
    name: String,
    /// What is blacked out in what is told.
    secrets: Vec<Zeroizing<String>>,
}

enum Kind {
    Update(Box<Update>),
    Cloudflare(Cloudflare),
    AcmeDns(AcmeDns),
    Exec(Program),
}

/// A provider of `dns-update`.
pub struct Update {
    updater: DnsUpdater,
    ttl: u32,
    remedy: &'static str,
    /// The zone's name where the solver says it.
    pub zone: Option<String>,
}

impl Update {
    pub fn new(updater: DnsUpdater, ttl: u32, remedy: &'static str) -> Update {
        Update { updater, ttl, remedy, zone: None }
    }
}

impl Provider {
    /// The provider of a solver. `ambient` lets it take credentials from the daemon's environment.
    ///
    /// # Errors
    /// What of the solver, or of its Secrets, does not work, with the field.
    pub async fn open(dns01: &Value, secrets: &Secrets, ambient: bool) -> Result<Provider, String> {
        if let Some(fault) = fault(dns01) {
            return Err(format!("{}: {}; {}", fault.field, fault.message, fault.remedy));
        }
        let nameserver = match dns01["rfc2136"]["nameserver"].as_str() {
            None => None,
            Some(written) => {
                let address = block::nameserver(written).await;
                Some(address.map_err(|why| format!("rfc2136.nameserver: {written}: {why}"))?)
            }
        };
        let hidden = hidden(dns01, secrets);
        let (dns01, secrets) = (dns01.clone(), secrets.clone());
        // Those that speak HTTPS read the machine's roots.
        let built = spawn_blocking(move || build(&dns01, &secrets, ambient, nameserver)).await;
        let (kind, name) = built.map_err(|error| error.to_string())?.map_err(|why| redacted(&hidden, why))?;
        Ok(Provider { kind, name, secrets: hidden })
    }

    /// The zone as the solver says it, if it does; none where this provider wants to know no zone.
    pub fn zone(&self) -> Option<Option<&str>> {
        match &self.kind {
            Kind::Update(update) => Some(update.zone.as_deref()),
            Kind::Cloudflare(_) => Some(None),
            Kind::AcmeDns(_) | Kind::Exec(_) => None,
        }
    }

    /// Puts a record beside those that are there.
    ///
    /// # Errors
    /// What the provider says, without secrets.
    pub async fn present(&self, record: &Record) -> Result<(), String> {
        let changed = match &self.kind {
            Kind::Update(update) => {
                let put = update.updater.add_to_rrset(
                    record.name.as_str(),
                    DnsRecordType::TXT,
                    update.ttl,
                    vec![DnsRecord::TXT(record.value.clone())],
                    record.zone.as_str(),
                );
                self.change(update.remedy, record, "add", put).await
            }
            Kind::Cloudflare(account) => self.change(KEY, record, "add", account.present(record)).await,
            Kind::AcmeDns(acme_dns) => acme_dns.update(&record.domain, &record.value).await,
            Kind::Exec(program) => program.run("present", record).await,
        };
        changed.map_err(|why| redacted(&self.secrets, why))
    }

    /// Takes a record away, and leaves others at the name alone.
    ///
    /// # Errors
    /// What the provider says, without secrets.
    pub async fn remove(&self, record: &Record) -> Result<(), String> {
        let changed = match &self.kind {
            Kind::Update(update) => {
                let values = vec![DnsRecord::TXT(record.value.clone())];
                let (name, zone) = (record.name.as_str(), record.zone.as_str());
                let taken = update.updater.remove_from_rrset(name, DnsRecordType::TXT, values, zone);
                self.change(update.remedy, record, "remove", taken).await
            }
            Kind::Cloudflare(account) => self.change(KEY, record, "remove", account.remove(record)).await,
            Kind::AcmeDns(_) => Ok(()),
            Kind::Exec(program) => program.run("cleanup", record).await,
        };
        changed.map_err(|why| redacted(&self.secrets, why))
    }

    async fn change(
        &self,
        remedy: &str,
        record: &Record,
        verb: &str,
        change: impl Future<Output = dns_update::Result<()>>,
    ) -> Result<(), String> {
        let said = match timeout(CHANGE, change).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CHANGE.as_secs()),
        };
        let Record { name, zone, .. } = record;
        Err(format!("{}: cannot {verb} the TXT record {name} in zone {zone}: {said}; {remedy}", self.name))
    }
}

fn build(
    dns01: &Value,
    secrets: &Secrets,
    ambient: bool,
    nameserver: Option<SocketAddr>,
) -> Result<(Kind, String), String> {
    let known =
        ["acmeDNS", "akamai", "azureDNS", "cloudDNS", "cloudflare", "digitalocean", "rfc2136", "route53", "webhook"];
    let name = known.into_iter().find(|name| dns01[*name].is_object()).ok_or("it names no provider")?;
    let settings = Settings { field: name, block: &dns01[name], secrets };
    let update = |update: Update| Kind::Update(Box::new(update));
    Ok(match name {
        "cloudflare" if settings.get("apiKey")?.is_some() => {
            (Kind::Cloudflare(Cloudflare::new(&settings)?), name.to_owned())
        }
        "acmeDNS" => (Kind::AcmeDns(AcmeDns::new(&settings)?), name.to_owned()),
        "webhook" => {
            let solver = dns01["webhook"]["solverName"].as_str().unwrap_or_default();
            let settings = Settings { field: "webhook.config", block: &dns01["webhook"]["config"], secrets };
            match solver {
                EXEC => {
                    let program = Program::new(&settings)?;
                    let name = program.name();
                    (Kind::Exec(program), name)
                }
                _ => (update(webhook::updater(solver, &settings)?), format!("webhook {GROUP} {solver}")),
            }
        }
        "rfc2136" => {
            let at = nameserver.map(|address| format!("rfc2136 at {address}")).unwrap_or_default();
            (update(block::updater(name, &settings, ambient, nameserver)?), at)
        }
        _ => (update(block::updater(name, &settings, ambient, nameserver)?), name.to_owned()),
    })
}

/// Everything secret that a solver names: the entries, and the texts in those that are JSON.
fn hidden(dns01: &Value, secrets: &Secrets) -> Vec<Zeroizing<String>> {
    fn texts(value: &Value, found: &mut Vec<Zeroizing<String>>) {
        match value {
            // What is short or the name of something is no secret.
            Value::String(text) if text.len() >= 16 => found.push(Zeroizing::new(text.clone())),
            Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
            Value::Array(items) => items.iter().for_each(|value| texts(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (_, reference) in references(dns01) {
        let Some(Ok(bytes)) = secrets.get(&reference) else { continue };
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        found.push(Zeroizing::new(text.trim().to_owned()));
        if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
            texts(&value, &mut found);
        }
    }
    // As URLs have them.
    let escaped: Vec<_> = found.iter().map(|text| Zeroizing::new(escaped(text))).collect();
    found.extend(escaped);
    found.retain(|text| text.len() >= 4);
    found.sort_by_key(|text| std::cmp::Reverse(text.len()));
    found.dedup();
    found
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// `text` in one line, without secrets.
fn redacted(secrets: &[Zeroizing<String>], text: String) -> String {
    let text = secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "[secret]"));
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cert_manager::SecretKey;
    use serde_json::json;

    #[test]
    fn secrets_are_blacked_out() {
        let reference = |key: &str| SecretKey { name: "s".into(), key: key.into() };
        let held = |text: &str| Ok(text.as_bytes().into());
        let secrets = Secrets::from([
            (reference("a"), held("to+ken/1\n")),
            (reference("b"), held("{\"private_key\": \"line one of it\\nline two\"}")),
        ]);
        let config = json!({"aSecretRef": {"name": "s", "key": "a"}, "bSecretRef": {"name": "s", "key": "b"}});
        let hidden = hidden(&json!({"webhook": {"config": config}}), &secrets);
        let told = redacted(&hidden, "https://x/?t=to%2Bken%2F1: to+ken/1 and line one of it\nline two\n!".into());
        assert_eq!(told, "https://x/?t=[secret]: [secret] and [secret] !");
    }
}
