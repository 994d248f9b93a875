//! The records that are up. Each is noted in `<state-dir>/dns01` before it is made, and the note goes when the record
//! does: what a crash leaves behind is removed at the next start.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    sync::Mutex as AsyncMutex,
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};

use super::provider::Provider;
use crate::{
    api::ObjectKey,
    certificate::store::{read_bounded, write},
    graph::issuance::{Issuance, Method},
};

/// When a removal that failed is tried again; after that at the next start.
const AGAIN: [u64; 6] = [0, 10, 60, 300, 900, 3600];

/// A record, and what it is for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// The name that is proven, without `*.`.
    pub domain: String,
    /// Where the record is.
    pub name: String,
    /// The zone that it is in; empty where the provider does not want to know.
    pub zone: String,
    pub value: String,
    pub token: String,
    pub authorization: String,
}

/// A record with the solver that made it: all that it takes to remove it, but for the secrets.
#[derive(Clone, Deserialize, Serialize)]
pub struct Note {
    /// Kind, namespace, name.
    issuer: [String; 3],
    dns01: Value,
    record: Record,
}

impl Note {
    pub fn new(issuer: &ObjectKey, dns01: &Value, record: Record) -> Note {
        let issuer = [&issuer.kind, &issuer.namespace, &issuer.name].map(|part| part.to_string());
        Note { issuer, dns01: dns01.clone(), record }
    }

    fn issuer(&self) -> ObjectKey {
        let [kind, namespace, name] = &self.issuer;
        ObjectKey::new(kind.as_str(), namespace, name)
    }

    fn file_name(&self) -> String {
        let digest = Sha256::digest(format!("{}\0{}", self.record.name, self.record.value));
        let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{digits}.json")
    }
}

/// The books. Clones share them.
#[derive(Clone)]
pub struct Records(Arc<Books>);

struct Books {
    directory: PathBuf,
    /// Providers read a set of records, and write it: for a zone one at a time.
    zones: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
    /// How many want a record, by the name of its note: the same may be wanted again before it is removed.
    wanted: Mutex<HashMap<String, usize>>,
    /// Who removes a record, by the name of its note: the last who is to, with the secrets as they are now.
    removers: Mutex<HashMap<String, AbortHandle>>,
    /// What an earlier run left.
    left: Mutex<BTreeMap<String, Note>>,
}

