//! The reverse sessions of a link.
//!
//! A slave may start one for a tool that the master has started there, and for a connection that
//! came in on a socket that the master has it listen on. It may start none for anything else. What
//! the slave claims is checked against that; if it breaks the protocol, the link ends.

use std::collections::HashMap;
use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::handles::{SessionHandles, Side, Stream};
use fakessh_protocol::message::{
    Accepted, FromShim, Handoff, MAX_ORIGIN, MAX_REVERSE, PackedHandoff, Refusal, RefusalReason,
    StartReverse, ToShim, ToSlave,
};
use fakessh_protocol::mux::MuxError;
use fakessh_protocol::printable;
use fakessh_protocol::wire::{Handle, MAX_MESSAGE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::ends::{LinkLost, Receiver, Sender, receiver, sender};
use super::excess::{excess, items, weight};
use super::inbox::StreamEnd;
use super::incoming::{Incoming, IncomingEnd, ListenFor, ListenRequest};
use super::request::{LinkCarrier, LinkRequest};
use super::reverse::{ReverseSession, ReverseShim, WAITING, ends_session};
use super::share;
use super::streams::{Streams, broken};
use crate::allowance::Allowance;

/// Bytes of control frames that may wait when an answer to a reverse session is added to them: two
/// of the longest messages, and far more than the answers of a slave that reads. Nothing else
/// bounds what a slave that reads nothing can make us say.
const UNTAKEN: usize = 2 * MAX_MESSAGE;

/// Bytes in memory for the handoffs of all reverse sessions of a link: four of the longest, and
/// more usual ones than there may be sessions.
const HANDOFFS: usize = 8 * 1024 * 1024;

/// Bytes of that which a connection counts for that has come in.
const INCOMING: u32 = 1024;

/// The reverse sessions of a link, and who may start them.
pub(super) struct ReverseTable {
    /// How the link's task is reached.
    requests: mpsc::WeakUnboundedSender<LinkRequest>,
    /// The tools that may start reverse sessions, by their control handle.
    tools: HashMap<Handle, mpsc::UnboundedSender<ReverseSession>>,
    /// Sockets that the slave listens on for us, by the handle of the request.
    listeners: HashMap<Handle, LinkListener>,
    open: HashMap<Handle, Reverse>,
    /// Open sessions whose last message waits for the ends of their outputs.
    concluded: Vec<Handle>,
    /// Bytes of handoffs for which there is room.
    room: Arc<Semaphore>,
}

/// Who waits for an answer, and takes connections.
struct LinkListener {
    /// `None` after the answer.
    answer: Option<oneshot::Sender<Result<u16, Refusal>>>,
    incoming: mpsc::UnboundedSender<Incoming>,
}

/// An open reverse session.
enum Reverse {
    Running(mpsc::Sender<FromShim>),
    /// The last message for the shim, which waits for the ends of both outputs.
    Concluded(ToShim),
}

/// A session that is admitted.
struct AdmittedReverse {
    handoff: Handoff,
    /// Who serves it.
    to: mpsc::UnboundedSender<ReverseSession>,
    /// How the link's task is reached.
    requests: mpsc::UnboundedSender<LinkRequest>,
    /// What the handoff takes of the link's bound.
    room: OwnedSemaphorePermit,
}

/// The ends of a session that is open.
struct OpenedReverse {
    stdin: Receiver,
    stdout: Sender,
    stderr: Sender,
    messages: mpsc::Receiver<FromShim>,
    shim: ReverseShim,
}

/// Why a session is not admitted.
enum Unadmitted {
    /// The shim is told.
    Refused(Failure),
    /// The slave has broken the protocol.
    Broken(MuxError),
}

impl ReverseTable {
    pub(super) fn new(requests: mpsc::WeakUnboundedSender<LinkRequest>) -> ReverseTable {
        ReverseTable {
            requests,
            tools: HashMap::new(),
            listeners: HashMap::new(),
            open: HashMap::new(),
            concluded: Vec::new(),
            room: Arc::new(Semaphore::new(HANDOFFS)),
        }
    }

    /// Lets a tool start reverse sessions, which go to this receiver.
    pub(super) fn allow(&mut self, tool: Handle, to: mpsc::UnboundedSender<ReverseSession>) {
        self.tools.insert(tool, to);
    }

    /// Lets a tool start none any more: its session is over.
    pub(super) fn forbid(&mut self, tool: Handle) {
        self.tools.remove(&tool);
    }

    /// The slave starts a session.
    pub(super) fn start(
        &mut self,
        control: Handle,
        raise: StartReverse,
        streams: &mut Streams,
        share: &mut Allowance,
    ) -> Result<(), LinkLost> {
        let StartReverse { tool, handles, handoff } = raise;
        handles.check(control, Side::Slave).map_err(broken)?;
        if self.open.contains_key(&control) {
            return Err(broken(MuxError::OpenedTwice(control)));
        }
        match self.admit(tool, &handoff, share) {
            Ok(AdmittedReverse { handoff, to, requests, room }) => {
                let OpenedReverse { stdin, stdout, stderr, messages, shim } =
                    self.open(handles, requests, room, streams)?;
                // If nobody takes the session, its drop tells the shim.
                let _ = to.send(ReverseSession { handoff, stdin, stdout, stderr, messages, shim });
                Ok(())
            }
            Err(Unadmitted::Broken(error)) => Err(broken(error)),
            Err(Unadmitted::Refused(refusal)) => refuse(handles, refusal, streams),
        }
    }

    /// Opens the handles of a session that is admitted.
    fn open(
        &mut self,
        handles: SessionHandles,
        requests: mpsc::UnboundedSender<LinkRequest>,
        room: OwnedSemaphorePermit,
        streams: &mut Streams,
    ) -> Result<OpenedReverse, LinkLost> {
        let carrier = LinkCarrier::new(handles, requests);
        let (stdin, inbox) = receiver(Stream::Stdin, carrier.clone());
        let (stdout, stdout_underway) = sender(Stream::Stdout, carrier.clone());
        let (stderr, stderr_underway) = sender(Stream::Stderr, carrier.clone());
        streams.open_receiving(handles.stdin, inbox)?;
        streams.open_sending(handles.stdout, stdout_underway)?;
        streams.open_sending(handles.stderr, stderr_underway)?;
        let (message_sender, messages) = mpsc::channel(WAITING);
        self.open.insert(handles.control, Reverse::Running(message_sender));
        let shim = ReverseShim::new(carrier, room);
        Ok(OpenedReverse { stdin, stdout, stderr, messages, shim })
    }

    /// Has the slave listen.
    pub(super) fn listen(&mut self, request: ListenRequest, streams: &mut Streams) {
        let ListenRequest { control, listen, answer, incoming } = request;
        let message = match listen {
            ListenFor::Forward(listen) => ToSlave::Listen(listen),
            ListenFor::Agent => ToSlave::ListenForAgent,
        };
        match streams.mux.message(control, &message) {
            Ok(()) => {
                let listener = LinkListener { answer: Some(answer), incoming };
                self.listeners.insert(control, listener);
            }
            Err(error) => {
                let (reason, message) = (RefusalReason::Limit, error.to_string());
                let _ = answer.send(Err(Refusal { reason, message }));
            }
        }
    }

    /// Has the slave listen no more.
    pub(super) fn stop_listening(&mut self, control: Handle, streams: &mut Streams) {
        if self.listeners.remove(&control).is_some() {
            let _ = streams.mux.message(control, &ToSlave::Hangup);
        }
    }

    /// Whether a handle is that of a listener.
    pub(super) fn listens(&self, control: Handle) -> bool {
        self.listeners.contains_key(&control)
    }

    /// The slave says whether it listens.
    pub(super) fn answer(&mut self, control: Handle, answer: Result<u16, Refusal>) {
        let Some(listener) = self.listeners.get_mut(&control) else { return };
        if let Some(sender) = listener.answer.take() {
            let _ = sender.send(answer.clone());
        }
        if answer.is_err() {
            self.listeners.remove(&control);
        }
    }

    /// A connection has come in.
    pub(super) fn accepted(
        &mut self,
        control: Handle,
        Accepted { listener, handles, from }: Accepted,
        streams: &mut Streams,
        share: &mut Allowance,
    ) -> Result<(), LinkLost> {
        handles.check(control, Side::Slave).map_err(broken)?;
        if self.open.contains_key(&control) {
            return Err(broken(MuxError::OpenedTwice(control)));
        }
        share.take(share::RAISE);
        let refuse = |why: &str, streams: &mut Streams| {
            refuse(handles, Failure::new(FailureKind::Refused, why), streams)
        };
        let (Some(known), Some(requests)) =
            (self.listeners.get(&listener), self.requests.upgrade())
        else {
            return refuse("nobody takes connections there any more", streams);
        };
        let to = known.incoming.clone();
        let room = self.room.clone().try_acquire_many_owned(INCOMING);
        let room = room.ok().filter(|_| self.open.len() < MAX_REVERSE);
        let Some(room) = room else {
            return refuse("there are too many connections in this context", streams);
        };
        // Nobody has anything to say on the third stream.
        let OpenedReverse { stdin, stdout, shim, .. } =
            self.open(handles, requests, room, streams)?;
        let from = printable::word(&from, MAX_ORIGIN);
        let end = IncomingEnd::Slave(shim);
        let _ = to.send(Incoming { from, receiver: stdin, sender: stdout, end });
        Ok(())
    }

    /// Admits a session of this tool. Its handoff is decoded only if there is somebody to serve it.
    fn admit(
        &self,
        tool: Handle,
        packed: &PackedHandoff,
        share: &mut Allowance,
    ) -> Result<AdmittedReverse, Unadmitted> {
        let refused = |why: String| Err(Unadmitted::Refused(Failure::new(FailureKind::Limit, why)));
        share.take(share::RAISE);
        if self.open.len() >= MAX_REVERSE {
            return refused(format!("{MAX_REVERSE} sessions of tools run in this context already"));
        }
        let (Some(to), Some(requests)) = (self.tools.get(&tool), self.requests.upgrade()) else {
            let why = "the run that this ssh belongs to is over; start the tool again with \
                       `fakessh run`";
            return Err(Unadmitted::Refused(Failure::new(FailureKind::Refused, why)));
        };
        if packed.size() > self.room.available_permits() {
            return refused(no_room());
        }
        let mut handoff = packed.unpack().map_err(|error| Unadmitted::Broken(error.into()))?;
        share.take(items(&handoff.invocation) as u64);
        // These name files of the target, and would be read on this host.
        handoff.invocation.connection = Vec::new();
        if handoff.invocation.forwards.is_empty() {
            // Those of the configuration are for who sits here.
            handoff.invocation.forward_options.clear_all = Some(true);
        }
        if let Some(why) = excess(&handoff.invocation) {
            return refused(why);
        }
        let weight = weight(&handoff.invocation, packed.size());
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        match self.room.clone().try_acquire_many_owned(weight) {
            Ok(room) => Ok(AdmittedReverse { handoff, to: to.clone(), requests, room }),
            Err(_) => refused(no_room()),
        }
    }

    /// Takes a message of a session's shim.
    pub(super) fn receive(&self, control: Handle, message: FromShim) {
        if let Some(Reverse::Running(messages)) = self.open.get(&control)
            && let FromShim::Signal(_) | FromShim::Resize(_) | FromShim::Showing(_) = message
        {
            // No question was asked over there, so there are no answers. If more messages come
            // than anybody reads, the rest is dropped.
            let _ = messages.try_send(message);
        }
    }

    /// The shim of a session is gone.
    pub(super) fn gone(&mut self, control: Handle, streams: &mut Streams) -> Result<(), LinkLost> {
        if self.open.remove(&control).is_none() {
            return Ok(());
        }
        let SessionHandles { stdin, stdout, stderr, .. } = SessionHandles::of(control);
        streams.close_inbox(stdin, StreamEnd::Cut);
        streams.mux.stop(stdin);
        streams.cut_sending(stdout);
        streams.cut_sending(stderr);
        answers_are_taken(streams)
    }

    /// Sends the shim of a session a message. One that ends the session waits for
    /// [`ReverseTable::conclude`].
    pub(super) fn send(&mut self, control: Handle, message: ToShim, streams: &mut Streams) {
        let Some(session) = self.open.get_mut(&control) else { return };
        if ends_session(&message) {
            *session = Reverse::Concluded(message);
            self.concluded.push(control);
        } else {
            // If the message is too long, the session goes on without it.
            let _ = streams.mux.message(control, &ToSlave::ToShim(message));
        }
    }

    /// Sends the last messages of sessions whose outputs are out: messages overtake bulk.
    pub(super) fn conclude(&mut self, streams: &mut Streams) {
        let ReverseTable { open, concluded, .. } = self;
        concluded.retain(|control| {
            let SessionHandles { stdout, stderr, .. } = SessionHandles::of(*control);
            if !matches!(open.get(control), Some(Reverse::Concluded(_))) {
                return false;
            }
            if streams.mux.is_sending(stdout) || streams.mux.is_sending(stderr) {
                return true;
            }
            if let Some(Reverse::Concluded(message)) = open.remove(control)
                && streams.mux.message(*control, &ToSlave::ToShim(message)).is_err()
            {
                let text = "the reason is too long to be told";
                let _ = streams
                    .mux
                    .message(*control, &ToSlave::ToShim(ToShim::Failed(Failure::other(text))));
            }
            false
        });
    }
}

/// Closes the handles of a session that is not admitted, and says why.
fn refuse(
    SessionHandles { control, stdin, stdout, stderr }: SessionHandles,
    why: Failure,
    streams: &mut Streams,
) -> Result<(), LinkLost> {
    let mux = &mut streams.mux;
    mux.open_receiving(stdin).map_err(broken)?;
    mux.open_sending(stdout).map_err(broken)?;
    mux.open_sending(stderr).map_err(broken)?;
    // First of all: the ends must not come before the reason.
    let _ = mux.message(control, &ToSlave::ToShim(ToShim::Failed(why)));
    mux.stop(stdin);
    mux.reset(stdout);
    mux.reset(stderr);
    answers_are_taken(streams)
}

fn answers_are_taken(streams: &Streams) -> Result<(), LinkLost> {
    if streams.mux.queued() > UNTAKEN {
        return Err(LinkLost("the slave raises sessions and takes no answer".into()));
    }
    Ok(())
}

fn no_room() -> String {
    format!(
        "the commands and environments of the sessions of tools in this context have more than {} \
         MiB already",
        HANDOFFS >> 20
    )
}
