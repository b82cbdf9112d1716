//! A context: one place where programs can be run, reached once and held.

mod registry;
mod slots;
mod variables;
mod way;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use fakessh_protocol::invocation::Invocation;
use fakessh_protocol::message::ProgramKind;
use thiserror::Error;

use crate::caller::Caller;
use crate::hop::ssh::{ConnectError, SshConnection};
use crate::link::{Keepalive, Link, LinkLost, Session};
use crate::ssh_config::{ConfigError, DestinationError, Resolved};
use crate::start::{self, StartError};

pub use registry::{Reached, Registry};
pub use variables::SessionOptions;

/// How long a slave may take to start. `ConnectTimeout` ends with the exchange of keys (ssh_config(5)):
/// what the account's login shell does first may take its time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no context. Its text is one line that says what to do.
#[derive(Clone, Debug, Error)]
pub enum ContextError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(Arc<ConfigError>),
    /// A destination or jump host can't be understood.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// More jump hosts behind one another than sense.
    #[error("ProxyJump leads through more than {0} hosts; is there a loop in ssh_config?")]
    TooManyJumps(usize),
    /// A host can only be reached through itself.
    #[error("ProxyJump leads in a circle: {0}; look at ssh_config, or name the way with -J")]
    JumpLoop(String),
    /// The registry makes no contexts any more.
    #[error("the master is about to end; try again to start a new one")]
    Closing,
    /// No connection, or no login.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// No slave there.
    #[error(transparent)]
    Start(Arc<StartError>),
    /// Something of this machine.
    #[error("{0}")]
    Local(String),
}

impl ContextError {
    /// Whether only this caller could not be asked: with another it may go well.
    fn is_unanswered(&self) -> bool {
        matches!(self, ContextError::Connect(error) if error.is_unanswered())
    }
}

/// Most characters of an account's name that are believed. Linux allows 32.
const MAX_USER: usize = 256;

/// One place where programs can be run, with a slave that waits there.
pub struct Context {
    name: String,
    user: String,
    resolved: Resolved,
    link: Link,
    connection: SshConnection,
    since: SystemTime,
    sessions: Arc<AtomicUsize>,
    served: AtomicU64,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Context {
    /// Starts a slave at the far end of a connection.
    async fn start(
        name: String,
        resolved: Resolved,
        connection: SshConnection,
    ) -> Result<Context, ContextError> {
        let failed = |error| ContextError::Start(Arc::new(error));
        let marker = start::marker().map_err(|error| {
            ContextError::Local(format!("the system gives no random numbers: {error}"))
        })?;
        let stream = connection
            .exec(start::command(&marker))
            .await
            .map_err(|error| failed(StartError::Refused(error.to_string())))?;
        let link = start::start(stream, &marker, START_TIMEOUT, keepalive(&resolved)).await;
        let link = link.map_err(failed)?;
        Ok(Context {
            name,
            user: shown_user(&link.hello().user),
            resolved,
            link,
            connection,
            since: SystemTime::now(),
            sessions: Arc::new(AtomicUsize::new(0)),
            served: AtomicU64::new(0),
        })
    }

    /// The destination as it was first asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account that programs run as, as the target says it; what a terminal would act on is
    /// replaced.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Host name or address, and port.
    pub fn address(&self) -> (&str, u16) {
        (&self.resolved.hostname, self.resolved.port)
    }

    /// When the connection was made.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Sessions that run now.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Sessions that were started since the beginning.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The link to the slave.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the connection is gone. A new one is made when the destination is asked for again.
    pub fn is_lost(&self) -> bool {
        self.link.is_lost()
    }

    /// Starts a program. Nothing is waited for: the request is on its way when this returns, and
    /// standard input may follow at once.
    ///
    /// `environment` is added to the account's login environment, as name and value.
    ///
    /// # Errors
    /// Where the link is lost.
    pub fn open(
        &self,
        program: ProgramKind,
        environment: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(Session, SessionCount), LinkLost> {
        let session = self.link.open(program, environment)?;
        self.served.fetch_add(1, Ordering::Relaxed);
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok((session, SessionCount(self.sessions.clone())))
    }

    /// Ends the link, all its sessions, and the connection.
    pub async fn close(&self) {
        self.link.close();
        self.link.lost().await;
        self.connection.close().await;
    }
}

/// Counts a session as running until it is dropped.
#[derive(Debug)]
pub struct SessionCount(Arc<AtomicUsize>);

impl Drop for SessionCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The name of an account, from a target that may be hostile. Replaced and not left out: what is
/// no good name must not become one.
fn shown_user(user: &str) -> String {
    let shown = user.chars().take(MAX_USER);
    shown.map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// `ServerAliveInterval` and `ServerAliveCountMax` where they are set, else our own.
fn keepalive(resolved: &Resolved) -> Keepalive {
    let Some(interval) = resolved.server_alive_interval.filter(|interval| !interval.is_zero())
    else {
        return Keepalive::default();
    };
    let silent_looks = resolved.server_alive_count_max.max(1);
    // The slave gives the master twice the time, so that it is the master who tells the user.
    Keepalive { interval, silent_looks, silence: interval * silent_looks * 2 }
}

impl Caller {
    /// The caller of an invocation.
    pub(crate) fn of_invocation(
        invocation: &Invocation,
        ask: Arc<dyn crate::caller::Ask>,
    ) -> Caller {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let environment =
            invocation.environment.iter().map(|(name, value)| (text(name), text(value)));
        Caller {
            environment: environment.collect(),
            directory: text(&invocation.directory).into(),
            ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_user_is_shown_without_what_a_terminal_acts_on() {
        assert_eq!(shown_user("bob"), "bob");
        assert_eq!(shown_user("ro\x1bot\n"), "ro\u{fffd}ot\u{fffd}");
        assert_eq!(shown_user(&"x".repeat(1 << 20)).len(), MAX_USER);
    }
}
