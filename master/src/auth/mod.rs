//! Proving to a server who we are: keys, passwords and the server's own questions, in the order
//! that the user prefers, each at most once.

mod agent;
mod identity;
mod idle_timeout;
mod key;
mod question;
mod secretly;

pub(crate) use idle_timeout::IdleTimeout;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::client::{AuthResult, Handle, Handler};
use russh::keys::Certificate;
use russh::{MethodKind, MethodSet};
use thiserror::Error;

use crate::caller::Caller;
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::{Method, Resolved};

/// Most times that a server may say "and now another method". It bounds what a hostile one can
/// make a person type.
const MAX_STEPS: usize = 16;

/// Most things that an error says were tried.
const MAX_TRIED: usize = 8;

/// The server did not let us in. Its text begins as ssh's own does, since programs look for that.
#[derive(Debug, Error)]
pub enum AuthError {
    /// It refused everything that there was to try.
    #[error(
        "{user}@{hostname}: Permission denied ({allowed}). {host} refused the login; {tried}{advice}"
    )]
    Refused {
        /// The account.
        user: String,
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// The host as it was named.
        host: String,
        /// Methods that the server would still accept.
        allowed: String,
        /// What was tried, and what became of it.
        tried: String,
        /// What to do.
        advice: String,
        /// Whether a question was left, and only this caller could not be asked.
        unanswered: bool,
    },
    /// The connection ended on the way.
    #[error(
        "Connection closed by {hostname} port {port}: {reason}; {user}@{host} was just logging in; \
         {tried}{advice}"
    )]
    Lost {
        /// The account.
        user: String,
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// The port.
        port: u16,
        /// The host as it was named.
        host: String,
        /// What the server said, or what became of the connection.
        reason: String,
        /// What was tried before.
        tried: String,
        /// What to do.
        advice: String,
    },
    /// The server did not answer.
    #[error(
        "Connection to {hostname} port {port} timed out: {user}@{host} did not answer for {seconds} \
         seconds during the login; {tried}"
    )]
    TimedOut {
        /// The account.
        user: String,
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// The port.
        port: u16,
        /// The host as it was named.
        host: String,
        /// The limit.
        seconds: u64,
        /// What was tried before.
        tried: String,
    },
}

/// How a login was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof {
    /// What the server accepted, in order: more than one where it wants several.
    pub(crate) accepted: Vec<String>,
    /// The methods by which it was accepted.
    pub(crate) methods: Vec<Method>,
    /// Whether a person had to answer something: a password, a passphrase, a second factor.
    pub(crate) was_asked: bool,
    /// When the certificate ends that was shown, if one was that ends.
    pub(crate) certificate_end: Option<SystemTime>,
}

impl From<Method> for MethodKind {
    fn from(method: Method) -> MethodKind {
        match method {
            Method::PublicKey => MethodKind::PublicKey,
            Method::KeyboardInteractive => MethodKind::KeyboardInteractive,
            Method::Password => MethodKind::Password,
        }
    }
}

impl Proof {
    fn add_certificate(&mut self, certificate: &Certificate) {
        let seconds = Some(certificate.valid_before()).filter(|&seconds| seconds != u64::MAX);
        let end = seconds.and_then(|it| UNIX_EPOCH.checked_add(Duration::from_secs(it)));
        self.certificate_end = earlier(self.certificate_end, end);
    }
}

/// The earlier of two times; nothing is never.
pub(crate) fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    one.into_iter().chain(other).min()
}

/// Why a method came to an end without success.
enum Stop {
    /// The connection is gone.
    Lost,
    /// No answer in time.
    TimedOut,
}

/// What became of one method.
enum LoginStep {
    Done,
    /// The method was accepted, and others are wanted on top.
    Partial(MethodSet),
    /// Nothing is left to be tried with it.
    Exhausted,
}

/// One login on its way.
struct Login<'a, H: Handler> {
    handle: &'a mut Handle<H>,
    resolved: &'a Resolved,
    caller: Caller,
    /// The server, which may have something to say.
    relay: &'a NoticeRelay,
    idle_timeout: Arc<IdleTimeout>,
    /// What the server would accept, as it said last.
    allowed: MethodSet,
    /// What the server has accepted so far.
    proof: Proof,
    /// What was tried, in words.
    tried: Vec<String>,
    /// How many of those the person was told, who wants to be told.
    told: usize,
    /// Whether something was not answered.
    unanswered: bool,
    /// What the server has asked, rounds without a question included.
    asked: usize,
    /// Keys that were offered to the server.
    offered: usize,
    /// Keys to be tried; `None` before the first look.
    keys: Option<key::KeyQueue>,
    agent: Option<agent::Agent>,
}

