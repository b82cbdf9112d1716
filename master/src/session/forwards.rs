//! The forwards of a session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::{
    Forward, ForwardOptions, ForwardSide, ListenAddress, MAX_FORWARDS,
};
use fakessh_protocol::message::{Notice, ToShim};
use tokio::task::JoinHandle;

use super::ServedSession;
use super::record::{ForwardRecord, Record};
use crate::audit::Who;
use crate::context::{Context, WantedForwards};
use crate::forward;
use crate::open_forwards::{OpenForward, OpenForwards, Sockets, UsedForward};
use crate::run::{Denied, Run, Start};

/// The forwards of a session: those that it was started with, and those that clients of its ControlPath
/// have opened. They stay open as long as they stand here. Clones are the same list.
#[derive(Clone, Default)]
pub(super) struct SessionForwards(Arc<Mutex<Vec<Recorded>>>);

/// A forward, and what notes it when it is used no more.
struct Recorded {
    used: UsedForward,
    _record: ForwardRecord,
}

/// Whoever opens a forward.
pub(super) struct Opener<'a> {
    pub(super) run: &'a Run,
    pub(super) context: &'a Arc<Context>,
    pub(super) options: &'a ForwardOptions,
    pub(super) sockets: &'a Arc<dyn Sockets>,
    pub(super) by: Option<Who>,
}

impl SessionForwards {
    /// The forwards that listen, and those whose connections have not ended.
    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|recorded| !recorded.used.is_done());
        all
    }

    /// The forward that is the same as this one, if it listens.
    pub(super) fn find(&self, wanted: &Forward) -> Option<Arc<OpenForward>> {
        let all = self.lock();
        let mut open = all.iter().map(|recorded| recorded.used.forward());
        open.find(|open| open.forward == *wanted && !open.is_over()).cloned()
    }

    /// Opens a forward, if the list has not the same one, and adds it. Returns the port that is
    /// listened on.
    ///
    /// # Errors
    /// Why it can't be had, in one line. Cancelled, nothing is left.
    pub(super) async fn open(&self, opener: Opener<'_>, wanted: &Forward) -> Result<u16, String> {
        if let Some(open) = self.find(wanted) {
            return Ok(open.port);
        }
        if self.lock().len() >= MAX_FORWARDS {
            return Err(format!("a session has at most {MAX_FORWARDS} forwards"));
        }
        let Opener { run, context, options, sockets, by } = opener;
        let used = forward::open(run.forwards(), context, wanted, options, sockets).await?;
        let open = used.forward();
        let port = open.port;
        let record = ForwardRecord::begin(run, by, context, open);
        self.lock().push(Recorded { used, _record: record });
        Ok(port)
    }

    /// Has a forward of this list listen no more, if no other session uses it. Its connections go on.
    /// Returns whether there was such a forward.
    pub(super) async fn cancel(&self, wanted: &Forward) -> bool {
        let Some(open) = self.find(wanted) else { return false };
        {
            let mut all = self.lock();
            let of_others = |recorded: &Recorded| {
                recorded.used.forward().id == open.id && recorded.used.is_shared()
            };
            if let Some(place) = all.iter().position(of_others) {
                all.remove(place);
                return true;
            }
        }
        open.serving.stop().await;
        if open.connections.counts().0 == 0 {
            self.lock().retain(|recorded| recorded.used.forward().id != open.id);
        }
        true
    }

    /// The session's program has ended. Closes the forwards, after the end of the connections that no
    /// other session keeps: a session lasts as long as its forwarded connections (`ssh(1)`, -f).
    pub(super) async fn close_after_connections(&self, table: &OpenForwards) {
        loop {
            let Some(Recorded { used, _record }) = self.lock().pop() else { return };
            used.close_after_connections(table).await;
        }
    }

    /// Closes the forwards that no other session uses.
    pub(super) async fn close(&self, table: &OpenForwards) {
        loop {
            let Some(Recorded { used, _record }) = self.lock().pop() else { return };
            used.close(table).await;
        }
    }
}

/// An agent that is forwarded, until this is dropped.
pub(super) struct AgentForward(JoinHandle<()>);

impl Drop for AgentForward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ServedSession {
    /// Opens forwards, those of this side first.
    ///
    /// # Errors
    /// That one can't be had, if `ExitOnForwardFailure` says that this ends the session. Otherwise
    /// the person is told.
    pub(super) async fn open_forwards(
        &self,
        context: &Arc<Context>,
        wanted: WantedForwards,
    ) -> Result<(), Denied> {
        let WantedForwards { forwards, options } = wanted;
        if forwards.is_empty() {
            return Ok(());
        }
        let Some(sockets) = &self.sockets else {
            let text = "a tool on a target can't forward ports yet";
            return Err(Denied::open(Failure::new(FailureKind::Refused, text)));
        };
        let sockets: Arc<dyn Sockets> = sockets.clone();
        let (here, there): (Vec<Forward>, Vec<Forward>) =
            forwards.into_iter().partition(|forward| forward.side == ForwardSide::Local);
        for wanted in here.into_iter().chain(there) {
            let opener = Opener {
                run: &self.run,
                context,
                options: &options,
                sockets: &sockets,
                by: self.ask.who(),
            };
            match self.forwards.open(opener, &wanted).await {
                Ok(port) => self.say_port(&wanted, port).await,
                Err(why) => {
                    let text = failed(&wanted, &why);
                    if options.exit_on_failure == Some(true) {
                        return Err(Failure::new(FailureKind::Refused, text).into());
                    }
                    self.invoker.send(ToShim::Notice(Notice::ours(text))).await;
                }
            }
        }
        Ok(())
    }

    /// Has the session's program reach an agent here, until what is returned is dropped. Nothing is
    /// waited for: a program without its agent is better than none.
    pub(super) fn forward_agent(&self, start: &mut Start, record: &Record) -> Option<AgentForward> {
        let path = start.agent.take()?;
        let sockets: Arc<dyn Sockets> = self.sockets.clone()?;
        let (handle, listener) = start.context.listen_for_agent().ok()?;
        start.setup.agent = Some(handle);
        let binding = start.context.agent_binding();
        let count = record.count_agent();
        Some(AgentForward(tokio::spawn(async move {
            match listener.await {
                Ok(listener) => {
                    forward::serve_agent(listener, (path, binding), count, &sockets).await
                }
                Err(failure) => {
                    tracing::info!(why = failure.message, "an agent is not forwarded");
                }
            }
        })))
    }

    /// Says which port the target has picked, in the words of ssh.
    async fn say_port(&self, forward: &Forward, port: u16) {
        if forward.wants_any_port() {
            let to = forward.to.as_ref().map_or_else(|| "socks".to_owned(), ToString::to_string);
            let text = format!("Allocated port {port} for remote forward to {to}");
            self.invoker.send(ToShim::Notice(Notice::ours(text))).await;
        }
    }
}

/// That a forward can't be had, in words that begin as those of ssh.
fn failed(forward: &Forward, why: &str) -> String {
    let what = match (&forward.side, &forward.listen) {
        (ForwardSide::Local, _) => return format!("Could not request local forwarding: {why}"),
        (ForwardSide::Remote, ListenAddress::Tcp { port, .. }) => format!("port {port}"),
        (ForwardSide::Remote, path @ ListenAddress::Unix(_)) => format!("path {path}"),
    };
    format!("remote port forwarding failed for listen {what}: {why}")
}
