//! What runs, what is kept, and what is to be answered: the state of issuance, on the control thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::{AbortHandle, spawn_blocking},
    time::timeout_at,
};

use super::{
    acme::{self, Accounts},
    decide::{Cause, back_off, basis, choose, rewrites},
    dns::{authority::Resolvers, record::Records},
    event::{Challenge, Done, Event, Failure, Link, Task},
    store::{Record, Store},
    task::{self, Job},
};
use crate::{
    api::ObjectKey,
    finding::Finding,
    graph::issuance::{Held, Issuance, Progress, Wanted},
    manifest::accepted::Objects,
    plan::{ChallengePlan, Plan},
};

/// What an issuer that refused one name for its limits is given before it is asked for others.
const LIMITED: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);
/// A pass is wanted this often, whatever happens.
const DAILY: jiff::SignedDuration = jiff::SignedDuration::from_hours(12);
/// How often steps of issuance alone cause a pass.
const STEPS: Duration = Duration::from_millis(500);
/// Renewal information that is asked for at once.
const MAX_INQUIRIES: usize = 4;

/// What the engine is started with.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where a ClusterIssuer's Secrets are.
    pub cluster_namespace: String,
    /// Where HTTP-01 challenges come in.
    pub http_port: u16,
    /// Who is asked about DNS-01 challenges.
    pub resolvers: Resolvers,
}

fn issuer_of(wanted: &Wanted) -> Option<ObjectKey> {
    wanted.issuer.as_ref().ok().map(|issuer| issuer.key.clone())
}

/// Issuance under way.
pub struct Engine {
    options: EngineOptions,
    store: Store,
    /// Of the store.
    secrets: Objects,
    records: BTreeMap<ObjectKey, Record>,
    broken: BTreeMap<ObjectKey, Finding>,
    steps: BTreeMap<ObjectKey, String>,
    running: BTreeMap<ObjectKey, Running>,
    accounts: Accounts,
    /// Issuers that are asked nothing before that time.
    held_back: BTreeMap<ObjectKey, Timestamp>,
    /// When renewal information of a Certificate is asked for again.
    inquiries: BTreeMap<ObjectKey, Timestamp>,
    /// Certificates of which it is asked for now.
    asking: BTreeSet<ObjectKey>,
    challenges: Vec<(Task, Challenge)>,
    /// What challenges put into DNS.
    dns_records: Records,
    presenting: Vec<(Challenge, oneshot::Sender<Result<(), String>>)>,
    wake: Option<Timestamp>,
    /// When the steps that were told are to be seen.
    steps_due: Option<tokio::time::Instant>,
    next_number: u64,
    events: UnboundedReceiver<Event>,
    sender: UnboundedSender<Event>,
    /// Manifests, and the same with the Secrets of the store.
    merged: Option<(Arc<Objects>, Arc<Objects>)>,
}

/// A task; it ends with its entry.
struct Running {
    number: u64,
    /// What it goes by.
    basis: String,
    abort: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Engine {
    /// Starts from what the store holds.
    pub fn open(state: &Path, options: EngineOptions) -> Engine {
        let store = Store::new(state);
        let contents = store.read();
        let (sender, events) = unbounded_channel();
        Engine {
            options,
            store,
            secrets: contents.secrets,
            records: contents.records,
            broken: contents.broken,
            steps: BTreeMap::new(),
            running: BTreeMap::new(),
            accounts: Accounts::default(),
            held_back: BTreeMap::new(),
            inquiries: BTreeMap::new(),
            asking: BTreeSet::new(),
            challenges: Vec::new(),
            dns_records: Records::open(state),
            presenting: Vec::new(),
            wake: None,
            steps_due: None,
            next_number: 0,
            events,
            sender,
            merged: None,
        }
    }

    /// `manifests` with the Secrets of the store among them; a manifest wins.
    pub fn objects(&mut self, manifests: &Arc<Objects>) -> Arc<Objects> {
        if self.secrets.is_empty() {
            return manifests.clone();
        }
        match &self.merged {
            Some((before, merged)) if Arc::ptr_eq(before, manifests) => merged.clone(),
            _ => {
                let mut merged = self.secrets.clone();
                merged.extend(manifests.iter().map(|(key, object)| (key.clone(), object.clone())));
                let merged = Arc::new(merged);
                self.merged = Some((manifests.clone(), merged.clone()));
                merged
            }
        }
    }

    /// How far everything is, as *resolve* takes it.
    pub fn progress(&self, manifests: &Objects) -> Progress {
        let attempts = self.records.iter().map(|(key, record)| {
            let mut attempt = record.attempt.clone();
            attempt.step = self.steps.get(key).cloned().unwrap_or_default();
            (key.clone(), attempt)
        });
        Progress {
            attempts: attempts.collect(),
            accounts: self.accounts.states(),
            stored: self.secrets.keys().filter(|key| !manifests.contains_key(*key)).cloned().collect(),
            cluster_namespace: self.options.cluster_namespace.clone(),
        }
    }

    /// What of the store cannot be used.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.broken.values().cloned()
    }

