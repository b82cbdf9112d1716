//! Has the slave listen for a forward.

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::Refusal;
use fakessh_protocol::printable::one_line;
use fakessh_protocol::wire::Handle;
use tokio::sync::{mpsc, oneshot};

use super::Link;
use super::incoming::{Incoming, ListenFor, ListenRequest, Listener};
use super::request::LinkRequest;

/// A slave was asked to listen, and has not answered yet.
pub(crate) struct PendingListener {
    control: Handle,
    link: Link,
    answered: oneshot::Receiver<Result<u16, Refusal>>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    stop: StopListening,
}

impl PendingListener {
    /// The handle of the request, for [`ProgramSetup::agent`].
    ///
    /// [`ProgramSetup::agent`]: fakessh_protocol::message::ProgramSetup::agent
    pub(crate) fn handle(&self) -> Handle {
        self.control
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// Why it can't be listened, or that the link is lost. Cancelled, nothing is listened on.
    pub(crate) async fn ready(self) -> Result<Listener, Failure> {
        let PendingListener { link, answered, incoming, stop, .. } = self;
        match answered.await {
            Ok(Ok(port)) => Ok(Listener { port, incoming, _stop: Box::new(stop) }),
            Ok(Err(refusal)) => {
                // The host's words stand in a line of ours.
                Err(Failure::new(refusal.reason.into(), one_line(&refusal.message)))
            }
            Err(_) => Err(lost(&link)),
        }
    }
}

fn lost(link: &Link) -> Failure {
    Failure::new(FailureKind::ConnectionLost, link.why_lost().to_string())
}

/// Has the slave listen no more when it is dropped.
struct StopListening {
    control: Handle,
    requests: mpsc::UnboundedSender<LinkRequest>,
}

impl Drop for StopListening {
    fn drop(&mut self) {
        let _ = self.requests.send(LinkRequest::StopListening(self.control));
    }
}

impl Link {
    /// Has the slave listen.
    ///
    /// # Errors
    /// That the link is lost.
    pub(crate) fn listen(&self, listen: ListenFor) -> Result<PendingListener, Failure> {
        let control = self.handles.pick().control;
        let (answer, answered) = oneshot::channel();
        let (sender, incoming) = mpsc::unbounded_channel();
        let request = ListenRequest { control, listen, answer, incoming: sender };
        let request = LinkRequest::Listen(Box::new(request));
        self.requests.send(request).map_err(|_| lost(self))?;
        let stop = StopListening { control, requests: self.requests.clone() };
        Ok(PendingListener { control, link: self.clone(), answered, incoming, stop })
    }
}
