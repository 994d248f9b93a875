//! Settings of a provider, with the Secrets that they name.

use serde_json::Value;

use crate::{api::cert_manager::SecretKey, graph::issuance::dns01::Secrets};

/// A block of a solver, or a webhook's `config`.
pub struct Settings<'a> {
    /// Where it stands, below `dns01`.
    pub field: &'static str,
    pub block: &'a Value,
    pub secrets: &'a Secrets,
}

impl Settings<'_> {
    /// Text as it is written, or as the Secret has it that `<name>SecretRef` names; none where there is neither.
    ///
    /// # Errors
    /// The Secret is not there, or holds no text.
    pub fn get(&self, name: &str) -> Result<Option<String>, String> {
        match &self.block[name] {
            Value::String(text) if !text.is_empty() => return Ok(Some(text.clone())),
            value @ (Value::Number(_) | Value::Bool(_)) => return Ok(Some(value.to_string())),
            _ => {}
        }
        let field = format!("{name}SecretRef");
        let reference = &self.block[&field];
        let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
        let key = SecretKey { name: text("name"), key: text("key") };
        if key.name.is_empty() {
            return Ok(None);
        }
        let told = |why: &str| format!("{}.{field}: {why}", self.field);
        let held = self.secrets.get(&key).ok_or_else(|| told("the Secret is not known"))?;
        let bytes = held.as_ref().map_err(|why| told(why))?;
        let text = std::str::from_utf8(bytes).map_err(|_| told("the entry of the Secret is no text"))?;
        // Editors and `echo` end lines.
        Ok(Some(text.trim().to_owned()))
    }

    /// The same, where it has to be there.
    ///
    /// # Errors
    /// It is missing.
    pub fn need(&self, name: &str) -> Result<String, String> {
        self.get(name)?.ok_or_else(|| format!("{}.{name}: is missing", self.field))
    }

    /// True where `true` is written.
    ///
    /// # Errors
    /// Those of [`Settings::get`].
    pub fn is(&self, name: &str) -> Result<bool, String> {
        Ok(self.get(name)?.is_some_and(|text| text == "true"))
    }
}
