//! A reverse session: a tool at the target has called `ssh`, and the invoker is at that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::{FromShim, Handoff, ToShim};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::ends::{Carrier, ControlRequest, Receiver, Sender};

/// Messages of one shim that wait. A shim answers one question at a time; more signals than this
/// that nobody has looked at say nothing new.
pub(super) const WAITING: usize = 16;

/// A reverse session: the invoker's ends.
#[derive(Debug)]
pub struct ReverseSession {
    /// What the shim handed over.
    pub handoff: Handoff,
    /// From the shim's standard input.
    pub stdin: Receiver,
    /// To its standard output.
    pub stdout: Sender,
    /// To its standard error.
    pub stderr: Sender,
    /// Messages of the shim. They end when the shim is gone, or the link is.
    pub messages: mpsc::Receiver<FromShim>,
    /// The shim itself.
    pub shim: ReverseShim,
}

/// The shim of a reverse session. Dropped before a message that ends the session, it tells the shim
/// that the session was given up.
#[derive(Debug)]
pub struct ReverseShim {
    carrier: Arc<dyn Carrier>,
    /// Whether the shim was told how the session ended.
    concluded: AtomicBool,
    /// What the handoff takes of the link's bound.
    _room: OwnedSemaphorePermit,
}

impl ReverseShim {
    pub(super) fn new(carrier: Arc<dyn Carrier>, room: OwnedSemaphorePermit) -> ReverseShim {
        ReverseShim { carrier, concluded: AtomicBool::new(false), _room: room }
    }

    /// Sends the shim a message. A message that ends the session is held until both outputs are
    /// closed.
    pub fn send(&self, message: ToShim) {
        self.concluded.fetch_or(ends_session(&message), Ordering::Relaxed);
        self.carrier.control(ControlRequest::Message(message));
    }
}

impl Drop for ReverseShim {
    fn drop(&mut self) {
        if !*self.concluded.get_mut() {
            self.send(ToShim::Failed(Failure::other("the session was given up")));
        }
    }
}

/// Whether this message ends the session for the shim that gets it.
pub(super) fn ends_session(message: &ToShim) -> bool {
    matches!(message, ToShim::Exited(_) | ToShim::Failed(_) | ToShim::RealSsh { .. })
}
