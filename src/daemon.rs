//! The loop: one pass after another, and what was last good.
//!
//! Everything that changes comes here as a reason for a pass: the watch, a reload, an ExternalName that resolved anew, a
//! socket to try again. Only which way TCP and UDP traffic takes is reported without one. The control runtime is a thread of
//! its own; the workers never wait for it.

use std::{
    collections::HashSet,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::sleep_until,
};

mod address;
mod deny;
mod fallback;
mod kernel_path;
mod lock;
#[cfg(feature = "kernel")]
mod look;
mod name;
mod pass;
#[cfg(feature = "kernel")]
mod pins;
mod reporter;
mod secrecy;
mod source;
mod state;
mod tell;
mod view;
mod watchdog;

pub use self::state::StateError;
use self::{lock::Lock, pass::Pass, reporter::Reported, watchdog::Watchdog};
use crate::{
    cli::run::RunOptions,
    manifest::watch::Watch,
    observe::{admin, log},
    publish::{inherited::Inherited, store::Store},
    view::{Request, View},
};

/// A directory is looked at after this time even when nothing was heard of it: watches miss things.
const POLL: Duration = Duration::from_secs(30);
/// Sockets that could not be bound, and state that could not be written, are tried again after this time.
const AGAIN: Duration = Duration::from_secs(3);
/// A new ExternalName is waited for this long before what names it is served.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// What keeps it from starting: a directory that cannot be made, another daemon on the state directory, a state directory
/// of a later version, no worker.
pub fn run(options: RunOptions) -> anyhow::Result<ExitCode> {
    log::init(&options.log_level).map_err(anyhow::Error::msg)?;
    secrecy::no_core_dumps();
    let inherited = Inherited::take();
    let lock = take_lock(&options)?;
    // Outside the runtime: it waits for the workers' threads.
    let options = Arc::new(options);
    let pass = Pass::start(options.clone(), inherited, Store::find())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the control runtime")?;
    runtime.block_on(control(options, pass, lock))
}