/// Logs in. What the server says meanwhile is shown to the person by the relay.
///
/// `reason` says what became of the connection where it is lost.
///
/// # Errors
/// [`AuthError`]. Nothing is tried twice, so that no server has cause to penalise us. After an
/// error, or where it is cancelled, the connection is of no use.
pub(crate) async fn authenticate<H: Handler>(
    handle: &mut Handle<H>,
    resolved: &Resolved,
    (caller, relay): (&Caller, &NoticeRelay),
    idle_timeout: Arc<IdleTimeout>,
    reason: impl AsyncFnOnce() -> String,
) -> Result<Proof, AuthError> {
    let mut login = Login {
        handle,
        resolved,
        caller: idle_timeout.caller(caller),
        relay,
        idle_timeout,
        allowed: MethodSet::empty(),
        proof: Proof::default(),
        tried: Vec::new(),
        told: 0,
        unanswered: false,
        asked: 0,
        offered: 0,
        keys: None,
        agent: None,
    };
    match login.run().await {
        Ok(true) => {
            let accepted = || format!("logged in by {}", login.proof.accepted.join(", "));
            login.caller.detail(1, accepted).await;
            Ok(Proof { was_asked: login.idle_timeout.has_asked(), ..login.proof })
        }
        Ok(false) => Err(login.refused()),
        Err(Stop::Lost) => {
            let reason = login.idle_timeout.without_secrets(&reason().await);
            let (tried, advice) = (login.tried_text(), login.advice_for_lost());
            let (user, host) = login.names();
            let (hostname, port) = (resolved.hostname.clone(), resolved.port);
            Err(AuthError::Lost { user, hostname, port, host, reason, tried, advice })
        }
        Err(Stop::TimedOut) => {
            let (user, host) = login.names();
            let seconds = login.idle_timeout.limit().as_secs();
            let (hostname, port) = (resolved.hostname.clone(), resolved.port);
            let tried = login.tried_text();
            Err(AuthError::TimedOut { user, hostname, port, host, seconds, tried })
        }
    }
}

