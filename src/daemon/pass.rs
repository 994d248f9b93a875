//! One pass: resolve → plan → compile → publish → report, and the state that passes from one to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use anyhow::Context;
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    AGAIN, FIRST_LOOKUP, address,
    deny::Deny,
    fallback::Fallbacks,
    kernel_path::KernelPath,
    name::Names,
    reporter::{Job, Reporter},
    source::Sources,
};
use crate::{
    api::Kind,
    certificate::Engine,
    cli::run::RunOptions,
    compile::compile,
    finding::{Finding, Severity},
    graph::{self, Addresses, Graph, LastGood},
    manifest::{Object, accepted::Objects},
    plan::{EndpointsPlan, Hosts, Plan, SocketPlan, lower},
    publish::{DataPlane, inherited::Inherited, store::Store},
    snapshot::Snapshot,
    status::Published,
    view::{DenyView, KernelView, Traffic},
};

/// What was last good, and what a pass needs.
pub struct Pass {
    pub sources: Sources,
    pub names: Names,
    pub reporter: Reporter,
    pub engine: Engine,
    pub deny: Deny,
    pub kernel_path: KernelPath,
    options: Arc<RunOptions>,
    addresses: Addresses,
    last_good: LastGood,
    fallbacks: Fallbacks,
    plan: Arc<Plan>,
    hosts: Hosts,
    resolved: BTreeMap<String, Vec<IpAddr>>,
    snapshot: Arc<Snapshot>,
    data_plane: DataPlane,
    published: Published,
    /// What *compile* found of the snapshot in force.
    broken: Vec<Finding>,
    /// When to try again what failed for a reason that may go away by itself.
    again: Option<Instant>,
    last_try: Instant,
    assigned_path: PathBuf,
}

