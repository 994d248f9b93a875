//! *report* beside the loop: status documents, status files, the journal. What is published never waits for it.
//!
//! One report runs at a time; when passes come faster, the latest waits and those between are left out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    secrecy, tell,
    view::{self, Facts},
};
use crate::{
    api::ObjectKey,
    cli::run::RunOptions,
    finding::{Finding, Severity},
    graph::{self, Addresses, Graph, LastGood, Progress},
    manifest::{
        Ignored, Object,
        accepted::{Objects, object_path, state_finding},
        compact,
    },
    plan::{Plan, shadowed},
    status::{
        Published, ReportInput,
        path::{Paths, has_path},
        report,
        write::StatusFiles,
    },
    view::{View, text as text_at},
};

/// Status documents by object, shared between the last report, the status files and who asks.
pub type Documents = BTreeMap<ObjectKey, Arc<Value>>;

/// What a pass knows when it is done.
pub struct Job {
    pub graph: Graph,
    pub objects: Arc<Objects>,
    pub progress: Arc<Progress>,
    pub addresses: Addresses,
    pub last_good: LastGood,
    pub published: Published,
    /// What is in force.
    pub plan: Arc<Plan>,
    pub generation: u64,
    pub now: Timestamp,
    pub findings: Vec<Finding>,
    pub stale: BTreeSet<ObjectKey>,
    pub ignored: Vec<Ignored>,
}

/// What was reported last.
#[derive(Clone, Default)]
pub struct Reported {
    /// Without its objects: see [`Reported::whole`].
    pub view: Arc<View>,
    pub objects: Arc<Objects>,
    pub documents: Arc<Documents>,
    /// The file system refused something: to be tried again.
    pub unwritten: bool,
}

impl Reported {
    /// The view with every object and its status.
    pub fn whole(&self) -> View {
        View { objects: view::objects(&self.objects, &self.documents), ..View::clone(&self.view) }
    }
}

/// Runs reports.
pub struct Reporter {
    pub last: Reported,
    options: Arc<RunOptions>,
    started: Timestamp,
    /// None while a report runs.
    desk: Option<Box<Desk>>,
    running: Option<JoinHandle<(Box<Desk>, Reported)>>,
    /// What the last pass knows.
    job: Option<Arc<Job>>,
    /// Which way TCP and UDP traffic takes, as far as it is known.
    paths: Option<Arc<Paths>>,
    /// As of when these two are to be reported, if they are not.
    waiting: Option<Timestamp>,
}

/// What goes from one report to the next.
struct Desk {
    options: Arc<RunOptions>,
    started: Timestamp,
    directory: PathBuf,
    status_files: Option<StatusFiles>,
    documents: Arc<Documents>,
    /// What the documents of routes were made of.
    routes: HashMap<ObjectKey, (Arc<Object>, Arc<graph::Route>)>,
    paths: Option<Arc<Paths>>,
    logged: BTreeSet<Finding>,
}

impl Reporter {
    pub fn new(options: Arc<RunOptions>) -> Reporter {
        let started = Timestamp::now();
        let desk = Desk {
            started,
            directory: options.runtime_dir.join("status"),
            options: options.clone(),
            status_files: None,
            documents: Arc::default(),
            routes: HashMap::new(),
            paths: None,
            logged: BTreeSet::new(),
        };
        let last = Reported::default();
        let desk = Some(Box::new(desk));
        Reporter { last, options, started, desk, running: None, job: None, paths: None, waiting: None }
    }

    /// Takes what the last pass knows; it is reported now, or after the report that runs.
    pub fn submit(&mut self, job: Job, paths: Option<Arc<Paths>>) {
        self.waiting = Some(job.now);
        (self.job, self.paths) = (Some(Arc::new(job)), paths);
        self.start();
    }

    /// Takes which way TCP and UDP traffic takes since the last pass; likewise, where a route's status has it.
    pub fn follow(&mut self, paths: Option<Arc<Paths>>, now: Timestamp) {
        let Some(job) = &self.job else { return };
        let matters = self.paths != paths && job.graph.routes.iter().any(|route| has_path(route.kind));
        self.paths = paths;
        if matters {
            self.waiting.get_or_insert(now);
            self.start();
        }
    }

    fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let (Some(job), Some(now)) = (self.job.clone(), self.waiting.take()) {
            // A report that panicked took its desk with it: the next one starts from what was reported last.
            let mut desk = self.desk.take().unwrap_or_else(|| {
                let fresh = Reporter::new(self.options.clone()).desk.expect("a new reporter has its desk");
                Box::new(Desk { documents: self.last.documents.clone(), started: self.started, ..*fresh })
            });
            let paths = self.paths.clone();
            self.running = Some(tokio::task::spawn_blocking(move || {
                let reported = desk.report(&job, paths, now);
                (desk, reported)
            }));
        }
    }

    /// Returns when a report has ended; pending while none runs. Cancel safe.
    pub async fn done(&mut self) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        match running.await {
            Ok((desk, reported)) => (self.desk, self.last) = (Some(desk), reported),
            Err(error) => tracing::error!(%error, "report failed"),
        }
        self.running = None;
        self.start();
    }

    /// Waits until all that was submitted is reported.
    pub async fn settle(&mut self) {
        while self.running.is_some() {
            self.done().await;
        }
    }
}

