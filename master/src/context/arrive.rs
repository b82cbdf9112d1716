//! Makes a context at the end of a segment: starts a slave there, and says what the context is.

use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::message::{self, ProgramKind};
use fakessh_protocol::printable;
use tokio::sync::Mutex;

use crate::auth::IdleTimeout;
use crate::caller::{AskForNow, Caller};
use crate::hop::helper::{Helper, Talk};
use crate::hop::process::Process;
use crate::hop::ssh::SshConnection;
use crate::hop::{Plan, Start};
use crate::lifetime::PRIVILEGED;
use crate::lifetime::alarm::Alarm;
use crate::link::{Keepalive, Link};
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::Resolved;
use crate::start::{self, StartError, Upload};
use crate::sys::scrub::SecretAbout;

use super::held::HeldConnection;
use super::segment::HelperHop;
use super::starting::Starting;
use super::{Context, ContextError, NewContext, START_TIMEOUT, Serving, Underlay, environment};

/// How long after the end of its last channel a connection may end, to count as ended by that.
const END_TOGETHER: Duration = Duration::from_millis(250);

/// Most characters of an account's name that are believed. Linux allows 32.
const MAX_USER: usize = 256;

/// Makes the context at the end of a connection. A slave is started there, unless it is known why
/// none can run. If none starts, each session gets a channel of its own.
pub(super) async fn at_host(
    name: &str,
    resolved: &Resolved,
    base: Option<Arc<Context>>,
    connection: SshConnection,
    known: Option<Arc<StartError>>,
    alarm: &Arc<Alarm>,
) -> Result<Context, ContextError> {
    // Packets of the login are freed when their buffers are used again.
    let _secret = SecretAbout::new();
    let keepalive = keepalive(resolved);
    let starting = match known {
        Some(why) => Starting::failed(why, keepalive),
        None => {
            let starting = Starting::begin(&connection, keepalive).await;
            if let Some(error) = starting.why_none()
                && (connection.is_closed()
                    || error.is_without_status() && ends_now(&connection).await)
            {
                let lost = connection.closed().await;
                let has_begun = matches!(*error, StartError::CutShort(_));
                return Err(if has_begun {
                    ContextError::LostAtStart(lost)
                } else {
                    ContextError::EndedAtStart(format!("{lost}; {error}"))
                });
            }
            starting
        }
    };
    let (needs_answer, certificate_end) = (connection.was_asked(), connection.certificate_end());
    let (user, serving) = match starting.slave() {
        Some(link) => (shown_user(&link.hello().user), Serving::Slave(link)),
        None => (resolved.user.clone(), Serving::Direct(connection.clone(), starting)),
    };
    let held = HeldConnection::new(connection);
    if let Serving::Slave(link) = &serving {
        held.let_go_after(link.clone());
    }
    Ok(Context::new(
        NewContext {
            name: name.to_owned(),
            user,
            address: Some((resolved.hostname.clone(), resolved.port)),
            serving,
            underlay: Underlay::Ssh(held),
            needs_answer,
            certificate_end,
            base,
        },
        alarm,
    ))
}

/// Whether a connection ends that has just lost its only channel. The two come together if the
/// server goes.
async fn ends_now(connection: &SshConnection) -> bool {
    tokio::time::timeout(END_TOGETHER, connection.closed()).await.is_ok()
}

/// A context that a helper leads to.
pub(super) struct BehindHelper<'a> {
    pub(super) name: &'a str,
    pub(super) hop: &'a HelperHop,
    /// The configuration of the nearest SSH connection.
    pub(super) resolved: Option<&'a Resolved>,
}