impl Records {
    /// Opens the books as an earlier run left them.
    pub fn open(state: &Path) -> Records {
        let directory = state.join("dns01");
        let mut left = BTreeMap::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let read = read_bounded(&path).ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
            match read {
                Some(note) => _ = left.insert(note.file_name(), note),
                // A write that was cut off came before its record.
                None => _ = fs::remove_file(&path),
            }
        }
        let (zones, wanted, removers) = (Mutex::default(), Mutex::default(), Mutex::default());
        Records(Arc::new(Books { directory, zones, wanted, removers, left: Mutex::new(left) }))
    }

    /// Removes what an earlier run left, as far as its issuers are there.
    pub fn sweep(&self, issuance: &Issuance) {
        let mut left = locked(&self.0.left);
        if left.is_empty() {
            return;
        }
        for issuer in &issuance.issuers {
            let Method::Acme(acme) = &issuer.method else { continue };
            let keys = left.iter().filter(|(_, note)| note.issuer() == issuer.key).map(|(key, _)| key.clone());
            for key in keys.collect::<Vec<_>>() {
                let Some(note) = left.remove(&key) else { continue };
                let (records, secrets, ambient) = (self.clone(), acme.secrets.clone(), issuer.is_cluster());
                tokio::spawn(async move {
                    match Provider::open(&note.dns01, &secrets, ambient).await {
                        Ok(provider) => records.remove(&provider, &note, true).await,
                        Err(why) => stays(&note, &why),
                    }
                });
            }
        }
        for note in left.values() {
            stays(note, "the issuer is not there any more");
        }
        left.clear();
    }

    /// Notes and makes a record. It is removed when what is given back is dropped.
    ///
    /// # Errors
    /// It cannot be noted, or the provider does not make it.
    pub async fn present(&self, provider: Arc<Provider>, note: Note) -> Result<Presented, String> {
        *locked(&self.0.wanted).entry(note.file_name()).or_default() += 1;
        // From here on it is removed, also when it was made and the answer was lost.
        let mut presented = Presented { records: self.clone(), provider, note, made: false };
        let zone = self.zone(&presented.note.record);
        let _alone = zone.lock().await;
        let (path, bytes) = (self.path(&presented.note), serde_json::to_vec_pretty(&presented.note));
        let noted = spawn_blocking(move || write(&path, &bytes.map_err(io::Error::other)?, 0o600, 0o700)).await;
        let noted = noted.map_err(|error| error.to_string())?;
        noted.map_err(|error| format!("the record cannot be noted in the state directory: {error}"))?;
        presented.provider.present(&presented.note.record).await?;
        presented.made = true;
        Ok(presented)
    }

    /// Removes a record; one that may never have been made quietly.
    async fn remove(&self, provider: &Provider, note: &Note, made: bool) {
        for (i, seconds) in AGAIN.into_iter().enumerate() {
            sleep(Duration::from_secs(seconds)).await;
            let zone = self.zone(&note.record);
            let _alone = zone.lock().await;
            if locked(&self.0.wanted).contains_key(&note.file_name()) {
                return;
            }
            match provider.remove(&note.record).await {
                Ok(()) => {
                    tracing::debug!(record = %note.record.name, value = %note.record.value, "TXT record removed");
                    let path = self.path(note);
                    let _ = spawn_blocking(move || fs::remove_file(path)).await;
                    return;
                }
                Err(why) if made && (i == 0 || i + 1 == AGAIN.len()) => stays(note, &why),
                Err(why) => tracing::debug!(record = %note.record.name, why, "a TXT record is not removed yet"),
            }
        }
    }

    fn zone(&self, record: &Record) -> Arc<AsyncMutex<()>> {
        let name = if record.zone.is_empty() { &record.name } else { &record.zone };
        let mut zones = locked(&self.0.zones);
        zones.retain(|_, zone| Arc::strong_count(zone) > 1);
        zones.entry(name.clone()).or_default().clone()
    }

    fn path(&self, note: &Note) -> PathBuf {
        self.0.directory.join(note.file_name())
    }
}

/// A record that is up, until this is dropped.
pub struct Presented {
    records: Records,
    provider: Arc<Provider>,
    note: Note,
    /// The provider said that it did.
    made: bool,
}

impl Presented {
    pub fn record(&self) -> &Record {
        &self.note.record
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        {
            let mut wanted = locked(&self.records.0.wanted);
            let count = wanted.get_mut(&self.note.file_name()).map(|count| {
                *count -= 1;
                *count
            });
            if count == Some(0) {
                wanted.remove(&self.note.file_name());
            }
        }
        // Without a runtime the daemon is ending, and the note is for the next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (records, provider, note) = (self.records.clone(), self.provider.clone(), self.note.clone());
            let (made, name) = (self.made, note.file_name());
            let remover = runtime.spawn(async move {
                records.remove(&provider, &note, made).await;
                locked(&records.0.removers).remove(&note.file_name());
            });
            if let Some(earlier) = locked(&self.records.0.removers).insert(name, remover.abort_handle()) {
                earlier.abort();
            }
        }
    }
}

fn stays(note: &Note, why: &str) {
    let Record { name, value, .. } = &note.record;
    let issuer = note.issuer();
    tracing::warn!(
        %issuer, record = %name, %value, why,
        "a TXT record of a challenge stays in DNS: it is tried again at the next start; else remove it by hand"
    );
}

/// None of the holders panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