impl Desk {
    fn report(&mut self, job: &Job, paths: Option<Arc<Paths>>, now: Timestamp) -> Reported {
        if self.status_files.is_none() && self.documents.is_empty() {
            self.documents = Arc::new(earlier(&self.directory));
        }
        let objects: Arc<[_]> = job.objects.values().cloned().collect();
        let input = graph::Input {
            objects: &objects,
            addresses: &job.addresses,
            last_good: &job.last_good,
            now: job.now,
            progress: Some(&job.progress),
        };
        let mut findings = job.findings.clone();
        findings.extend(shadowed(&job.graph, &input));
        self.documents = Arc::new(self.documents(job, &objects, paths, now));
        let unwritten = self.write();
        let failed = unwritten.is_some();
        findings.extend(unwritten);
        findings.sort();
        findings.dedup();
        self.log(&findings);
        let view = Arc::new(view::view(Facts {
            options: &self.options,
            documents: &self.documents,
            started: self.started,
            job,
            findings,
        }));
        tell::status(&view);
        Reported { view, objects: job.objects.clone(), documents: self.documents.clone(), unwritten: failed }
    }

    /// The documents of this report. Routes are many and mostly as they were: theirs are taken over.
    fn documents(
        &mut self,
        job: &Job,
        objects: &[Arc<Object>],
        paths: Option<Arc<Paths>>,
        now: Timestamp,
    ) -> Documents {
        let same_paths = paths == self.paths;
        let is_unchanged = |route: &&Arc<graph::Route>| {
            let (Some(object), Some((before, earlier))) = (job.objects.get(&route.key), self.routes.get(&route.key))
            else {
                return false;
            };
            Arc::ptr_eq(object, before)
                && (same_paths || !has_path(route.kind))
                && (Arc::ptr_eq(route, earlier) || route.parents == earlier.parents)
                && self.documents.contains_key(&route.key)
        };
        let unchanged: HashSet<ObjectKey> =
            job.graph.routes.iter().filter(is_unchanged).map(|route| route.key.clone()).collect();
        let (previous, paths_now) = (&self.documents, paths.as_deref());
        let input = ReportInput { objects, previous, now, unchanged: &unchanged, paths: paths_now };
        let mut documents = Documents::new();
        for document in report(&job.graph, &job.published, &input) {
            let before = self.documents.get(&document.key).filter(|before| ***before == document.value);
            let value = before.cloned().unwrap_or_else(|| Arc::new(compact(document.value)));
            documents.insert(document.key, value);
        }
        let kept = unchanged.iter().filter_map(|key| self.documents.get_key_value(key));
        documents.extend(kept.map(|(key, document)| (key.clone(), document.clone())));
        let routes = job.graph.routes.iter().filter_map(|route| {
            let object = job.objects.get(&route.key)?;
            Some((route.key.clone(), (object.clone(), route.clone())))
        });
        (self.routes, self.paths) = (routes.collect(), paths);
        documents
    }

    fn write(&mut self) -> Option<Finding> {
        let path = |key: &ObjectKey| object_path(key, ".yaml");
        let documents = &self.documents;
        let written =
            open(&mut self.status_files, &self.directory).and_then(|status_files| status_files.write(documents, path));
        let error = written.err()?;
        Some(state_finding(
            format!("status cannot be written below {}: {error}", self.directory.display()),
            "make room, or make it writable",
        ))
    }

    /// Each finding once, for as long as it stands.
    fn log(&mut self, findings: &[Finding]) {
        let standing: BTreeSet<Finding> = findings.iter().cloned().collect();
        for finding in standing.difference(&self.logged) {
            match finding.severity {
                Severity::Error => tracing::error!(reason = %finding.reason, "{finding}"),
                Severity::Warning => tracing::warn!(reason = %finding.reason, "{finding}"),
            }
        }
        self.logged = standing;
    }
}

/// The documents that an earlier run left: conditions that did not change since keep their time. What cannot be read is
/// written anew.
fn earlier(directory: &Path) -> Documents {
    let mut documents = Documents::new();
    for path in StatusFiles::open(directory).map(StatusFiles::into_left).unwrap_or_default() {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let Ok(document) = serde_yaml::from_str::<Value>(&text) else { continue };
        let (kind, name) = (text_at(&document, "/kind"), text_at(&document, "/metadata/name"));
        let key = ObjectKey::new(kind, text_at(&document, "/metadata/namespace"), name);
        documents.insert(key, Arc::new(document));
    }
    documents
}

fn open<'a>(files: &'a mut Option<StatusFiles>, directory: &Path) -> std::io::Result<&'a mut StatusFiles> {
    if files.is_none() {
        *files = Some(StatusFiles::open(directory)?);
        secrecy::show_group(directory, 0o750);
    }
    files.as_mut().ok_or_else(|| std::io::ErrorKind::NotFound.into())
}
