//! The link's side of sessions that its slave raises.
//!
//! The slave may do so for a tool that the master has started there, and for nothing else. What
//! it claims is held against that; what breaks the protocol ends the link.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fakessh_protocol::handles::{SessionHandles, Side};
use fakessh_protocol::message::{
    FromShim, Handoff, MAX_RAISED, PackedHandoff, Raise, ToShim, ToSlave,
};
use fakessh_protocol::mux::MuxError;
use fakessh_protocol::wire::{Handle, MAX_MESSAGE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::command::{Chunk, Command};
use super::driver::{Driver, Outbox, broken};
use super::excess::{excess, items, weight};
use super::handles::{receiver, sender};
use super::raised::{Raised, RaisedShim, WAITING, ends_session};
use super::{LinkLost, share};
use crate::allowance::Allowance;

/// Bytes of control frames that may wait where answers to raised sessions are added to them: two
/// of the longest messages, and far more than answers of a slave that reads. Nothing else bounds
/// what a slave that reads nothing can make us say.
const UNTAKEN: usize = 2 * MAX_MESSAGE;

/// Bytes in memory that the handoffs of all sessions together may take which a slave has raised:
/// four of the longest, and more usual ones than there may be sessions.
const HANDOFFS: usize = 8 * 1024 * 1024;

/// What the link's task keeps of raised sessions.
pub(super) struct Raises {
    /// Where we are reached.
    own: mpsc::WeakUnboundedSender<Command>,
    /// The tools that may raise sessions, by their control handle.
    tools: HashMap<Handle, mpsc::UnboundedSender<Raised>>,
    open: HashMap<Handle, Open>,
    /// Those that have a verdict which waits for the ends of their outputs.
    judged: Vec<Handle>,
    /// Bytes of handoffs for which there is room.
    room: Arc<Semaphore>,
}

/// A session that is admitted.
struct Admitted {
    handoff: Handoff,
    /// Who serves it.
    to: mpsc::UnboundedSender<Raised>,
    /// Where we are reached.
    own: mpsc::UnboundedSender<Command>,
    /// What the handoff takes of the link's bound.
    room: OwnedSemaphorePermit,
}

/// Why a session is not admitted.
enum Unadmitted {
    /// The shim is told.
    Refused(String),
    /// The slave has broken the protocol.
    Broken(MuxError),
}

struct Open {
    handles: SessionHandles,
    said: mpsc::Sender<FromShim>,
    verdict: Option<ToShim>,
}

impl Raises {
    pub(super) fn new(own: mpsc::WeakUnboundedSender<Command>) -> Raises {
        Raises {
            own,
            tools: HashMap::new(),
            open: HashMap::new(),
            judged: Vec::new(),
            room: Arc::new(Semaphore::new(HANDOFFS)),
        }
    }

    /// A session that was just opened may raise others, where somebody takes them.
    pub(super) fn allow(&mut self, tool: Handle, to: Option<mpsc::UnboundedSender<Raised>>) {
        if let Some(to) = to {
            self.tools.insert(tool, to);
        }
    }

    /// A session is over: nothing is raised for it any more.
    pub(super) fn forbid(&mut self, tool: Handle) {
        self.tools.remove(&tool);
    }

    /// Admits a session of this tool. Its handoff is decoded only if there is somebody to serve it.
    fn admit(
        &self,
        tool: Handle,
        packed: &PackedHandoff,
        share: &mut Allowance,
    ) -> Result<Admitted, Unadmitted> {
        let refused = |why: String| Err(Unadmitted::Refused(why));
        share.take(share::RAISE);
        if self.open.len() >= MAX_RAISED {
            return refused(format!("{MAX_RAISED} sessions of tools run in this context already"));
        }
        let (Some(to), Some(own)) = (self.tools.get(&tool), self.own.upgrade()) else {
            return refused(
                "the run that this ssh belongs to is over; start the tool again with `fakessh run`"
                    .to_owned(),
            );
        };
        if packed.size() > self.room.available_permits() {
            return refused(no_room());
        }
        let mut handoff = packed.unpack().map_err(|error| Unadmitted::Broken(error.into()))?;
        share.take(items(&handoff.invocation) as u64);
        // These would be read here, and are files of another host.
        handoff.invocation.connection = Vec::new();
        if let Some(why) = excess(&handoff.invocation) {
            return refused(why);
        }
        let weight = weight(&handoff.invocation, packed.size());
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        match self.room.clone().try_acquire_many_owned(weight) {
            Ok(room) => Ok(Admitted { handoff, to: to.clone(), own, room }),
            Err(_) => refused(no_room()),
        }
    }

    pub(super) fn said(&self, handle: Handle, message: FromShim) {
        if let Some(open) = self.open.get(&handle)
            && let FromShim::Signal(_) = message
        {
            // No question was asked over there. One that says more than anybody listens to is not
            // heard.
            let _ = open.said.try_send(message);
        }
    }
}

fn no_room() -> String {
    format!(
        "the commands and environments of the sessions of tools in this context have more than {} \
         MiB already",
        HANDOFFS >> 20
    )
}

impl Driver {
    /// The slave raises a session.
    pub(super) fn raise(&mut self, control: Handle, raise: Raise) -> Result<(), LinkLost> {
        let Raise { tool, handles, handoff } = raise;
        let SessionHandles { stdin, stdout, stderr, .. } = handles;
        handles.check(control, Side::Slave).map_err(broken)?;
        if self.raises.open.contains_key(&control) {
            return Err(broken(MuxError::OpenedTwice(control)));
        }
        self.mux.open_receiving(stdin).map_err(broken)?;
        self.mux.open_sending(stdout).map_err(broken)?;
        self.mux.open_sending(stderr).map_err(broken)?;
        match self.raises.admit(tool, &handoff, &mut self.share) {
            Ok(Admitted { handoff, to, own, room }) => {
                let (sender_of_said, said) = mpsc::channel(WAITING);
                let shim = RaisedShim::new(control, own.clone(), room);
                let (stdin_receiver, chunks) = receiver(stdin, own.clone());
                let (stdout_sender, stdout_underway) = sender(stdout, own.clone());
                let (stderr_sender, stderr_underway) = sender(stderr, own);
                self.inboxes.insert(stdin, chunks);
                for (handle, underway) in [(stdout, stdout_underway), (stderr, stderr_underway)] {
                    self.outboxes.insert(handle, Outbox { chunks: VecDeque::new(), underway });
                }
                self.raises
                    .open
                    .insert(control, Open { handles, said: sender_of_said, verdict: None });
                let (stdin, stdout, stderr) = (stdin_receiver, stdout_sender, stderr_sender);
                // Where nobody takes it, dropping it tells the shim so.
                let _ = to.send(Raised { handoff, stdin, stdout, stderr, said, shim });
                Ok(())
            }
            Err(Unadmitted::Broken(error)) => Err(broken(error)),
            Err(Unadmitted::Refused(refusal)) => {
                // First of all: the ends must not come before the reason.
                let _ = self.mux.message(control, &ToSlave::Tell(ToShim::Failed(refusal)));
                self.mux.stop(stdin);
                self.mux.reset(stdout);
                self.mux.reset(stderr);
                self.answers_are_taken()
            }
        }
    }

    fn answers_are_taken(&self) -> Result<(), LinkLost> {
        if self.mux.queued() > UNTAKEN {
            return Err(LinkLost("the slave raises sessions and takes no answer".into()));
        }
        Ok(())
    }

    /// The shim of a raised session is gone.
    pub(super) fn gone(&mut self, control: Handle) -> Result<(), LinkLost> {
        let Some(open) = self.raises.open.remove(&control) else { return Ok(()) };
        let SessionHandles { stdin, stdout, stderr, .. } = open.handles;
        self.close_inbox(stdin, Chunk::Cut);
        self.mux.stop(stdin);
        for handle in [stdout, stderr] {
            if let Some(outbox) = self.outboxes.remove(&handle) {
                outbox.underway.end();
            }
            self.mux.reset(handle);
        }
        self.answers_are_taken()
    }

    /// Something for the shim of a raised session.
    pub(super) fn tell(&mut self, control: Handle, message: ToShim) {
        let Some(open) = self.raises.open.get_mut(&control) else { return };
        if ends_session(&message) {
            open.verdict = Some(message);
            self.raises.judged.push(control);
        } else {
            // What is too long to be told is not needed to go on.
            let _ = self.mux.message(control, &ToSlave::Tell(message));
        }
    }

    /// Sends the verdicts of sessions whose outputs are out: messages overtake bulk.
    pub(super) fn tell_verdicts(&mut self) {
        let Driver { mux, raises, .. } = self;
        raises.judged.retain(|control| {
            let Some(open) = raises.open.get_mut(control) else { return false };
            let SessionHandles { stdout, stderr, .. } = open.handles;
            if mux.is_sending(stdout) || mux.is_sending(stderr) {
                return true;
            }
            if let Some(verdict) = open.verdict.take()
                && mux.message(*control, &ToSlave::Tell(verdict)).is_err()
            {
                let text = "the reason is too long to be told".to_owned();
                let _ = mux.message(*control, &ToSlave::Tell(ToShim::Failed(text)));
            }
            raises.open.remove(control);
            false
        });
    }
}
