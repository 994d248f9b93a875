//! acme-dns: a server whose zone holds nothing but challenges, with an account for each name.

use dns_update::http::HttpClientBuilder;
use serde::Deserialize;
use serde_json::json;

use super::{provider::REQUEST, settings::Settings};

/// The server, and the accounts by name that a Secret holds.
pub struct AcmeDns {
    host: String,
    accounts: std::collections::BTreeMap<String, Account>,
}

#[derive(Deserialize)]
struct Account {
    username: String,
    password: String,
    subdomain: String,
}

impl AcmeDns {
    pub fn new(settings: &Settings) -> Result<AcmeDns, String> {
        let host = settings.need("host")?;
        let accounts = serde_json::from_str(&settings.need("account")?).map_err(|error| {
            // Not the error's own words: they may quote what is in the Secret.
            let place = format!("line {}, column {}", error.line(), error.column());
            format!("acmeDNS.accountSecretRef: the entry is no JSON of acme-dns accounts by name ({place})")
        })?;
        let host = if host.contains("://") { host } else { format!("https://{host}") };
        Ok(AcmeDns { host: host.trim_end_matches('/').to_owned(), accounts })
    }

    /// Sets a value; the server keeps the last two of an account, and so there is nothing to remove.
    pub async fn update(&self, domain: &str, value: &str) -> Result<(), String> {
        let account = self.accounts.get(domain).ok_or_else(|| {
            format!("acmeDNS.accountSecretRef: has no account for {domain}: register one, and add it under that name")
        })?;
        let client = HttpClientBuilder::new()
            .with_header("x-api-user", &account.username)
            .with_header("x-api-key", &account.password)
            .with_timeout(Some(REQUEST))
            .build();
        let request = client.post(format!("{}/update", self.host));
        let request = request.with_body(json!({"subdomain": account.subdomain, "txt": value}));
        let answered = request.map_err(|error| error.to_string())?.send_raw().await;
        answered.map(drop).map_err(|error| format!("acmeDNS: {}: {error}", self.host))
    }
}