    /// When a pass is wanted though nothing happens.
    pub fn next(&self) -> Option<Instant> {
        let left = self.wake?.duration_since(Timestamp::now());
        Some(Instant::now() + Duration::try_from(left).unwrap_or_default())
    }

    /// Starts what is due, ends what is not wanted any more. Never waits.
    pub fn want(&mut self, issuance: &Issuance, now: Timestamp) {
        let wanted: BTreeMap<&ObjectKey, &Wanted> = issuance.wanted.iter().map(|one| (&one.key, one)).collect();
        self.running.retain(|key, running| {
            let still = wanted.get(key).filter(|one| one.held != Held::Manifest && one.issuer.is_ok());
            still.is_some_and(|one| basis(one) == running.basis)
        });
        let running: BTreeSet<ObjectKey> = self.running.keys().cloned().collect();
        self.steps.retain(|key, _| running.contains(key));
        self.forget_challenges();
        self.dns_records.sweep(issuance);
        for one in &issuance.wanted {
            let waits = one.issuing.is_some();
            let known = self.records.get(&one.key).and_then(|record| record.attempt.since);
            if waits != known.is_some() && (waits || !running.contains(&one.key)) {
                self.records.entry(one.key.clone()).or_default().attempt.since = waits.then_some(now);
            }
        }
        self.held_back.retain(|_, time| *time > now);
        let busy: BTreeSet<ObjectKey> =
            wanted.values().filter(|one| running.contains(&one.key)).filter_map(|one| issuer_of(one)).collect();
        let account_wake = self.accounts.want(issuance, &busy, &self.store, now, &self.sender);
        let mut held_back = self.held_back.clone();
        let a_while = now.checked_add(LIMITED).unwrap_or(now);
        held_back.extend(self.accounts.changing().map(|issuer| (issuer, a_while)));
        let (start, wake) = choose(issuance, &running, &held_back, now);
        let inquiry_wake = self.inquire(issuance, now);
        // Certificates that others made come to their end too, and only a pass sees it.
        let daily = now.checked_add(DAILY).ok();
        self.wake = [wake, account_wake, inquiry_wake, daily].into_iter().flatten().min();
        for key in start {
            if let Some(one) = wanted.get(&key) {
                self.start(one);
            }
        }
        for one in issuance.wanted.iter().filter(|one| !running.contains(&one.key) && rewrites(one, now)) {
            self.rewrite(one);
        }
    }

    /// How a task for it speaks.
    fn link(&mut self, wanted: &Wanted) -> Link {
        let number = self.next_number;
        self.next_number += 1;
        Link { task: Task { certificate: wanted.key.clone(), number }, events: self.sender.clone() }
    }

    fn run(&mut self, wanted: &Wanted, number: u64, work: impl Future<Output = ()> + Send + 'static) {
        let abort = tokio::spawn(work).abort_handle();
        let basis = basis(wanted);
        self.running.insert(wanted.key.clone(), Running { number, basis, abort });
    }

    fn rewrite(&mut self, wanted: &Wanted) {
        let Some(secret) = self.secrets.get(&wanted.secret()).cloned() else { return };
        let link = self.link(wanted);
        self.run(wanted, link.task.number, task::rewrite(wanted.clone(), secret, self.store.clone(), link));
    }

    fn start(&mut self, wanted: &Wanted) {
        let account = wanted.issuer.as_ref().ok().and_then(|issuer| self.accounts.get(&issuer.key));
        let order = self.records.get(&wanted.key).and_then(|record| record.order.clone());
        let job = Job {
            wanted: wanted.clone(),
            store: self.store.clone(),
            order,
            account,
            records: self.dns_records.clone(),
            resolvers: self.options.resolvers.clone(),
        };
        let link = self.link(wanted);
        link.step("starting");
        self.run(wanted, link.task.number, task::run(job, link));
    }

