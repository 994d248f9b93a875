//! `gapi test`: a request through every programmed route, by way of its own listeners.
//!
//! The daemon gives its plan. For each match a request is made that the wanted rule takes, which the data plane's own
//! choice says (`probe`); it is sent (`send`), and what came back is judged (`judge`), beside what is known of the rule's
//! other backends (`backend`). Rules of TCP, TLS and UDP listeners get none, but a look at their endpoints (`layer4`). What
//! gets no request, since it is not accepted or not programmed, is told by its condition
//! (`condition`).

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

mod backend;
mod certificate;
mod condition;
mod example;
mod judge;
mod layer4;
mod page;
mod probe;
mod request;
mod row;
mod send;

use self::{
    condition::Objects,
    judge::Judge,
    probe::Oracle,
    row::{Outcome, Row, Task},
    send::{Fault, Reply, Sending},
};
use super::{Failure, RuntimeDir, get::json_text, print, quantity::Span, source::ask_daemon};
use crate::{
    api::{Kind, ROUTE_KINDS},
    plan::Plan,
    view::{Answer, Request, View},
};

/// Requests under way at a time.
const CONCURRENCY: usize = 8;

/// Flags of `gapi test`.
#[derive(Args, Debug)]
pub struct TestFlags {
    /// Only routes of this name, of whatever kind
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    route: Option<String>,
    /// Only listeners of this Gateway
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    gateway: Option<String>,
    /// Only routes of this namespace; also the namespace of a --route or --gateway that is written without [default: all]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// For each request
    #[arg(long, default_value_t = Span(Duration::from_secs(5)), value_name = "DURATION")]
    timeout: Span,
    /// Send POST, PUT, PATCH and DELETE too, where a match asks for them
    #[arg(long = "unsafe")]
    unsafe_methods: bool,
    /// How to print [default: a table]
    #[arg(short, long, value_enum)]
    output: Option<TestOutput>,
    #[command(flatten)]
    runtime_dir: RuntimeDir,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum TestOutput {
    Json,
}

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`]; a request that failed, or a route or Gateway that is not there, is exit code 1.
pub fn run(flags: &TestFlags) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    let scope = Scope::new(flags);
    let daemon = Daemon::ask(flags)?;
    if let Some(missing) = scope.missing(&daemon.objects) {
        return Err(anyhow::anyhow!("there is no {missing}").into());
    }
    let mut rows = daemon.test(&scope, flags)?;
    // Precedence within a rule is kept: the sort is stable.
    let order = |row: &Row| (row.route.clone(), row.kind, row.rule, row.listener.clone(), row.address);
    rows.sort_by_cached_key(order);
    let after = daemon.generation_now(flags)?;
    let text = match flags.output {
        Some(TestOutput::Json) => json_text(&daemon.json(&rows)?),
        None => {
            let last = format!("{}, generation {}, {:.1?}", page::tally(&rows), daemon.generation, start.elapsed());
            let empty = if rows.is_empty() { "nothing to test: no route is there\n" } else { "" };
            let gap = if rows.is_empty() { "" } else { "\n" };
            format!("{}{empty}{gap}{last}\n", page::page(&rows))
        }
    };
    print(&text)?;
    if let Some(stale) = &daemon.view.stale {
        eprintln!("gapi: what was tested is older than what is on disk: {stale}");
    }
    if after != daemon.generation {
        eprintln!("gapi: the configuration changed meanwhile, to generation {after}: run the test again");
    }
    let failed = rows.iter().any(|row| row.outcome == Outcome::Failed);
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What is tested.
struct Scope {
    /// `namespace/name`.
    route: Option<String>,
    gateway: Option<String>,
    namespace: Option<String>,
}

impl Scope {
    fn new(flags: &TestFlags) -> Scope {
        let namespace = flags.namespace.as_deref();
        let whole = |name: &String| match name.contains('/') {
            true => name.clone(),
            false => format!("{}/{name}", namespace.unwrap_or("default")),
        };
        Scope {
            route: flags.route.as_ref().map(whole),
            gateway: flags.gateway.as_ref().map(whole),
            namespace: flags.namespace.clone().filter(|_| flags.route.is_none() && flags.gateway.is_none()),
        }
    }

    fn has_route(&self, route: &str) -> bool {
        let in_namespace = |namespace: &String| route.split('/').next() == Some(namespace);
        self.route.as_ref().is_none_or(|own| own == route) && self.namespace.as_ref().is_none_or(in_namespace)
    }

    /// `listener` begins with the name of its Gateway.
    fn has_listener(&self, listener: &str) -> bool {
        self.gateway.as_ref().is_none_or(|gateway| {
            listener.strip_prefix(gateway.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Rows that no request stands behind.
    fn has(&self, row: &Row) -> bool {
        match row.route.as_str() {
            "" => self.route.is_none() && self.namespace.is_none() && self.has_listener(&row.listener),
            route => self.has_route(route) && self.has_listener(&row.listener),
        }
    }

    /// What is asked for by name and not there.
    fn missing(&self, objects: &Objects) -> Option<String> {
        let lacks = |objects: &[Arc<Value>], name: &String| objects.iter().all(|one| condition::name(one) != *name);
        let is_rejected = |name: &String| objects.rejected().iter().any(|row| row.route == *name);
        let route = self.route.as_ref().filter(|name| lacks(&objects.routes, name) && !is_rejected(name));
        let gateway = self.gateway.as_ref().filter(|name| lacks(&objects.gateways, name));
        route.map(|name| format!("route {name}")).or_else(|| gateway.map(|name| format!("Gateway {name}")))
    }
}

/// What the daemon says of itself.
struct Daemon {
    generation: u64,
    plan: Arc<Plan>,
    view: Box<View>,
    objects: Objects,
}

impl Daemon {
    fn ask(flags: &TestFlags) -> Result<Daemon, Failure> {
        let directory = &flags.runtime_dir.runtime_dir;
        let other = || Failure::from(anyhow::anyhow!("the daemon answered something else than was asked"));
        let Answer::Plan { generation, plan } = ask_daemon(directory, &Request::Plan)? else { return Err(other()) };
        let Answer::Status(view) = ask_daemon(directory, &Request::Status)? else { return Err(other()) };
        let objects = |kind| match ask_daemon(directory, &Request::Objects { kind, namespace: None, name: None })? {
            Answer::Objects { objects } => Ok(objects),
            _ => Err(other()),
        };
        let routes = ROUTE_KINDS.iter().map(|kind| objects(*kind)).collect::<Result<Vec<_>, Failure>>()?;
        let objects = Objects {
            classes: objects(Kind::GatewayClass)?,
            gateways: objects(Kind::Gateway)?,
            routes: routes.concat(),
            findings: view.findings.clone(),
        };
        Ok(Daemon { generation, plan, view, objects })
    }

    fn generation_now(&self, flags: &TestFlags) -> Result<u64, Failure> {
        match ask_daemon(&flags.runtime_dir.runtime_dir, &Request::Status)? {
            Answer::Status(view) => Ok(view.generation),
            _ => Ok(self.generation),
        }
    }

    fn test(&self, scope: &Scope, flags: &TestFlags) -> Result<Vec<Row>, Failure> {
        let oracle = Oracle::new(self.plan.clone(), &self.view, flags.unsafe_methods);
        let tasks = oracle.tasks(|route, listener| scope.has_route(route) && scope.has_listener(listener));
        let mut judge = Judge::new(&self.plan, &self.view, Timestamp::now().as_second());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut rows = runtime.block_on(perform(tasks, &mut judge, flags.timeout.0))?;
        let wanted = |route: &str, listener: &str| scope.has_route(route) && scope.has_listener(listener);
        rows.extend(runtime.block_on(layer4::rows(&self.plan, &self.view, &mut judge, wanted, flags.timeout.0)));
        let sockets = self.plan.sockets.values().chain(self.plan.datagram_sockets.values());
        let listeners = sockets.flat_map(|socket| &socket.listeners);
        let rules = listeners.flat_map(|listener| &listener.hosts).flat_map(|host| &host.rules);
        let programmed: BTreeSet<(Kind, &str)> = rules.map(|rule| (rule.kind, rule.route.as_str())).collect();
        let told =
            self.objects.routes(&programmed).into_iter().chain(self.objects.rejected()).chain(self.objects.gateways());
        rows.extend(told.filter(|row| scope.has(row)));
        Ok(rows)
    }

    fn json(&self, rows: &[Row]) -> Result<Value, Failure> {
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        Ok(json!({
            "generation": self.generation,
            "passed": count(Outcome::Passed),
            "failed": count(Outcome::Failed),
            "skipped": count(Outcome::Skipped),
            "tests": serde_json::to_value(rows)?,
        }))
    }
}

/// Sends what is to be sent, some at a time. In the order of the tasks.
async fn perform(tasks: Vec<Task>, judge: &mut Judge<'_>, patience: Duration) -> Result<Vec<Row>, Failure> {
    let tls = send::client()?;
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let sent = tasks.iter().filter(|task| task.sending.is_some()).map(|task| &task.row);
    let mut endpoints = JoinSet::new();
    for endpoint in judge.endpoints(sent) {
        let permits = permits.clone();
        endpoints.spawn(async move {
            let _permit = permits.acquire_owned().await;
            (endpoint, send::refusal(endpoint, patience).await)
        });
    }
    while let Some(done) = endpoints.join_next().await {
        let (endpoint, refusal) = done?;
        judge.backends.unreachable.extend(refusal.map(|why| (endpoint, why)));
    }
    let mut under_way: JoinSet<(usize, Sending, Result<Reply, Fault>)> = JoinSet::new();
    let mut rows: Vec<Row> = Vec::new();
    for (index, task) in tasks.into_iter().enumerate() {
        rows.push(task.row);
        if let Some(sending) = task.sending {
            let (permits, tls) = (permits.clone(), tls.clone());
            under_way.spawn(async move {
                let _permit = permits.acquire_owned().await;
                let answer = send::send(&sending, patience, tls).await;
                (index, sending, answer)
            });
        }
    }
    while let Some(done) = under_way.join_next().await {
        let (index, sending, answer) = done?;
        rows[index] = judge.verdict(std::mem::take(&mut rows[index]), &sending, answer);
    }
    Ok(rows)
}
