//! The start of a slave over SSH, which may be late or never answered: a login may be slow, and a
//! forced command may read and say nothing. Sessions need not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::auth::IdleTimeout;
use crate::hop::ssh::SshConnection;
use crate::link::{Keepalive, Link};
use crate::start::{self, StartError, Upload};

use super::START_TIMEOUT;

/// How long sessions wait for a target to say that it begins. Most logins take some tenths of a
/// second; those that take longer are served by channels of their own at first.
const BEGIN: Duration = Duration::from_secs(2);

/// How a start stands.
#[derive(Clone, Debug)]
enum State {
    Underway,
    Slave(Link),
    Failed(Arc<StartError>),
}

/// The start of a slave. Clones are the same start; it is given up when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Starting {
    state: Arc<watch::Sender<State>>,
    keepalive: Keepalive,
    /// Why none is there as long as it is under way.
    slow: Arc<StartError>,
    give_up: Arc<watch::Sender<()>>,
}

impl Starting {
    fn new(state: State, keepalive: Keepalive) -> Starting {
        Starting {
            state: Arc::new(watch::Sender::new(state)),
            keepalive,
            slow: Arc::new(StartError::Slow(BEGIN.as_secs())),
            give_up: Arc::default(),
        }
    }

    /// Starts a slave. Returns when that has succeeded or failed, or when nothing was heard of it
    /// for a while: then it goes on.
    pub(super) async fn begin(connection: &SshConnection, keepalive: Keepalive) -> Starting {
        let starting = Starting::new(State::Underway, keepalive);
        let ready = starting.attempt(connection);
        tokio::select! {
            _ = starting.settled() => {}
            Ok(()) = ready => {
                let _ = starting.settled().await;
            }
            () = tokio::time::sleep(BEGIN) => {}
        }
        starting
    }

    /// A start that has failed, or would fail: it is not tried.
    pub(super) fn failed(why: Arc<StartError>, keepalive: Keepalive) -> Starting {
        Starting::new(State::Failed(why), keepalive)
    }

    /// Tries it, and tells the receiver when the script runs at the far end.
    fn attempt(&self, connection: &SshConnection) -> oneshot::Receiver<()> {
        let (tell_ready, ready) = oneshot::channel();
        let (connection, keepalive) = (connection.clone(), self.keepalive);
        let (state, slow) = (self.state.clone(), self.slow.clone());
        let mut given_up = self.give_up.subscribe();
        tokio::spawn(async move {
            let started = tokio::select! {
                started = start(connection, keepalive, tell_ready) => started.map_err(Arc::new),
                _ = given_up.changed() => Err(slow),
            };
            state.send_replace(match started {
                Ok(link) => State::Slave(link),
                Err(why) => State::Failed(why),
            });
        });
        ready
    }

    /// The slave, for whom nothing else will do: a start that is under way is waited for, and one
    /// that has failed is tried again, unless it would fail in the same way. Cancel safe.
    pub(super) async fn obtain(&self, connection: &SshConnection) -> Result<Link, Arc<StartError>> {
        let is_worth_it = |state: &mut State| {
            let is_worth_it = matches!(state, State::Failed(why) if why.is_worth_another_try());
            if is_worth_it {
                *state = State::Underway;
            }
            is_worth_it
        };
        if self.state.send_if_modified(is_worth_it) {
            drop(self.attempt(connection));
        }
        self.settled().await
    }

    /// The slave, if it is there.
    pub(super) fn slave(&self) -> Option<Link> {
        match &*self.state.borrow() {
            State::Slave(link) => Some(link.clone()),
            State::Underway | State::Failed(_) => None,
        }
    }

    /// Why there is no slave; `None` if there is one.
    pub(super) fn why_none(&self) -> Option<Arc<StartError>> {
        match &*self.state.borrow() {
            State::Slave(_) => None,
            State::Underway => Some(self.slow.clone()),
            State::Failed(why) => Some(why.clone()),
        }
    }

    /// Waits until there is a slave. Cancel safe.
    pub(super) async fn succeeded(&self) -> Link {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| matches!(state, State::Slave(_))).await;
        match self.slave() {
            Some(link) => link,
            None => std::future::pending().await,
        }
    }

    /// Waits until it is known whether there is a slave. Cancel safe.
    pub(super) async fn settled(&self) -> Result<Link, Arc<StartError>> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Underway)).await;
        match settled.as_deref() {
            Ok(State::Slave(link)) => Ok(link.clone()),
            Ok(State::Failed(why)) => Err(why.clone()),
            Ok(State::Underway) | Err(_) => Err(self.slow.clone()),
        }
    }

    /// Ends it, unless a slave is there already.
    pub(super) async fn give_up(self) {
        self.give_up.send_replace(());
        let _ = self.settled().await;
    }
}

/// Starts a slave on a channel of its own.
async fn start(
    connection: SshConnection,
    keepalive: Keepalive,
    tell_ready: oneshot::Sender<()>,
) -> Result<Link, StartError> {
    let marker = start::marker().map_err(|error| {
        StartError::Channel(format!("the system gives no random numbers: {error}"))
    })?;
    let stream = connection.exec(start::command(&marker)).await;
    let stream = stream.map_err(|error| StartError::Channel(error.to_string()))?;
    // It lives as long as the stream does.
    drop(connection);
    let idle_timeout = IdleTimeout::new(START_TIMEOUT);
    start::start_and_tell(stream, &marker, Upload::Sent, &idle_timeout, keepalive, tell_ready).await
}
