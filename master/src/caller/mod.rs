//! Whoever caused a connection: its environment, its directory, and its person at the terminal.
//!
//! The master serves many callers and is none of them. `SSH_AUTH_SOCK`, `HOME`, relative paths and
//! what `Match exec` sees are the caller's; questions go to the caller and to nobody else.

mod answers;
mod details;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fakessh_protocol::invocation::Invocation;
use fakessh_protocol::message::{Notice, Question, Secret};
use tokio::process::Command;

use crate::audit::Who;

pub(crate) use answers::Answers;
pub use details::Details;
pub(crate) use details::detail;

/// Somebody who can be asked for passwords, passphrases and trust in a host key.
///
/// Implementations are written with the crate `async-trait`: `#[async_trait] impl Ask for Mine`.
#[async_trait]
pub trait Ask: Send + Sync {
    /// Asks, and waits for the answer as long as it takes.
    ///
    /// `None` where there is nobody to ask, or the person gave up. Cancel safe: a question that
    /// is dropped is withdrawn, and its answer goes nowhere.
    async fn ask(&self, question: Question) -> Option<Secret>;

    /// Whether there may be somebody. What fails for want of an answer is tried again only for a
    /// caller for whom this is true.
    fn may_answer(&self) -> bool {
        true
    }

    /// The process that this is about, as far as it is known: for the audit log.
    fn who(&self) -> Option<Who> {
        None
    }

    /// How much of what is done is to be told by notices; `None` for nothing.
    #[doc(hidden)]
    fn details(&self) -> Option<Details> {
        None
    }

    /// Says something that needs no answer: a server's banner, a host key that was recorded.
    /// Displayed, it is lines for standard error. Dropped if nobody listens.
    async fn notice(&self, _notice: Notice) {}
}

/// Asks nobody: every question is answered with "nobody there", as with `BatchMode yes`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskNobody;

#[async_trait]
impl Ask for AskNobody {
    async fn ask(&self, _question: Question) -> Option<Secret> {
        None
    }

    fn may_answer(&self) -> bool {
        false
    }
}

/// Asks nobody for this process.
pub(crate) struct AskNobodyFor(pub(crate) Option<Who>);

#[async_trait]
impl Ask for AskNobodyFor {
    async fn ask(&self, _question: Question) -> Option<Secret> {
        None
    }

    fn may_answer(&self) -> bool {
        false
    }

    fn who(&self) -> Option<Who> {
        self.0.clone()
    }
}

/// Asks the same person for a tool that runs at a target.
pub(crate) struct AskFrom {
    pub(crate) ask: Arc<dyn Ask>,
    /// The context in which the tool runs.
    pub(crate) at: String,
}

#[async_trait]
impl Ask for AskFrom {
    async fn ask(&self, question: Question) -> Option<Secret> {
        self.ask.ask(question).await
    }

    fn may_answer(&self) -> bool {
        self.ask.may_answer()
    }

    fn who(&self) -> Option<Who> {
        let who = self.ask.who().unwrap_or_default();
        Some(Who { at: Some(self.at.clone()), ..who })
    }

    fn details(&self) -> Option<Details> {
        self.ask.details()
    }

    async fn notice(&self, notice: Notice) {
        self.ask.notice(notice).await;
    }
}

/// Asks nothing of somebody, as with `BatchMode yes`. What needs no answer is said.
pub(crate) struct TellOnly(pub(crate) Arc<dyn Ask>);

#[async_trait]
impl Ask for TellOnly {
    async fn ask(&self, _question: Question) -> Option<Secret> {
        None
    }

    fn may_answer(&self) -> bool {
        false
    }

    fn who(&self) -> Option<Who> {
        self.0.who()
    }

    fn details(&self) -> Option<Details> {
        self.0.details()
    }

    async fn notice(&self, notice: Notice) {
        self.0.notice(notice).await;
    }
}

/// Somebody who can be asked until that is over: then nothing of them is held, as the socket to
/// whoever opened a context that lasts.
pub(crate) struct AskForNow(Mutex<Option<Arc<dyn Ask>>>);

impl AskForNow {
    pub(crate) fn new(ask: Arc<dyn Ask>) -> AskForNow {
        AskForNow(Mutex::new(Some(ask)))
    }

    /// From here on there is nobody.
    pub(crate) fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn now(&self) -> Option<Arc<dyn Ask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Ask for AskForNow {
    async fn ask(&self, question: Question) -> Option<Secret> {
        self.now()?.ask(question).await
    }

    fn may_answer(&self) -> bool {
        self.now().is_some_and(|ask| ask.may_answer())
    }

    fn who(&self) -> Option<Who> {
        self.now()?.who()
    }

    fn details(&self) -> Option<Details> {
        self.now()?.details()
    }

    async fn notice(&self, notice: Notice) {
        if let Some(ask) = self.now() {
            ask.notice(notice).await;
        }
    }
}

/// Whoever caused a connection.
#[derive(Clone)]
pub struct Caller {
    /// Its environment, whole.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory: relative paths in options are meant from here.
    pub directory: PathBuf,
    /// Whom to ask.
    pub ask: Arc<dyn Ask>,
}

impl Caller {
    /// A program as the caller would run it: with its environment, in its directory, and with the limit
    /// of open files that it has. Its outputs are pipes, its input is empty, and it ends when it is dropped.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        crate::fd_limit::give_back(command.as_std_mut());
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.open_directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// This process as a caller, with somebody to ask.
    ///
    /// # Errors
    /// Where the working directory can't be found.
    pub fn current(ask: Arc<dyn Ask>) -> std::io::Result<Caller> {
        let environment = std::env::vars_os().collect();
        Ok(Caller { environment, directory: std::env::current_dir()?, ask })
    }

    /// The caller that an invocation comes from.
    pub(crate) fn of_invocation(invocation: &Invocation, ask: Arc<dyn Ask>) -> Caller {
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let environment =
            invocation.environment.iter().map(|(name, value)| (text(name), text(value)));
        Caller {
            environment: environment.collect(),
            directory: text(&invocation.directory).into(),
            ask,
        }
    }

    /// Where programs are started for it: its directory, unless that is closed to its user, as
    /// behind su(1); what it calls itself runs there all the same.
    pub(crate) fn open_directory(&self) -> &Path {
        let open = rustix::fs::access(&self.directory, rustix::fs::Access::EXEC_OK).is_ok();
        if open { &self.directory } else { Path::new("/") }
    }

    /// A variable of the caller's environment.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_os_str())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Caller").field("directory", &self.directory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_held_who_is_not_asked_any_more() {
        let person = Arc::new(AskNobody);
        let for_now = AskForNow::new(person.clone());
        assert_eq!(Arc::strong_count(&person), 2);
        for_now.over();
        assert_eq!(Arc::strong_count(&person), 1);
        assert!(!for_now.may_answer());
    }
}
