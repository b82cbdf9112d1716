//! Connections that come in on the target, on sockets that are listened on there for a forward.

use std::any::Any;

use fakessh_protocol::forward::Listen;
use fakessh_protocol::message::Refusal;
use fakessh_protocol::wire::Handle;
use tokio::sync::{mpsc, oneshot};

use super::ends::{Control, Receiver, Sender};
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
    /// The address and the port that the connection comes from, to be shown to people. Empty for a
    /// Unix socket.
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