impl BehindHelper<'_> {
    /// Runs the helper in `base`, or on this host, and makes the context.
    pub(super) async fn context(
        self,
        base: Option<Arc<Context>>,
        caller: &Caller,
        alarm: &Arc<Alarm>,
    ) -> Result<Context, ContextError> {
        let _secret = SecretAbout::new();
        let random = || {
            start::marker().map_err(|error| {
                ContextError::Local(format!("the system gives no random numbers: {error}"))
            })
        };
        let marker = random()?;
        let script = start::script(&marker, start::Behind::Helper);
        let (kind, name) = (self.hop.kind.name(), self.name);
        caller.detail(1, || format!("running {kind} for {name}")).await;
        let plan = self.hop.kind.plan(&self.hop.argument, &Start { script, marker: random()? });
        let parts = match base {
            Some(base) => self.run_in(base, plan, &marker, caller).await?,
            None => self.run_here(plan, &marker, caller).await?,
        };
        Ok(Context::new(parts, alarm))
    }

    async fn run_here(
        &self,
        plan: Plan,
        marker: &str,
        caller: &Caller,
    ) -> Result<NewContext, ContextError> {
        let failed = |error| self.failed(None, error, false);
        let (process, stream) = Process::start(&plan.argv, caller)
            .map_err(|error| failed(StartError::Refused(error.to_string())))?;
        let idle_timeout = IdleTimeout::new(START_TIMEOUT);
        let keepalive = self.keepalive();
        let link = start::start(stream, marker, Upload::Sent, &idle_timeout, keepalive).await;
        let underlay = Underlay::Process(Mutex::new(process));
        Ok(self.new_context(link.map_err(failed)?, underlay, false, None))
    }

    async fn run_in(
        &self,
        base: Arc<Context>,
        plan: Plan,
        marker: &str,
        caller: &Caller,
    ) -> Result<NewContext, ContextError> {
        let mut environment = match base.underlay {
            // The master's own host, which has many callers.
            Underlay::Process(_) => environment::of(self.hop.kind, caller),
            _ => Vec::new(),
        };
        environment
            .extend(plan.environment.iter().map(|(name, value)| (name.into(), value.into())));
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.into_vec(), value.into_vec()))
            .collect::<Vec<_>>();
        let argv = plan.argv.into_iter().map(OsStringExt::into_vec).collect();
        let helper = message::Helper { argv, terminal: plan.terminal, carries: true };
        let program = ProgramKind::Helper(helper);
        let session = base.slave_session(program, environment.into(), self.hop.kind.name()).await?;
        let idle_timeout = IdleTimeout::new(START_TIMEOUT);
        let ask = Arc::new(AskForNow::new(idle_timeout.caller(caller).ask));
        let talk = Talk {
            prompt: plan.prompt,
            who: format!("{}: {}", base.name(), self.hop.kind.name()),
            hop: NoticeRelay::new(self.name),
            ask: ask.clone(),
        };
        let (helper, stream) = Helper::start(session, talk);
        let keepalive = self.keepalive();
        let link = start::start(stream, marker, Upload::Carried, &idle_timeout, keepalive).await;
        let link =
            link.map_err(|error| self.failed(Some(base.name()), error, helper.is_unanswered()))?;
        helper.arrived();
        ask.over();
        let needs_answer = idle_timeout.has_asked() || PRIVILEGED.contains(&self.hop.kind.name());
        let underlay = Underlay::Helper(Mutex::new(helper));
        Ok(self.new_context(link, underlay, needs_answer, Some(base)))
    }

    fn new_context(
        &self,
        link: Link,
        underlay: Underlay,
        needs_answer: bool,
        base: Option<Arc<Context>>,
    ) -> NewContext {
        NewContext {
            name: self.name.to_owned(),
            user: shown_user(&link.hello().user),
            address: base.as_ref().and_then(|base| base.address.clone()),
            serving: Serving::Slave(link),
            underlay,
            needs_answer,
            certificate_end: None,
            base,
        }
    }

    fn keepalive(&self) -> Keepalive {
        self.resolved.map(keepalive).unwrap_or_default()
    }

    fn failed(&self, base: Option<&str>, error: StartError, unanswered: bool) -> ContextError {
        let kind = self.hop.kind.name();
        let hop = base.map_or_else(|| kind.to_owned(), |base| format!("{kind} on {base}"));
        ContextError::Helper { hop, error: Arc::new(error), unanswered }
    }
}

/// Makes the name of an account fit to be shown: it is the word of a target that may be hostile.
/// Characters are replaced and not left out: a bad name must not become a good one.
fn shown_user(user: &str) -> String {
    printable::word(user, MAX_USER)
}

/// `ServerAliveInterval` and `ServerAliveCountMax` if they are set, else our own.
fn keepalive(resolved: &Resolved) -> Keepalive {
    let Some(interval) = resolved.server_alive_interval.filter(|interval| !interval.is_zero())
    else {
        return Keepalive::default();
    };
    let silent_looks = resolved.server_alive_count_max.max(1);
    // The slave gives the master twice the time, so that it is the master who tells the user.
    Keepalive { interval, silent_looks, silence: interval * silent_looks * 2 }
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
