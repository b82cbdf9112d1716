//! Connections that come in on the target, on sockets that are listened on there for a forward.

use std::any::Any;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::Listen;
use fakessh_protocol::message::Refusal;
use fakessh_protocol::printable::one_line;
use fakessh_protocol::wire::Handle;
use tokio::sync::{mpsc, oneshot};

use super::Link;
use super::ends::{Control, Receiver, Sender};
use super::request::LinkRequest;
use super::reverse::ReverseShim;

/// What is listened on at the target, until this is dropped. Connections that have come in go on.
pub(crate) struct Listener {
    /// The port, if it is a TCP port.
    pub(crate) port: u16,
    /// Connections that come in. They end with the connection to the target.
    pub(crate) incoming: mpsc::UnboundedReceiver<Incoming>,
    /// Dropped, it has the target listen no more.
    pub(crate) _stop: Box<dyn Any + Send + Sync>,
}

/// A connection that came in.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Where it comes from, for people.
    pub(crate) from: String,
    /// The peer's bytes.
    pub(crate) receiver: Receiver,
    /// To the peer.
    pub(crate) sender: Sender,
    /// What tells how it ends.
    pub(crate) end: IncomingEnd,
}

/// What tells how a connection that came in ends. Dropped early, it cuts the connection.
#[derive(Debug)]
pub(crate) enum IncomingEnd {
    /// A slave serves it, and is told that both directions have ended.
    Slave(ReverseShim),
    /// An SSH server does, and its [report](fakessh_protocol::report) comes here.
    Server {
        /// The channel.
        control: Control,
        /// The report.
        report: Receiver,
    },
}

/// What a slave is to listen on.
#[derive(Debug)]
pub(crate) enum ListenFor {
    /// A forward.
    Forward(Listen),
    /// The socket of an agent.
    Agent,
}

/// Who waits for what a slave says of a listener, and takes the connections.
#[derive(Debug)]
pub(super) struct ListenRequest {
    pub(super) control: Handle,
    pub(super) listen: ListenFor,
    pub(super) answer: oneshot::Sender<Result<u16, Refusal>>,
    pub(super) incoming: mpsc::UnboundedSender<Incoming>,
}

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