/// What the caller's agent adds to the keys that decide which account a login is, as fingerprints.
///
/// At hosts of git repositories the key alone says which account it is. Where the user names an
/// `IdentityFile`, that decides, and this is empty. Else it is every key of the agent that is in
/// no default file either. The agent's socket is no part of it: each new session on this machine
/// has another one, mostly with the same keys behind it, or with none yet.
///
/// An agent that can't be reached adds nothing. Cancel safe.
pub(crate) async fn keys_of_agent_alone(resolved: &Resolved) -> Vec<String> {
    let decides =
        resolved.pubkey_authentication && resolved.default_identities && !resolved.identities_only;
    match &resolved.identity_agent {
        Some(socket) if decides => match agent::Agent::open(socket, None).await {
            Ok((_, keys)) => identity::of_agent_alone(resolved, keys).await,
            Err(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

impl<H: Handler> Login<'_, H> {
    async fn run(&mut self) -> Result<bool, Stop> {
        // Servers that know us by other means accept "none"; the others say what they want, and
        // do not count it as a failure.
        let idle_timeout = self.idle_timeout.clone();
        let user = self.resolved.user.clone();
        let first = idle_timeout.wait(self.handle.authenticate_none(user)).await;
        if self.answer(first)? {
            self.proof.accepted.push("nothing".to_owned());
            return Ok(true);
        }
        let mut exhausted = Vec::new();
        let user = &self.resolved.user;
        let allowed: Vec<&str> = self.allowed.iter().map(Into::into).collect();
        let text = || format!("logging in as {user}; the server allows {}", allowed.join(", "));
        self.caller.detail(1, text).await;
        for _ in 0..MAX_STEPS {
            let Some(method) = self.next_method(&exhausted) else { return Ok(false) };
            let step = match method {
                Method::PublicKey => self.public_keys().await?,
                Method::KeyboardInteractive => self.keyboard_interactive().await?,
                Method::Password => self.password().await?,
            };
            self.tell().await;
            if !matches!(step, LoginStep::Exhausted) {
                self.proof.methods.push(method);
                // A key says itself which one it is.
                if method != Method::PublicKey {
                    self.proof.accepted.push(<&str>::from(&MethodKind::from(method)).to_owned());
                }
            }
            match step {
                LoginStep::Done => return Ok(true),
                LoginStep::Partial(allowed) => {
                    self.allowed = allowed;
                    // What was refused before may be what is wanted now, as with ssh.
                    exhausted.clear();
                    self.keys.iter_mut().for_each(key::KeyQueue::start_over);
                }
                LoginStep::Exhausted => exhausted.push(method),
            }
        }
        Ok(false)
    }

    /// Whether no question is allowed: by the configuration, or by the command that asked.
    fn is_batch(&self) -> bool {
        self.resolved.batch_mode || !self.caller.ask.may_answer()
    }

    /// The most preferred method that the server allows, the user allows, and that has not failed.
    fn next_method(&self, exhausted: &[Method]) -> Option<Method> {
        let methods = self.resolved.methods().into_iter();
        let asks = |method: Method| method != Method::PublicKey;
        let methods = methods.filter(|method| !(asks(*method) && self.is_batch()));
        methods
            .into_iter()
            .find(|method| self.allowed.contains(&(*method).into()) && !exhausted.contains(method))
    }

    /// Notes what the server allows now. `true` where it let us in.
    fn answer<E>(&mut self, answer: Option<Result<AuthResult, E>>) -> Result<bool, Stop> {
        match answer {
            None => Err(Stop::TimedOut),
            Some(Err(_)) => Err(Stop::Lost),
            Some(Ok(AuthResult::Success)) => Ok(true),
            Some(Ok(AuthResult::Failure { remaining_methods, .. })) => {
                self.failed(remaining_methods)?;
                Ok(false)
            }
        }
    }

    /// Notes a refusal. The end of the connection looks like one that allows nothing any more.
    fn failed(&mut self, allowed: MethodSet) -> Result<(), Stop> {
        if allowed.is_empty() && self.handle.is_closed() {
            return Err(Stop::Lost);
        }
        self.allowed = allowed;
        Ok(())
    }

    /// Tells what was tried since the last time, if that is wanted.
    async fn tell(&mut self) {
        for tried in self.tried.get(self.told..).unwrap_or_default() {
            self.caller.detail(1, || format!("tried {tried}")).await;
        }
        self.told = self.tried.len();
    }

    fn note(&mut self, what: impl Into<String>) {
        self.tried.push(what.into());
    }

    fn names(&self) -> (String, String) {
        (self.resolved.user.clone(), self.resolved.host.clone())
    }

    fn tried_text(&self) -> String {
        let mut tried: Vec<&str> = self.tried.iter().map(String::as_str).collect();
        tried.dedup();
        let more = tried.len().saturating_sub(MAX_TRIED);
        tried.truncate(MAX_TRIED);
        match (tried.is_empty(), more) {
            (true, _) => "nothing was tried".to_owned(),
            (false, 0) => format!("tried: {}", tried.join(", ")),
            (false, more) => format!("tried: {} and {more} more", tried.join(", ")),
        }
    }

    fn refused(&self) -> AuthError {
        let allowed: Vec<&str> = self.allowed.iter().map(Into::into).collect();
        let mut advice = String::new();
        if self.allowed.contains(&MethodKind::PublicKey) {
            advice += "; name another key with -i, add one to ssh-agent, or install one with \
                       ssh-copy-id";
        } else if self.allowed.is_empty() {
            advice += "; look at the server's log";
        }
        let questions = [MethodKind::Password, MethodKind::KeyboardInteractive];
        let questions = questions.iter().any(|method| self.allowed.contains(method));
        let unanswered = self.unanswered || (self.is_batch() && questions);
        if self.resolved.batch_mode && questions {
            advice += "; BatchMode allows no question";
        } else if unanswered {
            advice += "; nobody was there to type a password: connect from a terminal first \
                       (fakessh connect), or set SSH_ASKPASS (--password-file is for sudo, su and \
                       doas)";
        }
        let (user, host) = self.names();
        AuthError::Refused {
            user,
            hostname: self.resolved.hostname.clone(),
            host,
            allowed: allowed.join(","),
            tried: self.tried_text(),
            advice,
            unanswered,
        }
    }

    /// Servers hang up after some failures (MaxAuthTries, 6 by default).
    fn advice_for_lost(&self) -> String {
        if self.offered < 2 {
            return String::new();
        }
        format!(
            "; {} keys were offered, which may be more than the server's MaxAuthTries: \
             name the right one with -i and -o IdentitiesOnly=yes",
            self.offered
        )
    }
}

/// A file's name as it is shown: below the home directory it begins with `~`.
fn shown(path: &std::path::Path, caller: &Caller) -> String {
    let home = caller.variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home.as_ref().and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}