impl Pass {
    /// Starts the workers, which take over what an earlier run left, and reads the state directory.
    ///
    /// # Errors
    /// The workers cannot be started, or the state is a later version's.
    pub fn start(options: Arc<RunOptions>, inherited: Inherited, store: Option<Store>) -> anyhow::Result<Pass> {
        let workers =
            options.workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, |count| count.get());
        let kernel_path = KernelPath::start(&options)?;
        let settings = crate::dataplane::Settings { elsewhere: kernel_path.elsewhere(), ..options.settings.clone() };
        let settings = Arc::new(settings);
        #[cfg_attr(not(feature = "kernel"), expect(unused_mut))]
        let mut data_plane = DataPlane::succeed(settings, workers, inherited, store).context("the workers")?;
        #[cfg(feature = "kernel")]
        if options.kernel.use_ != crate::cli::run::KernelUse::Off {
            data_plane.share_out_by(crate::kernel::reuseport::share_out);
        }
        let deny = Deny::start(&options, &data_plane)?;
        let assigned_path = options.state_dir.join("addresses.json");
        let assigned = address::read_assigned(&assigned_path).unwrap_or_else(|error| {
            tracing::error!(path = %assigned_path.display(), %error, "addresses of gateways cannot be read");
            BTreeMap::new()
        });
        let sources = Sources::open(&options.config_dir, &options.state_dir, options.bounds.clone())?;
        let addresses = address::addresses(&options.addresses, options.address_pool, assigned);
        let fallbacks = Fallbacks::open(options.state_dir.join("certificates.json"));
        Ok(Pass {
            last_good: last_good(&sources.accepted.objects, &addresses, &fallbacks),
            sources,
            names: Names::default(),
            addresses,
            fallbacks,
            plan: Arc::default(),
            hosts: Hosts::default(),
            resolved: BTreeMap::new(),
            snapshot: Arc::default(),
            data_plane,
            published: Published::default(),
            broken: Vec::new(),
            again: None,
            last_try: Instant::now(),
            assigned_path,
            reporter: Reporter::new(options.clone()),
            engine: Engine::open(&options.state_dir, options.issuance.clone()),
            deny,
            kernel_path,
            options,
        })
    }

    /// When a pass is wanted though nothing changes.
    pub fn next(&self) -> Option<Instant> {
        let unwritten = self.reporter.last.unwritten.then(|| self.last_try + AGAIN);
        self.again.into_iter().chain(unwritten).chain(self.sources.look_again()).chain(self.engine.next()).min()
    }

    /// Has that time come?
    pub fn is_due(&self) -> bool {
        self.next().is_some_and(|next| next <= Instant::now())
    }

    /// Runs the stages from resolve to publish, and hands what they found to the reporter. Never fails: what goes wrong
    /// is a finding.
    pub async fn run(&mut self) {
        let mut stages = Stages::start();
        let now = Timestamp::now();
        (self.again, self.last_try) = (None, Instant::now());
        // Meanwhile the disk gets what was accepted, which has to be there before it is served.
        let keeping = self.sources.keep();
        let assigned = std::mem::take(&mut self.addresses.assigned);
        self.addresses = address::addresses(&self.options.addresses, self.options.address_pool, assigned);
        let merged = self.engine.objects(&self.sources.accepted.objects);
        let progress = Arc::new(self.engine.progress(&self.sources.accepted.objects));
        let objects: Arc<[_]> = merged.values().cloned().collect();
        let last_good = std::mem::take(&mut self.last_good);
        let addresses = self.addresses.clone();
        let input = graph::Input {
            objects: &objects,
            addresses: &addresses,
            last_good: &last_good,
            now,
            progress: Some(&progress),
        };
        let graph = graph::resolve(&input);
        stages.end("resolve");
        self.last_good = graph.last_good();
        let mut findings = self.sources.findings.clone();
        findings.extend(graph.findings.iter().cloned());
        findings.extend(self.keep_assigned(&graph));
        let unkept = self.fallbacks.keep(&self.last_good.certificates);
        let retry = unkept.as_ref().map(|_| Instant::now() + AGAIN);
        findings.extend(unkept);
        findings.extend(self.engine.findings());
        findings.extend(self.deny.findings());
        self.engine.want(&graph.issuance, now);
        let mut plan = lower(&graph, &mut self.hosts);
        self.engine.challenge(&mut plan, &self.addresses.bind);
        stages.end("plan");
        self.resolve_names(&plan, &mut findings).await;
        let compiled = self.compile(plan);
        findings.extend(self.broken.iter().cloned());
        stages.end("compile");
        let unkept = self.sources.kept(keeping.await);
        self.again = match unkept.is_empty() {
            true => retry,
            false => Some(Instant::now() + AGAIN),
        };
        findings.extend(unkept);
        stages.end("keep");
        self.publish(compiled);
        self.engine.published(&self.plan, &self.published.sockets);
        if self.bound().any(|(_, bound)| bound.is_err()) {
            self.again = Some(Instant::now() + AGAIN);
        }
        self.socket_findings(&graph, &mut findings);
        findings.extend(self.data_plane.unwanted());
        stages.end("publish");
        tracing::debug!(generation = self.snapshot.generation, stages = %stages, "pass");
        let job = Job {
            graph,
            objects: merged,
            progress,
            addresses,
            last_good,
            published: self.published.clone(),
            plan: self.plan.clone(),
            generation: self.snapshot.generation,
            now,
            findings,
            stale: self.sources.stale.clone(),
            ignored: self.sources.ignored.clone(),
        };
        self.reporter.submit(job, self.kernel_path.paths(&self.snapshot));
    }

    /// Has status say which way TCP and UDP traffic takes now.
    pub fn follow_paths(&mut self) {
        self.reporter.follow(self.kernel_path.paths(&self.snapshot), Timestamp::now());
    }

    /// Are all workers at work?
    pub fn is_alive(&mut self) -> bool {
        self.data_plane.is_alive()
    }

    /// Makes new keys for TLS session tickets where it is time.
    pub fn rotate_tickets(&mut self) {
        self.data_plane.rotate_tickets();
    }

    /// Has the access log's file opened anew, as a reload does for `logrotate`.
    pub fn reopen_access_log(&self) {
        self.data_plane.reopen_access_log();
    }

    /// What the workers have open now.
    pub fn traffic(&self) -> Traffic {
        let counts = self.data_plane.counts();
        let total = |sockets: BTreeMap<_, Vec<usize>>| {
            sockets.into_iter().map(|(address, open)| (address, open.iter().sum())).collect()
        };
        Traffic {
            workers: self.data_plane.counters().count(),
            connections: total(counts.sockets),
            leaving: counts.leaving,
            sessions: total(counts.datagram_sockets),
            sessions_leaving: counts.datagrams_leaving,
        }
    }

    /// The deny list, and whom it has kept out.
    pub fn denied(&self) -> Option<DenyView> {
        self.deny.view(&self.data_plane)
    }

    /// Returns when the kernel path too goes by what was published.
    pub fn settle_kernel_path(&self) {
        self.kernel_path.settle();
    }

    /// Which way TCP and UDP traffic takes, and what the kernel path carries.
    pub fn traffic_path(&self) -> (String, Option<KernelView>) {
        self.kernel_path.view()
    }

    /// Lets requests in flight end, for as long as the drain timeout allows.
    pub fn drain(self) {
        self.data_plane.drain(self.options.settings.drain_timeout);
        self.deny.end();
    }

    fn keep_assigned(&mut self, graph: &Graph) -> Option<Finding> {
        if self.addresses.assigned == graph.assigned {
            return None;
        }
        self.addresses.assigned = graph.assigned.clone();
        address::keep_assigned(&self.assigned_path, &graph.assigned)
    }

    /// Skipped when the plan and the addresses of names are as before.
    fn compile(&mut self, plan: Plan) -> Option<Snapshot> {
        let resolved = self.names.addresses();
        if self.snapshot.generation > 0 && plan == *self.plan && resolved == self.resolved {
            return None;
        }
        let (mut snapshot, broken) = compile(&plan, Some((&self.plan, &self.snapshot)), &resolved);
        snapshot.generation = self.snapshot.generation + 1;
        (self.plan, self.resolved, self.broken) = (Arc::new(plan), resolved, broken);
        Some(snapshot)
    }

    fn publish(&mut self, compiled: Option<Snapshot>) {
        if let Some(snapshot) = compiled {
            self.snapshot = Arc::new(snapshot);
            self.published.sockets = self.data_plane.publish(self.snapshot.clone());
            self.kernel_path.publish(self.snapshot.clone());
        } else if self.bound().any(|(_, bound)| bound.is_err()) {
            self.published.sockets = self.data_plane.retry_binds();
        }
        self.published.datagram_sockets = self.data_plane.published_datagrams();
        self.deny.bound(&self.published.sockets, &self.published.datagram_sockets);
    }

    /// What became of each socket of the plan, beside what the plan has of it.
    fn bound(&self) -> impl Iterator<Item = (Option<&SocketPlan>, &Result<(), String>)> {
        let Published { sockets, datagram_sockets } = &self.published;
        let streams = sockets.iter().map(|(address, bound)| (self.plan.sockets.get(address), bound));
        let datagrams = datagram_sockets.iter();
        streams.chain(datagrams.map(|(address, bound)| (self.plan.datagram_sockets.get(address), bound)))
    }

    /// One for each listener that waits for a socket.
    fn socket_findings(&self, graph: &Graph, findings: &mut Vec<Finding>) {
        for (socket, bound) in self.bound() {
            let Err(problem) = bound else { continue };
            let listeners = socket.into_iter().flat_map(|socket| &socket.listeners);
            let keys: BTreeSet<&str> = listeners.map(|listener| listener.key.as_str()).collect();
            for gateway in &graph.gateways {
                for (index, listener) in gateway.listeners.iter().enumerate() {
                    if keys.contains(listener.key.as_str()) {
                        let field = format!("spec.listeners[{index}].port");
                        let object = self.sources.accepted.objects.get(&gateway.key);
                        findings.push(Finding {
                            severity: Severity::Error,
                            origin: object.map(|object| object.place(&field)),
                            object: Some(gateway.key.clone()),
                            field,
                            reason: "SocketNotBound".to_owned(),
                            message: format!("listener {} is not served: {problem}", listener.spec.name),
                            remedy: format!("it is tried again every {} seconds", AGAIN.as_secs()),
                        });
                    }
                }
            }
        }
    }

    async fn resolve_names(&mut self, plan: &Plan, findings: &mut Vec<Finding>) {
        let names = plan.backends.values().filter_map(|backend| match &backend.endpoints {
            EndpointsPlan::Name { host, .. } => Some(host.clone()),
            EndpointsPlan::Addresses(_) => None,
        });
        if self.names.want(&names.collect()) {
            // What names it answers 503 until it is resolved; after this time it has to.
            let _ = timeout(FIRST_LOOKUP, async {
                while self.names.pending() {
                    self.names.changed().await;
                }
            })
            .await;
        }
        findings.extend(self.names.failures().map(|(name, error)| Finding {
            severity: Severity::Warning,
            origin: None,
            object: None,
            field: String::new(),
            reason: "NameNotResolved".to_owned(),
            message: format!("the ExternalName {name} does not resolve: {error}"),
            remedy: "its last addresses stay in use; check the name and the machine's resolver".to_owned(),
        }));
    }
}

/// What was good before the start, as far as listeners go: what the objects accepted last come to. Their Secrets may have
/// become unusable meanwhile.
fn last_good(accepted: &Objects, addresses: &Addresses, fallbacks: &Fallbacks) -> LastGood {
    let matters =
        |object: &&Arc<Object>| !object.kind.is_route() && !matches!(object.kind, Kind::Service | Kind::EndpointSlice);
    let objects: Arc<[_]> = accepted.values().filter(matters).cloned().collect();
    let kept = LastGood { certificates: fallbacks.certificates().clone(), ..LastGood::default() };
    graph::resolve(&graph::Input {
        objects: &objects,
        addresses,
        last_good: &kept,
        now: Timestamp::now(),
        progress: None,
    })
    .last_good()
}

/// How long the stages of a pass took, for the debug log.
struct Stages {
    last: Instant,
    took: String,
}

impl Stages {
    fn start() -> Stages {
        Stages { last: Instant::now(), took: String::new() }
    }

    fn end(&mut self, stage: &str) {
        let now = Instant::now();
        let _ = write!(self.took, "{}{stage} {:.1?}", if self.took.is_empty() { "" } else { ", " }, now - self.last);
        self.last = now;
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.took)
    }
}
