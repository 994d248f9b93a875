//! Cloudflare by the account's email and global API key, which `dns-update` does not have. Tokens go by that.

use dns_update::http::{HttpClient, HttpClientBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{provider::REQUEST, record::Record, settings::Settings};

const API: &str = "https://api.cloudflare.com/client/v4";
const TTL: u32 = 120;

/// An account.
pub struct Cloudflare(HttpClient);

#[derive(Deserialize)]
struct Answer {
    result: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    #[serde(default)]
    content: String,
}

impl Cloudflare {
    pub fn new(settings: &Settings) -> Result<Cloudflare, String> {
        let client = HttpClientBuilder::new()
            .with_header("x-auth-email", settings.need("email")?)
            .with_header("x-auth-key", settings.need("apiKey")?)
            .with_timeout(Some(REQUEST));
        Ok(Cloudflare(client.build()))
    }

    pub async fn present(&self, record: &Record) -> dns_update::Result<()> {
        let records = self.records(&record.zone).await?;
        if !self.find(&records, record).await?.is_empty() {
            return Ok(());
        }
        let body = json!({"type": "TXT", "name": record.name, "content": quoted(&record.value), "ttl": TTL});
        self.0.post(records).with_body(body)?.send_raw().await.map(drop)
    }

    pub async fn remove(&self, record: &Record) -> dns_update::Result<()> {
        let records = self.records(&record.zone).await?;
        for id in self.find(&records, record).await? {
            self.0.delete(format!("{records}/{id}")).send_raw().await?;
        }
        Ok(())
    }

    /// Where the records of a zone are.
    async fn records(&self, zone: &str) -> dns_update::Result<String> {
        let found: Answer = self.0.get(format!("{API}/zones?name={zone}")).send().await?;
        let found = found.result.into_iter().flatten().next();
        let found = found.ok_or_else(|| dns_update::Error::Api(format!("the account has no zone {zone}")))?;
        Ok(format!("{API}/zones/{}/dns_records", found.id))
    }

    /// The records with that value.
    async fn find(&self, records: &str, record: &Record) -> dns_update::Result<Vec<String>> {
        let url = format!("{records}?type=TXT&per_page=100&name={}", record.name);
        let found: Answer = self.0.get(url).send().await?;
        let same = |item: &Item| item.content.trim_matches('"') == record.value;
        Ok(found.result.into_iter().flatten().filter(same).map(|item| item.id).collect())
    }
}

fn quoted(value: &str) -> Value {
    Value::String(format!("\"{value}\""))
}
