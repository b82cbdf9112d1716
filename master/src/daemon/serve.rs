//! The daemon's loop: clients come, contexts are held, and when there is nothing left it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::resume::Resumes;
use super::shared::MasterState;
use super::{InstanceLock, clients};
use crate::audit::Audit;
use crate::route::Names;
use crate::socket::Socket;

/// How often it is looked at whether the master is idle, as parts of the time it may be.
const LOOKS: u32 = 8;

/// Serves clients until one asks for the end, SIGTERM or SIGINT comes, or there was neither a
/// client nor a context for `idle` (`None`: for ever). Closes every context then.
///
/// # Errors
/// Failures of the system at the start; none later.
pub async fn serve(lock: InstanceLock, idle: Option<Duration>) -> std::io::Result<()> {
    crate::sys::keep_freed_memory();
    if let Err(error) = crate::fd_limit::raise() {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
    if let Err(error) = crate::fd_limit::check() {
        tracing::warn!(%error, "can't keep descriptors in reserve");
    }
    let listener = rustix::io::fcntl_dupfd_cloexec(&lock.listener, 0)?;
    let listener = Socket::new(listener)?;
    let (audit, writing) = Audit::start(&audit_settings());
    writing.map(tokio::spawn);
    let shared = Arc::new(MasterState::new(lock.directory.clone(), audit));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let resumes = Resumes::watch();
    let mut serving = JoinSet::new();
    let ends = shared.clone();
    let ending = tokio::spawn(async move { ends.registry.end_idle().await });
    let mut last_busy = Instant::now();
    let mut looks = tokio::time::interval(idle.unwrap_or(Duration::from_secs(3600)) / LOOKS);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "master started");
    loop {
        tokio::select! {
            client = listener.accept(crate::fd_limit::FOR_CLIENTS) => match client {
                Ok(client) if client.peer_is_ours() => {
                    serving.spawn(clients::serve(shared.clone(), client));
                }
                Ok(_) => tracing::warn!("a client of another user was turned away"),
                Err(error) => {
                    // Out of descriptors, most likely: those who wait are served when some are
                    // free again.
                    tracing::warn!(%error, "can't accept a client");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = serving.join_next() => {}
            () = shared.stop.notified() => break,
            () = resumes.next() => {
                tracing::info!("the clock jumped: looking whether connections still live");
                shared.registry.contexts().iter().for_each(|context| context.probe());
                shared.registry.look_for_ends();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = looks.tick() => {
                let busy = shared.busy.load(Ordering::Relaxed) > 0
                    || !shared.registry.contexts().is_empty();
                if busy {
                    last_busy = Instant::now();
                } else if idle.is_some_and(|idle| last_busy.elapsed() >= idle) {
                    tracing::info!("idle: the master ends");
                    break;
                }
            }
        }
    }
    lock.close();
    drop(listener);
    ending.abort();
    shared.registry.shut_down().await;
    // Those who asked for the end are told that it has come.
    serving.shutdown().await;
    // Those of tools that have ended, and left a process behind that held the run.
    crate::tool::sweep(&lock.directory);
    shared.registry.audit().flush();
    tracing::info!("master ended");
    drop(lock);
    Ok(())
}

/// What the user's configuration says of the audit log. It is read once: no caller of the master's
/// can turn the log off.
fn audit_settings() -> crate::audit::Settings {
    let names = Names::of_user().inspect_err(|error| {
        tracing::warn!(%error, "the audit log is where it is by default, with hashes of commands");
    });
    names.map(|names| names.audit().clone()).unwrap_or_default()
}