    /// Asks ACME servers when certificates that are valid had best be renewed.
    fn inquire(&mut self, issuance: &Issuance, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        for wanted in &issuance.wanted {
            let Some((account, certificate)) = acme::inquirable(wanted, &self.accounts) else { continue };
            let info = wanted.attempt.renewal_info.as_ref().filter(|info| info.serial == wanted.judgement.serial);
            match self.inquiries.get(&wanted.key).copied().or(info.map(|info| info.next_check)) {
                Some(next) if next > now => wake = wake.into_iter().chain([next]).min(),
                _ if self.asking.len() < MAX_INQUIRIES && self.asking.insert(wanted.key.clone()) => {
                    let serial = wanted.judgement.serial.clone();
                    let inquiry = acme::inquire(account, certificate, serial);
                    let (key, sender) = (wanted.key.clone(), self.sender.clone());
                    tokio::spawn(async move {
                        let result = inquiry.await;
                        // Without an engine nobody is left to hear.
                        let _ = sender.send(Event::RenewalInfo { certificate: key, result });
                    });
                }
                _ => {}
            }
        }
        wake
    }

    /// Puts the challenges that are pending into the plan. `bind` is where a socket for them is made when no Gateway has
    /// one.
    pub fn challenge(&self, plan: &mut Plan, bind: &[std::net::IpAddr]) {
        if self.challenges.is_empty() {
            return;
        }
        let mut challenges = ChallengePlan::default();
        for (_, challenge) in &self.challenges {
            match challenge.clone() {
                Challenge::Http { token, authorization } => _ = challenges.http.insert(token, authorization),
                Challenge::Tls { name, certificate } => _ = challenges.tls.insert(name, certificate),
            }
        }
        plan.answer(challenges, self.options.http_port, bind);
    }

    /// Tells those who wait for it that their challenges are answered, or why not.
    pub fn published(&mut self, plan: &Plan, sockets: &BTreeMap<SocketAddr, Result<(), String>>) {
        for (challenge, done) in std::mem::take(&mut self.presenting) {
            let is_tls = matches!(challenge, Challenge::Tls { .. });
            let port = self.options.http_port;
            let here = plan
                .sockets
                .iter()
                .filter(|(address, socket)| socket.tls == is_tls && (is_tls || address.port() == port));
            let mut results = here.map(|(address, _)| (address, sockets.get(address)));
            let mut answer = Err(match is_tls {
                true => "no HTTPS listener is served that could answer a TLS-ALPN-01 challenge".to_owned(),
                false => format!("nothing can listen on port {port} for the HTTP-01 challenge"),
            });
            if results.clone().any(|(_, result)| matches!(result, Some(Ok(())))) {
                answer = Ok(());
            } else if let Some((address, Some(Err(why)))) = results.next() {
                answer = Err(format!("{address}, where the challenge would be answered: {why}"));
            }
            // A task that was ended hears nothing.
            let _ = done.send(answer);
        }
    }