async fn control(options: Arc<RunOptions>, mut pass: Pass, mut lock: Option<Lock>) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut watch, unwatched) = Watch::new();
    if let Some(error) = unwatched {
        tracing::warn!(%error, poll = ?POLL, "directory cannot be watched, only polled");
    }
    let mut asked = admin_socket(&options)?;
    look(&mut pass, &mut watch, &options, true).await;
    pass.reporter.settle().await;
    tell::ready(&pass.reporter.last.view);
    let mut watchdog = Watchdog::find();
    // Of its own, so that nobody who asks often puts it off.
    let mut poll = Instant::now() + POLL;
    loop {
        pass.rotate_tickets();
        let next = pass.next().map_or(poll, |next| next.min(poll));
        tokio::select! {
            () = watch.changed() => look(&mut pass, &mut watch, &options, false).await,
            () = pass.names.changed() => pass.run().await,
            () = pass.reporter.done() => {}
            () = pass.engine.changed() => pass.run().await,
            () = pass.deny.changed() => pass.run().await,
            () = pass.kernel_path.changed() => pass.follow_paths(),
            () = sleep_until(next.into()) => {
                poll = if poll <= Instant::now() { Instant::now() + POLL } else { poll };
                lock = lock.or_else(|| late_lock(&options));
                look(&mut pass, &mut watch, &options, false).await;
            }
            () = watchdog.due() => watchdog.feed(pass.is_alive()),
            _ = hangup.recv() => reload(&mut pass, &mut watch, &options).await,
            Some((request, answer)) = asked.recv() => {
                match request {
                    Request::Reload => reload(&mut pass, &mut watch, &options).await,
                    _ => pass.reporter.settle().await,
                }
                let mut reported = pass.reporter.last.clone();
                if matches!(request, Request::Status) {
                    let view = Arc::make_mut(&mut reported.view);
                    (view.traffic, view.deny) = (pass.traffic(), pass.denied());
                    (view.traffic_path, view.kernel) = pass.traffic_path();
                }
                // A client that went away needs no answer.
                let _ = answer.send(reported);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tell::stopping(options.settings.drain_timeout);
    let drained = tokio::task::spawn_blocking(move || pass.drain());
    tokio::select! {
        _ = drained => {}
        // Asked a second time: whoever asks does not want to wait.
        _ = terminate.recv() => std::process::exit(0),
        _ = interrupt.recv() => std::process::exit(0),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns when what is in the directory is served and reported.
async fn reload(pass: &mut Pass, watch: &mut Watch, options: &RunOptions) {
    tell::reloading();
    pass.reopen_access_log();
    pass.deny.look();
    look(pass, watch, options, true).await;
    pass.settle_kernel_path();
    pass.reporter.settle().await;
    tell::ready(&pass.reporter.last.view);
}

/// Looks at the directory and runs a pass when something changed, again where a watch was missing for a moment.
async fn look(pass: &mut Pass, watch: &mut Watch, options: &RunOptions, now_or_never: bool) {
    let busy = if now_or_never { HashSet::new() } else { watch.busy() };
    let start = Instant::now();
    let mut changed = pass.sources.look(&busy, now_or_never);
    tracing::debug!(took = ?start.elapsed(), changed, "looked");
    if watch.follow(&options.config_dir, &pass.sources.directories()) {
        changed |= pass.sources.look(&busy, now_or_never);
    }
    if changed || now_or_never || pass.is_due() {
        pass.run().await;
    }
}

/// Makes sure that the state directory is this process's alone, and of a version that it knows.
fn take_lock(options: &RunOptions) -> anyhow::Result<Option<Lock>> {
    let path = options.state_dir.join("lock");
    if let Err(error) = std::fs::create_dir_all(&options.state_dir) {
        tracing::error!(path = %options.state_dir.display(), %error, "state directory cannot be made");
        return Ok(None);
    }
    let lock = Lock::take(&path);
    match state::check(&options.state_dir) {
        // That it is another daemon's is said first.
        Err(error @ StateError::Newer { .. }) if !matches!(lock, Err(lock::LockError::Held(_))) => {
            return Err(error.into());
        }
        Err(StateError::Io(error)) => {
            tracing::error!(path = %options.state_dir.display(), %error, "state directory cannot be marked");
        }
        _ => {}
    }
    match lock {
        Ok(lock) => Ok(Some(lock)),
        Err(lock::LockError::Io(error)) => {
            // Full or read-only: what is asked for is served all the same, and the pass says that it is not kept.
            tracing::error!(path = %path.display(), %error, "state directory cannot be locked");
            Ok(None)
        }
        Err(held) => Err(held.into()),
    }
}

/// The lock, on a state directory that was not to be had at the start.
fn late_lock(options: &RunOptions) -> Option<Lock> {
    Lock::take(&options.state_dir.join("lock"))
        .inspect_err(|error| tracing::debug!(%error, "state directory cannot be locked"))
        .ok()
}

type Asked = (Request, oneshot::Sender<Reported>);

/// Serves the admin socket; requests come back through the channel, since the loop alone may run a pass.
fn admin_socket(options: &RunOptions) -> anyhow::Result<mpsc::Receiver<Asked>> {
    let directory = &options.runtime_dir;
    std::fs::create_dir_all(directory).with_context(|| format!("the runtime directory {}", directory.display()))?;
    let listener = admin::bind(directory).with_context(|| format!("the admin socket in {}", directory.display()))?;
    secrecy::show_group(&directory.join(admin::SOCKET), 0o660);
    let (ask, asked) = mpsc::channel(16);
    tokio::spawn(admin::serve(listener, move |request: Request| {
        let ask = ask.clone();
        async move {
            let (answer, reported) = oneshot::channel::<Reported>();
            let sent = ask.send((request.clone(), answer)).await.is_ok();
            let reported = match reported.await {
                Ok(reported) if sent => reported,
                _ => Reported::default(),
            };
            // Thousands of objects take their time, which the loop should not give.
            let answer = tokio::task::spawn_blocking(move || match request {
                Request::Status | Request::Plan | Request::Reload => reported.view.answer(&request),
                Request::Objects { .. } | Request::Describe { .. } => reported.whole().answer(&request),
            });
            answer.await.unwrap_or_else(|_| View::default().answer(&Request::Status))
        }
    }));
    Ok(asked)
}
