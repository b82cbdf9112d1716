//! Sessions that a slave raises: a tool there has called `ssh`, and the invoker is at that end.

use std::sync::atomic::{AtomicBool, Ordering};

use fakessh_protocol::message::{FromShim, Handoff, ToShim};
use fakessh_protocol::wire::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::command::Command;
use super::{Receiver, Sender};

/// Messages of one shim that wait. It answers one question at a time; signals beyond this many
/// that nobody has looked at say nothing new.
pub(super) const WAITING: usize = 16;

/// A session that a slave has raised: the invoker's ends.
#[derive(Debug)]
pub struct Raised {
    /// What the shim handed over.
    pub handoff: Handoff,
    /// From the shim's standard input.
    pub stdin: Receiver,
    /// To its standard output.
    pub stdout: Sender,
    /// To its standard error.
    pub stderr: Sender,
    /// What the shim says; the end when it is gone, or the link is.
    pub said: mpsc::Receiver<FromShim>,
    /// The shim itself.
    pub shim: RaisedShim,
}

/// The shim of a raised session. Dropped before it was told how the session ended, it is told that
/// it was given up.
#[derive(Debug)]
pub struct RaisedShim {
    handle: Handle,
    commands: mpsc::UnboundedSender<Command>,
    over: AtomicBool,
    /// What the handoff takes of the link's bound.
    _room: OwnedSemaphorePermit,
}

impl RaisedShim {
    pub(super) fn new(
        handle: Handle,
        commands: mpsc::UnboundedSender<Command>,
        room: OwnedSemaphorePermit,
    ) -> RaisedShim {
        RaisedShim { handle, commands, over: AtomicBool::new(false), _room: room }
    }

    /// Tells the shim something. What ends the session arrives when both outputs are closed.
    pub fn tell(&self, message: ToShim) {
        self.over.fetch_or(ends_session(&message), Ordering::Relaxed);
        let _ = self.commands.send(Command::Tell(self.handle, message));
    }
}

impl Drop for RaisedShim {
    fn drop(&mut self) {
        if !*self.over.get_mut() {
            self.tell(ToShim::Failed("the session was given up".to_owned()));
        }
    }
}

/// Whether a session is over for a shim that was told this.
pub(super) fn ends_session(message: &ToShim) -> bool {
    matches!(message, ToShim::Exited(_) | ToShim::Failed(_) | ToShim::RealSsh { .. })
}
