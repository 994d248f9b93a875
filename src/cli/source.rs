//! Who answers a command? The daemon; when there is none, its status files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use crate::{
    api::Kind,
    observe::admin::{self, CallError},
    view::{Answer, Request, View},
};

use super::Failure;

/// Kinds that have status files.
const KINDS_WITH_FILES: [Kind; 8] = [
    Kind::Gateway,
    Kind::GatewayClass,
    Kind::GrpcRoute,
    Kind::HttpRoute,
    Kind::Service,
    Kind::TcpRoute,
    Kind::TlsRoute,
    Kind::UdpRoute,
];
/// Name of the directory of cluster-scoped objects.
const CLUSTER: &str = "_cluster";
/// A status file is at most this long.
const MAX_STATUS_FILE: u64 = 32 << 20;

/// How long a daemon that listens may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same for a reload: what the daemon allows itself, and the way.
const RELOAD_PATIENCE: Duration = Duration::from_secs(10).saturating_add(admin::HANDLER_DEADLINE);

/// Asks the daemon of a runtime directory. Once it was missing, its files answer.
pub struct Source {
    runtime_dir: PathBuf,
    daemon: bool,
}

impl Source {
    pub fn new(runtime_dir: &Path) -> Source {
        Source { runtime_dir: runtime_dir.to_owned(), daemon: true }
    }

    /// The answer to a request for objects or descriptions.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when there is neither a daemon nor a status file that could tell.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, Failure> {
        let kind = match request {
            Request::Objects { kind, .. } | Request::Describe { kind, .. } => *kind,
            Request::Status | Request::Plan | Request::Reload => return ask_daemon(&self.runtime_dir, request),
        };
        if self.daemon {
            match admin::call(&self.runtime_dir, request, PATIENCE) {
                Ok(answer) => return Ok(answer),
                Err(CallError::Refused(reason)) => return Err(anyhow::anyhow!("the daemon refused: {reason}").into()),
                Err(error) => self.fall_back(kind, &error)?,
            }
        }
        let kinds = match request {
            Request::Objects { .. } => &[kind][..],
            _ => &KINDS_WITH_FILES,
        };
        let objects = kinds.iter().flat_map(|kind| read_objects(&self.status_dir(), *kind)).collect();
        Ok(partial(View { objects, ..View::default() }.answer(request)))
    }

    fn status_dir(&self) -> PathBuf {
        self.runtime_dir.join("status")
    }

    /// From now on status files answer, if there are any of `kind`.
    fn fall_back(&mut self, kind: Kind, error: &CallError) -> Result<(), Failure> {
        let plural = kind.names().plural;
        if !KINDS_WITH_FILES.contains(&kind) {
            return Err(Failure::Unreachable(format!("{error}; {plural} have no status files to show instead")));
        }
        if !self.status_dir().is_dir() {
            return Err(Failure::Unreachable(format!(
                "{error}; there are no status files in {} either",
                self.status_dir().display()
            )));
        }
        eprintln!("gapi: {error}; showing status files, which may be older than what is on disk");
        self.daemon = false;
        Ok(())
    }
}

/// An answer that says of itself that it was put together from status files.
fn partial(answer: Answer) -> Answer {
    match answer {
        Answer::Describe { mut descriptions } => {
            descriptions.iter_mut().for_each(|description| description.partial = true);
            Answer::Describe { descriptions }
        }
        other => other,
    }
}

/// The daemon's answer to a request that nothing else can answer.
///
/// # Errors
/// [`Failure::Unreachable`] when there is no daemon.
pub fn ask_daemon(runtime_dir: &Path, request: &Request) -> Result<Answer, Failure> {
    let patience = if matches!(request, Request::Reload) { RELOAD_PATIENCE } else { PATIENCE };
    admin::call(runtime_dir, request, patience).map_err(|error| match error {
        CallError::Unreachable(..) => Failure::Unreachable(error.to_string()),
        CallError::Refused(_) => Failure::Failed(error.into()),
    })
}

/// Every object of `kind` below `status`; a file that cannot be read is told and left out.
fn read_objects(status: &Path, kind: Kind) -> Vec<Arc<Value>> {
    let plural = kind.names().plural;
    let folders = match kind.names().namespaced {
        true => entries(status).into_iter().filter(|folder| !folder.ends_with(CLUSTER)).collect(),
        false => vec![status.join(CLUSTER)],
    };
    let files = folders.iter().flat_map(|folder| entries(&folder.join(plural)));
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.filter_map(|file| read_object(&file)).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| !is_hidden(path)).collect();
    paths.sort();
    paths
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn read_object(file: &Path) -> Option<Arc<Value>> {
    let read = || -> anyhow::Result<Value> {
        let length = fs::metadata(file)?.len();
        anyhow::ensure!(length <= MAX_STATUS_FILE, "longer than {MAX_STATUS_FILE} bytes");
        Ok(serde_yaml::from_str(&fs::read_to_string(file)?)?)
    };
    read().map(Arc::new).inspect_err(|error| eprintln!("gapi: {}: {error}", file.display())).ok()
}
