//! What a link's task and its sessions say to each other.

use std::sync::Arc;

use bytes::Bytes;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{Refusal, Spawn, ToShim, ToSlave};
use fakessh_protocol::wire::Handle;
use tokio::sync::{mpsc, oneshot};

use super::handles::Underway;
use super::inbox::Inbox;
use super::{LinkLost, Piece, Raised};

/// What sessions ask of the link's task.
#[derive(Debug)]
pub(super) enum Command {
    Open(Box<Open>),
    Message(Handle, ToSlave),
    /// For the shim of a raised session; where it ends that, once the outputs are closed.
    Tell(Handle, ToShim),
    Data(Handle, Piece),
    Finish(Handle),
    Reset(Handle),
    Consumed(Handle, usize),
    Stop(Handle),
    Probe,
    Close,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) spawn: Spawn,
    pub(super) ends: Ends,
}

/// What the link's task keeps of a session.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) stdin: Arc<Underway>,
    pub(super) stdout: Inbox,
    pub(super) stderr: Inbox,
    pub(super) outcome: oneshot::Sender<Outcome>,
    /// Where sessions go that the program's own `ssh` raises, if it may.
    pub(super) raised: Option<mpsc::UnboundedSender<Raised>>,
}

/// What comes on a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes, in order.
    Data(Bytes),
    /// All bytes have come.
    End,
    /// The stream was cut: bytes are missing.
    Cut,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended.
    Exited(ExitStatus),
    /// It was never started.
    Refused(Refusal),
    /// The link was lost, and what became of the program is unknown.
    Lost(LinkLost),
}