    /// Returns when something happened that wants a pass. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let next = self.events.recv();
            let event = match self.steps_due {
                None => next.await,
                Some(due) => match timeout_at(due, next).await {
                    Ok(event) => event,
                    Err(_) => break,
                },
            };
            // The engine has a sender of its own, so the channel is never closed.
            let Some(event) = event else { break };
            if self.take(event) {
                while let Ok(event) = self.events.try_recv() {
                    self.take(event);
                }
                break;
            }
            self.steps_due.get_or_insert_with(|| tokio::time::Instant::now() + STEPS);
        }
        self.steps_due = None;
    }

    fn is_current(&self, task: &Task) -> bool {
        self.running.get(&task.certificate).is_some_and(|running| running.number == task.number)
    }

    /// True where that is to be acted on at once.
    fn take(&mut self, event: Event) -> bool {
        let now = Timestamp::now();
        let is_step = matches!(event, Event::Step { .. } | Event::Order { .. });
        match event {
            Event::Step { task, step } if self.is_current(&task) => _ = self.steps.insert(task.certificate, step),
            Event::Order { task, order } if self.is_current(&task) => {
                self.records.entry(task.certificate.clone()).or_default().order = order.map(|order| *order);
                self.keep(&task.certificate);
            }
            Event::Present { task, challenge, done } if self.is_current(&task) => {
                self.challenges.push((task, challenge.clone()));
                self.presenting.push((challenge, done));
            }
            Event::Issued { task, done } if self.is_current(&task) => self.issued(&task.certificate, *done),
            Event::Rewritten { task, done } if self.is_current(&task) => self.rewritten(&task.certificate, *done),
            Event::Failed { task, failure } if self.is_current(&task) => self.failed(&task.certificate, failure, now),
            Event::Ended { task } => {
                if self.is_current(&task) {
                    self.running.remove(&task.certificate);
                    if self.steps.remove(&task.certificate).is_some() {
                        self.failed(&task.certificate, Failure::local("issuance broke off"), now);
                    }
                }
                self.challenges.retain(|(other, _)| *other != task);
            }
            Event::Account { issuer, digest, result } => {
                if let Some(secret) = self.accounts.heard(issuer, &digest, result, now) {
                    self.put(secret);
                }
            }
            Event::RenewalInfo { certificate, result } => self.informed(certificate, result, now),
            _ => {}
        }
        !is_step
    }

    fn issued(&mut self, certificate: &ObjectKey, done: Done) {
        let record = self.records.entry(certificate.clone()).or_default();
        let revision = record.attempt.revision + 1;
        record.order = None;
        record.attempt = crate::graph::issuance::Attempt {
            revision,
            request: done.request,
            form: done.form,
            remark: done.remark,
            ..Default::default()
        };
        tracing::info!(certificate = %certificate, revision, "certificate issued");
        self.steps.remove(certificate);
        self.inquiries.remove(certificate);
        self.keep(certificate);
        self.put(done.secret);
    }

    fn rewritten(&mut self, certificate: &ObjectKey, done: Done) {
        let attempt = &mut self.records.entry(certificate.clone()).or_default().attempt;
        (attempt.form, attempt.failures, attempt.not_before) = (done.form, 0, None);
        tracing::info!(certificate = %certificate, "its Secret was written in another form");
        self.keep(certificate);
        self.put(done.secret);
    }

    fn put(&mut self, secret: crate::manifest::Object) {
        self.broken.remove(&secret.key);
        self.secrets.insert(secret.key.clone(), Arc::new(secret));
        self.merged = None;
    }

    fn failed(&mut self, certificate: &ObjectKey, failure: Failure, now: Timestamp) {
        self.steps.remove(certificate);
        let basis = self.running.get(certificate).map(|running| running.basis.clone()).unwrap_or_default();
        let attempt = &mut self.records.entry(certificate.clone()).or_default().attempt;
        attempt.failures += 1;
        let wait = back_off(failure.cause, attempt.failures, failure.retry_after, fastrand::u16(..));
        let until = now.checked_add(wait).unwrap_or(now);
        attempt.last_failure = Some(now);
        attempt.not_before = Some(until);
        attempt.failed_request = basis;
        attempt.failure = failure.message;
        if failure.cause == Cause::Refused {
            // What was refused is not asked for again: the next try is a new order.
            self.records.entry(certificate.clone()).or_default().order = None;
        }
        let limited = now.checked_add(LIMITED).unwrap_or(now).min(until);
        match failure.cause {
            _ if failure.account_gone => self.hold_back(certificate, until, true),
            _ if failure.busy => self.hold_back(certificate, until, false),
            Cause::Limited => self.hold_back(certificate, limited, false),
            _ => {}
        }
        self.keep(certificate);
    }

    /// The issuer is asked nothing for a while, for whatever Certificate.
    fn hold_back(&mut self, certificate: &ObjectKey, until: Timestamp, account_gone: bool) {
        let Some(issuer) = self.accounts.issuer_of(certificate) else { return };
        if account_gone {
            self.accounts.forget(&issuer);
        } else {
            self.held_back.insert(issuer, until);
        }
    }

    fn informed(
        &mut self,
        certificate: ObjectKey,
        result: Result<crate::graph::issuance::RenewalInfo, Duration>,
        now: Timestamp,
    ) {
        self.asking.remove(&certificate);
        match result {
            Ok(info) => {
                self.inquiries.insert(certificate.clone(), info.next_check);
                self.records.entry(certificate.clone()).or_default().attempt.renewal_info = Some(info);
                self.keep(&certificate);
            }
            Err(again) => {
                let again = jiff::SignedDuration::try_from(again).unwrap_or_default();
                self.inquiries.insert(certificate, now.checked_add(again).unwrap_or(now));
            }
        }
    }

    /// Writes the record beside the loop. Should it fail, the next write of it may not.
    fn keep(&self, certificate: &ObjectKey) {
        let Some(record) = self.records.get(certificate).cloned() else { return };
        let (store, certificate) = (self.store.clone(), certificate.clone());
        spawn_blocking(move || {
            if let Err(error) = store.put_record(&certificate, &record) {
                tracing::error!(certificate = %certificate, %error, "progress of a certificate cannot be kept");
            }
        });
    }

    fn forget_challenges(&mut self) {
        let running = &self.running;
        let current = |task: &Task| running.get(&task.certificate).is_some_and(|one| one.number == task.number);
        self.challenges.retain(|(task, _)| current(task));
    }
}
