//! The start of a slave over SSH, which may be late or never answered: a login may be slow, and a
//! forced command may read and say nothing. Sessions need not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::auth::Patience;
use crate::hop::ssh::SshConnection;
use crate::link::{Keepalive, Link};
use crate::start::{self, StartError, Upload};

use super::{ContextError, START_TIMEOUT};

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
    state: watch::Receiver<State>,
    /// Why none is there as long as it is under way.
    slow: Arc<StartError>,
    give_up: Arc<watch::Sender<()>>,
}

impl Starting {
    /// Starts a slave. Returns when that has succeeded or failed, or when nothing was heard of it
    /// for a while: then it goes on.
    pub(super) async fn begin(
        connection: &SshConnection,
        keepalive: Keepalive,
    ) -> Result<Starting, ContextError> {
        let marker = start::marker().map_err(|error| {
            ContextError::Local(format!("the system gives no random numbers: {error}"))
        })?;
        let stream = match connection.exec(start::command(&marker)).await {
            Ok(stream) => stream,
            Err(error) => {
                return Ok(Starting::failed(Arc::new(StartError::Refused(error.to_string()))));
            }
        };
        let (give_up, mut given_up) = watch::channel(());
        let (sender, state) = watch::channel(State::Underway);
        let (tell_ready, ready) = oneshot::channel();
        let slow = Arc::new(StartError::Slow(BEGIN.as_secs()));
        let starting = Starting { state, slow: slow.clone(), give_up: Arc::new(give_up) };
        tokio::spawn(async move {
            let patience = Patience::new(START_TIMEOUT);
            let program = Upload::Sent;
            let started =
                start::start_and_tell(stream, &marker, program, &patience, keepalive, tell_ready);
            let started = tokio::select! {
                started = started => started.map_err(Arc::new),
                _ = given_up.changed() => Err(slow),
            };
            sender.send_replace(match started {
                Ok(link) => State::Slave(link),
                Err(why) => State::Failed(why),
            });
        });
        tokio::select! {
            _ = starting.settled() => {}
            Ok(()) = ready => {
                let _ = starting.settled().await;
            }
            () = tokio::time::sleep(BEGIN) => {}
        }
        Ok(starting)
    }

    /// One that has failed, or would: it is not tried.
    pub(super) fn failed(why: Arc<StartError>) -> Starting {
        let (_, state) = watch::channel(State::Failed(why.clone()));
        Starting { state, slow: why, give_up: Arc::new(watch::channel(()).0) }
    }

    /// The slave, if it is there.
    pub(super) fn slave(&self) -> Option<Link> {
        match &*self.state.borrow() {
            State::Slave(link) => Some(link.clone()),
            State::Underway | State::Failed(_) => None,
        }
    }

    /// Why there is none; `None` where there is one.
    pub(super) fn why_none(&self) -> Option<Arc<StartError>> {
        match &*self.state.borrow() {
            State::Slave(_) => None,
            State::Underway => Some(self.slow.clone()),
            State::Failed(why) => Some(why.clone()),
        }
    }

    /// Waits until it is known whether there is a slave. Cancel safe.
    pub(super) async fn settled(&self) -> Result<Link, Arc<StartError>> {
        let mut state = self.state.clone();
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
