//! The task that owns a link's mux.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Refusal, RefusalReason, ToMaster, ToSlave};
use fakessh_protocol::mux::{Event, Expecting, Liveness, Mux, MuxError, Transmit};
use fakessh_protocol::wire::{self, HEADER_LEN, Handle, MAX_DATA};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::command::{Chunk, Command, Open, Outcome};
use super::handles::Underway;
use super::inbox::{Inbox, WORTH_A_PIECE};
use super::raises::Raises;
use super::{Keepalive, LinkLost, PROBE_TIMEOUT, Piece, share};
use crate::allowance::Allowance;
use crate::stream::ByteStream;

/// Bytes that go to the stream in one piece, if so many are ready: one full data frame and the
/// small ones around it.
const BATCH: usize = MAX_DATA + HEADER_LEN;

/// Most sessions on one link: far above what one target runs, and half of what the mux allows.
pub(super) const MAX_SESSIONS: usize = 16_384;

/// How many times its own size a piece may keep in memory, as a part of what came at once.
const MOST_KEPT: usize = 4;

/// Commands that are taken before the stream is looked at again.
const COMMANDS_AT_ONCE: usize = 256;

/// Chunks of a handle that wait for their turn.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) chunks: VecDeque<Piece>,
    pub(super) underway: Arc<Underway>,
}

impl Outbox {
    /// The next bytes as a whole frame, where they were read as one.
    fn take_frame(&mut self, header: [u8; HEADER_LEN], len: usize) -> Option<Bytes> {
        if self.chunks.front()?.len() != len {
            return None;
        }
        match self.chunks.pop_front()?.into_frame(header) {
            Ok(frame) => {
                self.underway.took_one();
                Some(frame)
            }
            Err(piece) => {
                self.chunks.push_front(piece);
                None
            }
        }
    }

    /// Moves up to `len` bytes to the batch, and says how many. A chunk whose last byte went makes
    /// room for the next one of its handle.
    fn take(&mut self, len: usize, batch: &mut BytesMut) -> usize {
        let mut taken = 0;
        while taken < len
            && let Some(chunk) = self.chunks.pop_front()
        {
            let mut chunk = chunk.into_bytes();
            let piece = chunk.split_to(chunk.len().min(len - taken));
            taken += piece.len();
            batch.extend_from_slice(&piece);
            if chunk.is_empty() {
                self.underway.took_one();
            } else {
                self.chunks.push_front(Piece::Plain(chunk));
            }
        }
        taken
    }
}

pub(super) struct Driver {
    stream: ByteStream,
    pub(super) mux: Mux,
    commands: mpsc::UnboundedReceiver<Command>,
    keepalive: Keepalive,
    /// When a probe that was sent must have been answered.
    probe: Option<Instant>,
    /// A frame that is next, whatever else there is: the mux counts it as sent.
    frame: Option<Bytes>,
    /// Frames with a secret, which go by themselves: nothing of them is copied, and they are zeroed
    /// when they are out.
    secrets: VecDeque<Bytes>,
    pub(super) outboxes: HashMap<Handle, Outbox>,
    pub(super) inboxes: HashMap<Handle, Inbox>,
    /// Sessions that have not ended, by their control handle.
    sessions: HashMap<Handle, (SessionHandles, oneshot::Sender<Outcome>)>,
    pub(super) raises: Raises,
    /// What came and was not yet taken in.
    unread: Bytes,
    /// What the slave may still send before it is not read for a moment.
    pub(super) share: Allowance,
}

impl Driver {
    pub(super) fn new(
        stream: ByteStream,
        mux: Mux,
        own: mpsc::WeakUnboundedSender<Command>,
        commands: mpsc::UnboundedReceiver<Command>,
        keepalive: Keepalive,
    ) -> Driver {
        Driver {
            stream,
            mux,
            commands,
            keepalive,
            probe: None,
            frame: None,
            secrets: VecDeque::new(),
            outboxes: HashMap::new(),
            inboxes: HashMap::new(),
            sessions: HashMap::new(),
            raises: Raises::new(own),
            unread: Bytes::new(),
            share: share::new(),
        }
    }

