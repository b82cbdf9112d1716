//! The forwards of a session.

use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::{Forward, ForwardSide, ListenAddress};
use fakessh_protocol::message::{Notice, ToShim};

use tokio::task::JoinHandle;

use super::ServedSession;
use crate::context::{Context, WantedForwards};
use crate::forward;
use crate::open_forwards::{OpenForward, OpenForwards, Sockets, UsedForward};
use crate::run::{Denied, Start};

/// Forwards that are open, as long as this lives.
pub(super) struct SessionForwards(Vec<UsedForward>);

impl SessionForwards {
    /// The session's program has ended. Closes the forwards, after the end of the connections that no
    /// other session keeps: a session lasts as long as its forwarded connections (`ssh(1)`, -f).
    pub(super) async fn close(self, table: &OpenForwards) {
        for used in self.0 {
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
    ) -> Result<SessionForwards, Denied> {
        let WantedForwards { forwards, options } = wanted;
        let mut open = Vec::new();
        if forwards.is_empty() {
            return Ok(SessionForwards(open));
        }
        let Some(sockets) = &self.sockets else {
            let text = "a tool on a target can't forward ports yet";
            return Err(Denied::open(Failure::new(FailureKind::Refused, text)));
        };
        let sockets: Arc<dyn Sockets> = sockets.clone();
        let table = self.run.forwards();
        let (here, there): (Vec<Forward>, Vec<Forward>) =
            forwards.into_iter().partition(|forward| forward.side == ForwardSide::Local);
        for wanted in here.into_iter().chain(there) {
            match forward::open(table, context, &wanted, &options, &sockets).await {
                Ok(forward) => {
                    self.say_port(&forward).await;
                    open.push(UsedForward::of(forward));
                }
                Err(why) => {
                    let text = failed(&wanted, &why);
                    if options.exit_on_failure == Some(true) {
                        return Err(Failure::new(FailureKind::Refused, text).into());
                    }
                    self.invoker.send(ToShim::Notice(Notice::ours(text))).await;
                }
            }
        }
        Ok(SessionForwards(open))
    }

    /// Has the session's program reach an agent here, until what is returned is dropped. Nothing is
    /// waited for: a program without its agent is better than none.
    pub(super) fn forward_agent(&self, start: &mut Start) -> Option<AgentForward> {
        let path = start.agent.take()?;
        let sockets: Arc<dyn Sockets> = self.sockets.clone()?;
        let (handle, listener) = start.context.listen_for_agent().ok()?;
        start.setup.agent = Some(handle);
        let binding = start.context.agent_binding();
        Some(AgentForward(tokio::spawn(async move {
            match listener.await {
                Ok(listener) => forward::serve_agent(listener, path, binding, &sockets).await,
                Err(failure) => {
                    tracing::info!(why = failure.message, "an agent is not forwarded");
                }
            }
        })))
    }

    /// Says which port the target has picked, in the words of ssh.
    async fn say_port(&self, forward: &OpenForward) {
        let Forward { side, listen, to } = &forward.forward;
        let picked = matches!(listen, ListenAddress::Tcp { port: 0, .. });
        if *side == ForwardSide::Remote && picked {
            let to = to.as_ref().map_or_else(|| "socks".to_owned(), ToString::to_string);
            let port = forward.port;
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