    /// Runs the link to its end, and tells every session of it.
    pub(super) async fn run(mut self, early: Bytes) -> LinkLost {
        let reason = match self.drive(early).await {
            Ok(reason) | Err(reason) => reason,
        };
        for (_, (_, outcome)) in self.sessions.drain() {
            let _ = outcome.send(Outcome::Lost(reason.clone()));
        }
        for outbox in self.outboxes.values() {
            outbox.underway.end();
        }
        // Sessions that were just being opened.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Open(open) = command {
                open.ends.stdin.end();
                let _ = open.ends.outcome.send(Outcome::Lost(reason.clone()));
            }
        }
        reason
    }

    async fn drive(&mut self, early: Bytes) -> Result<LinkLost, LinkLost> {
        let _ = self.mux.message(Handle::LINK, &ToSlave::Settings(self.keepalive.settings()));
        self.feed(early)?;
        let interval = self.keepalive.interval;
        let mut ticks = (!interval.is_zero()).then(|| {
            let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            // What is ready together goes out together.
            for _ in 0..COMMANDS_AT_ONCE {
                match self.commands.try_recv() {
                    Ok(command) => self.command(command)?,
                    Err(_) => break,
                }
            }
            self.tell_verdicts();
            let rest = self.share.rest(Instant::now);
            tokio::select! {
                biased;
                room = has_room(&self.stream.outgoing), if self.wants_transmit() => {
                    if !room {
                        return Err(self.ended());
                    }
                    self.transmit()?;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command)?,
                    None => return Ok(LinkLost("no longer wanted".into())),
                },
                chunk = next(&mut self.unread, &mut self.stream.incoming), if rest.is_none() => {
                    match chunk {
                        Some(chunk) => self.feed(chunk)?,
                        None => return Err(self.ended()),
                    }
                    if !self.unread.is_empty() {
                        // So many frames come from nobody who is in need of them soon.
                        tokio::task::yield_now().await;
                    }
                }
                () = until(rest) => {}
                () = tick(&mut ticks) => self.look()?,
                () = until(self.probe) => {
                    self.probe = None;
                    if self.mux.look() != Liveness::Alive {
                        return Err(LinkLost("no answer to a probe: the connection is dead".into()));
                    }
                }
            }
        }
    }

    fn wants_transmit(&self) -> bool {
        self.frame.is_some() || !self.secrets.is_empty() || self.mux.wants_transmit()
    }

    /// Gives the stream as much as fits in one piece.
    fn transmit(&mut self) -> Result<(), LinkLost> {
        // This task alone sends: the room that was there still is.
        let Ok(permit) = self.stream.outgoing.try_reserve() else { return Ok(()) };
        if let Some(frame) = self.frame.take().or_else(|| self.secrets.pop_front()) {
            permit.send(frame);
            return Ok(());
        }
        let mut batch = BytesMut::new();
        let frame = fill(&mut self.mux, &mut self.outboxes, &mut batch)?;
        match frame {
            Some(frame) if batch.is_empty() => permit.send(frame),
            frame => {
                if !batch.is_empty() {
                    permit.send(batch.freeze());
                }
                self.frame = frame;
            }
        }
        Ok(())
    }

    /// The stream is over though nobody closed the link.
    fn ended(&self) -> LinkLost {
        let said = self.stream.diagnostics.said();
        if said.is_empty() {
            LinkLost("the connection was lost".into())
        } else {
            LinkLost(format!("the connection was lost ({said})").into())
        }
    }

    fn look(&mut self) -> Result<(), LinkLost> {
        match self.mux.look() {
            Liveness::Silent(looks) if looks > self.keepalive.silent_looks => {
                let seconds = self.keepalive.interval.as_secs_f64() * f64::from(looks - 1);
                Err(LinkLost(
                    format!("no answer for {seconds:.0} s: the connection is dead").into(),
                ))
            }
            Liveness::Silent(_) => Ok(()),
            Liveness::Alive => {
                // That was the probe's answer, too: nobody sees it a second time.
                self.probe = None;
                Ok(())
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<(), LinkLost> {
        match command {
            Command::Open(open) => self.open(*open)?,
            Command::Message(handle, message) => {
                if !self.sessions.contains_key(&handle) {
                    return Ok(());
                }
                if let ToSlave::Type(_) = message {
                    // It overtakes no Spawn: the helper has asked for it.
                    let frame = wire::encode_frame(handle, &message);
                    self.secrets.extend(frame.map(Bytes::from_owner));
                } else {
                    let _ = self.mux.message(handle, &message);
                }
            }
            Command::Tell(handle, message) => self.tell(handle, message),
            Command::Data(handle, chunk) => {
                if let Some(outbox) = self.outboxes.get_mut(&handle) {
                    self.mux.offer(handle, chunk.len());
                    outbox.chunks.push_back(chunk);
                }
            }
            Command::Finish(handle) => self.mux.finish(handle),
            Command::Reset(handle) => {
                self.outboxes.remove(&handle);
                self.mux.reset(handle);
            }
            Command::Consumed(handle, len) => self.mux.consumed(handle, len),
            Command::Stop(handle) => {
                self.inboxes.remove(&handle);
                self.mux.stop(handle);
            }
            Command::Probe => {
                // What was heard before is no answer.
                self.mux.look();
                self.mux.probe();
                self.probe = Some(Instant::now() + PROBE_TIMEOUT);
            }
            Command::Close => return Err(LinkLost("closed".into())),
        }
        Ok(())
    }

    fn open(&mut self, Open { spawn, mut ends }: Open) -> Result<(), LinkLost> {
        let handles = spawn.handles;
        let refusal = if self.sessions.len() >= MAX_SESSIONS {
            Some(format!("{MAX_SESSIONS} sessions run in this context already"))
        } else if self.sessions.contains_key(&handles.control) {
            Some("the session's number is still in use; try again".to_owned())
        } else {
            self.mux
                .message(handles.control, &ToSlave::Spawn(spawn))
                .err()
                .map(|error| format!("the command and its environment are too long: {error}"))
        };
        if let Some(message) = refusal {
            let refusal = Refusal { reason: RefusalReason::Limit, message };
            ends.stdin.end();
            let _ = ends.outcome.send(Outcome::Refused(refusal));
            return Ok(());
        }
        self.mux.open_sending(handles.stdin).map_err(broken)?;
        self.mux.open_receiving(handles.stdout).map_err(broken)?;
        self.mux.open_receiving(handles.stderr).map_err(broken)?;
        let outbox = Outbox { chunks: VecDeque::new(), underway: ends.stdin };
        self.outboxes.insert(handles.stdin, outbox);
        self.inboxes.insert(handles.stdout, ends.stdout);
        self.inboxes.insert(handles.stderr, ends.stderr);
        self.raises.allow(handles.control, ends.raised.take());
        self.sessions.insert(handles.control, (handles, ends.outcome));
        Ok(())
    }

    /// Takes bytes of the stream, but no more frames than are taken in one turn.
    fn feed(&mut self, mut bytes: Bytes) -> Result<(), LinkLost> {
        let came = bytes.len();
        let begin = self.mux.received();
        let mut seen = begin;
        let mut messages = 0;
        while !bytes.is_empty() {
            if seen - begin + messages >= share::TURN {
                self.unread = bytes;
                break;
            }
            match self.mux.expecting() {
                Expecting::Data(handle, len) => {
                    let mut piece = bytes.split_to(len.min(bytes.len()));
                    let len = piece.len();
                    if len >= WORTH_A_PIECE && len < came / MOST_KEPT {
                        // Else it would keep all that came with it, which no credit counts, for
                        // as long as its reader waits. What is smaller is copied anyway.
                        piece = Bytes::copy_from_slice(&piece);
                    }
                    self.mux.took(len);
                    let inbox = self.inboxes.get(&handle);
                    if inbox.is_none_or(|inbox| !inbox.put(piece)) {
                        // Nobody reads it.
                        self.mux.consumed(handle, len);
                    }
                }
                Expecting::Control(_) => {
                    let piece = &bytes[..bytes.len().min(share::TURN_BYTES)];
                    let (used, event) = self.mux.receive(piece).map_err(broken)?;
                    bytes.advance(used);
                    if let Some(Event::Message(_, payload)) = &event {
                        messages += share::of_message(payload.len());
                    }
                    if let Some(event) = event {
                        self.event(event)?;
                    }
                }
            }
            seen = self.mux.received();
        }
        self.share.take(seen - begin + messages);
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), LinkLost> {
        match event {
            Event::Message(handle, payload) => {
                let message = wire::decode(&payload).map_err(|error| broken(error.into()))?;
                self.message(handle, message)?;
            }
            Event::Eof(handle) => self.close_inbox(handle, Chunk::End),
            Event::Reset(handle) => self.close_inbox(handle, Chunk::Cut),
            Event::Stopped(handle) => {
                if let Some(outbox) = self.outboxes.remove(&handle) {
                    outbox.underway.stop();
                }
            }
        }
        Ok(())
    }

    pub(super) fn close_inbox(&mut self, handle: Handle, last: Chunk) {
        if let Some(inbox) = self.inboxes.remove(&handle) {
            inbox.end(last);
        }
    }

    fn message(&mut self, handle: Handle, message: ToMaster) -> Result<(), LinkLost> {
        match message {
            ToMaster::Exited(status) => self.over(handle, Outcome::Exited(status)),
            ToMaster::Refused(refusal) => self.over(handle, Outcome::Refused(refusal)),
            ToMaster::Raise(raise) => return self.raise(handle, *raise),
            ToMaster::Said(message) => self.raises.said(handle, message),
            ToMaster::Gone => return self.gone(handle),
            ToMaster::Hello(_) => {}
        }
        Ok(())
    }

    /// A session is over.
    fn over(&mut self, handle: Handle, outcome: Outcome) {
        self.raises.forbid(handle);
        let Some((handles, sender)) = self.sessions.remove(&handle) else { return };
        // Nobody reads what is still underway to a program that is gone.
        if let Some(outbox) = self.outboxes.remove(&handles.stdin) {
            outbox.underway.end();
        }
        self.mux.reset(handles.stdin);
        // Output comes before the outcome; where it did not, it was cut.
        self.close_inbox(handles.stdout, Chunk::Cut);
        self.close_inbox(handles.stderr, Chunk::Cut);
        let _ = sender.send(outcome);
    }
}

/// Puts frames together until there are no more, or enough for one piece. A large frame that needs
/// no copy goes behind them by itself, and is returned.
fn fill(
    mux: &mut Mux,
    outboxes: &mut HashMap<Handle, Outbox>,
    batch: &mut BytesMut,
) -> Result<Option<Bytes>, LinkLost> {
    while batch.len() < BATCH
        && let Some(transmit) = mux.transmit()
    {
        match transmit {
            Transmit::Control(frame) => batch.extend_from_slice(&frame),
            Transmit::Data { header, handle, len } => {
                if len >= WORTH_A_PIECE
                    && let Some(outbox) = outboxes.get_mut(&handle)
                    && let Some(frame) = outbox.take_frame(header, len)
                {
                    return Ok(Some(frame));
                }
                batch.reserve(HEADER_LEN + len);
                batch.extend_from_slice(&header);
                // Only what was put into an outbox is ever offered to the mux.
                let taken = outboxes.get_mut(&handle).map_or(0, |outbox| outbox.take(len, batch));
                if taken < len {
                    return Err(LinkLost("the link lost count of its bytes".into()));
                }
            }
        }
    }
    Ok(None)
}

/// What is left of the last chunk, else the next one; `None` at the end. Cancel safe.
async fn next(unread: &mut Bytes, incoming: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
    if unread.is_empty() { incoming.recv().await } else { Some(std::mem::take(unread)) }
}

/// Waits until the stream takes another piece; false where it never will again.
async fn has_room(outgoing: &mpsc::Sender<Bytes>) -> bool {
    outgoing.reserve().await.is_ok()
}

pub(super) fn broken(error: MuxError) -> LinkLost {
    LinkLost(format!("the slave broke the protocol: {error}").into())
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
