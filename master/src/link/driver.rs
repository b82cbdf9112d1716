//! The task that owns a link.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Refusal, RefusalReason, ToMaster, ToSlave};
use fakessh_protocol::mux::{Event, Expecting, Liveness, Mux};
use fakessh_protocol::wire::{self, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::ends::{ControlRequest, LinkLost, Outcome};
use super::inbox::StreamEnd;
use super::request::{LinkRequest, Open};
use super::reverse_table::ReverseTable;
use super::streams::{Streams, broken};
use super::{Keepalive, PROBE_TIMEOUT, share};
use crate::allowance::Allowance;
use crate::stream::ByteStream;

/// Most sessions on one link: far above what one target runs, and half of what the mux allows.
const MAX_SESSIONS: usize = 16_384;

/// Requests that are served before the stream is looked at again.
const REQUESTS_AT_ONCE: usize = 256;

pub(super) struct Driver {
    stream: ByteStream,
    streams: Streams,
    requests: mpsc::UnboundedReceiver<LinkRequest>,
    keepalive: Keepalive,
    /// Who waits for a sign of life.
    asked: Vec<oneshot::Sender<()>>,
    /// When a probe that was sent must have been answered.
    probe: Option<Instant>,
    /// A frame that is next, whatever else there is: the mux counts it as sent.
    frame: Option<Bytes>,
    /// Frames with a secret, which go by themselves: nothing of them is copied, and they are zeroed
    /// when they are out.
    secrets: VecDeque<Bytes>,
    /// Sessions that have not ended, by their control handle.
    sessions: HashMap<Handle, oneshot::Sender<Outcome>>,
    reverse: ReverseTable,
    /// Bytes that came and were not yet taken in.
    unread: Bytes,
    /// What the slave may still send before it is not read for a moment.
    share: Allowance,
}

impl Driver {
    pub(super) fn new(
        stream: ByteStream,
        mux: Mux,
        own: mpsc::WeakUnboundedSender<LinkRequest>,
        requests: mpsc::UnboundedReceiver<LinkRequest>,
        keepalive: Keepalive,
    ) -> Driver {
        Driver {
            stream,
            streams: Streams::new(mux),
            requests,
            keepalive,
            asked: Vec::new(),
            probe: None,
            frame: None,
            secrets: VecDeque::new(),
            sessions: HashMap::new(),
            reverse: ReverseTable::new(own),
            unread: Bytes::new(),
            share: share::new(),
        }
    }

    /// Runs the link to its end, and tells every session of it.
    pub(super) async fn run(mut self, early: Bytes) -> LinkLost {
        let reason = match self.drive(early).await {
            Ok(reason) | Err(reason) => reason,
        };
        for (_, outcome) in self.sessions.drain() {
            let _ = outcome.send(Outcome::Lost(reason.clone()));
        }
        self.streams.end();
        // Sessions that were just being opened.
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            if let LinkRequest::Open(open) = request {
                open.io.stdin.end();
                let _ = open.io.outcome.send(Outcome::Lost(reason.clone()));
            }
        }
        reason
    }

    async fn drive(&mut self, early: Bytes) -> Result<LinkLost, LinkLost> {
        let _ =
            self.streams.mux.message(Handle::LINK, &ToSlave::Settings(self.keepalive.settings()));
        self.feed(early)?;
        let interval = self.keepalive.interval;
        let mut ticks = (!interval.is_zero()).then(|| {
            let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            // What is ready together goes out together.
            for _ in 0..REQUESTS_AT_ONCE {
                match self.requests.try_recv() {
                    Ok(request) => self.request(request)?,
                    Err(_) => break,
                }
            }
            self.reverse.conclude(&mut self.streams);
            let rest = self.share.rest(Instant::now);
            tokio::select! {
                biased;
                room = has_room(&self.stream.outgoing), if self.wants_transmit() => {
                    if !room {
                        return Err(self.lost());
                    }
                    self.transmit()?;
                }
                request = self.requests.recv() => match request {
                    Some(request) => self.request(request)?,
                    None => return Ok(LinkLost("no longer wanted".into())),
                },
                chunk = next(&mut self.unread, &mut self.stream.incoming), if rest.is_none() => {
                    match chunk {
                        Some(chunk) => self.feed(chunk)?,
                        None => return Err(self.lost()),
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
                    if self.streams.mux.tick() != Liveness::Alive {
                        return Err(LinkLost("no answer to a probe: the connection is dead".into()));
                    }
                }
            }
        }
    }

    fn wants_transmit(&self) -> bool {
        self.frame.is_some() || !self.secrets.is_empty() || self.streams.mux.wants_transmit()
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
        let frame = self.streams.fill(&mut batch)?;
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
    fn lost(&self) -> LinkLost {
        let said = self.stream.diagnostics.said();
        if said.is_empty() {
            LinkLost("the connection was lost".into())
        } else {
            LinkLost(format!("the connection was lost ({said})").into())
        }
    }

    fn look(&mut self) -> Result<(), LinkLost> {
        match self.streams.mux.tick() {
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

    fn request(&mut self, request: LinkRequest) -> Result<(), LinkLost> {
        match request {
            LinkRequest::Open(open) => self.open(*open)?,
            LinkRequest::Stream(handle, request) => self.streams.request(handle, request),
            LinkRequest::Control(handle, request) => self.control(handle, request),
            LinkRequest::Listen(request) => self.reverse.listen(*request, &mut self.streams),
            LinkRequest::StopListening(control) => {
                self.reverse.stop_listening(control, &mut self.streams);
            }
            LinkRequest::Ask(sender) => {
                self.streams.mux.probe();
                self.asked.push(sender);
            }
            LinkRequest::Probe => {
                // What was heard before is no answer.
                self.streams.mux.tick();
                self.streams.mux.probe();
                self.probe = Some(Instant::now() + PROBE_TIMEOUT);
            }
            LinkRequest::Close => return Err(LinkLost("closed".into())),
        }
        Ok(())
    }

    fn control(&mut self, handle: Handle, request: ControlRequest) {
        let message = match request {
            ControlRequest::Message(message) => {
                return self.reverse.send(handle, message, &mut self.streams);
            }
            _ if !self.sessions.contains_key(&handle) => return,
            ControlRequest::Type(secret) => {
                // It overtakes no Spawn: the helper has asked for it.
                let frame = wire::encode_frame(handle, &ToSlave::Type(secret));
                return self.secrets.extend(frame.map(Bytes::from_owner));
            }
            ControlRequest::Signal(number) => ToSlave::Signal(number),
            ControlRequest::Resize(size) => ToSlave::Resize(size),
            ControlRequest::Hangup => ToSlave::Hangup,
        };
        let _ = self.streams.mux.message(handle, &message);
    }

    fn open(&mut self, Open { spawn, io, reverse }: Open) -> Result<(), LinkLost> {
        let SessionHandles { control, stdin, stdout, stderr } = spawn.handles;
        let refusal = if self.sessions.len() >= MAX_SESSIONS {
            Some(format!("{MAX_SESSIONS} sessions run in this context already"))
        } else if self.sessions.contains_key(&control) {
            Some("the session's number is still in use; try again".to_owned())
        } else {
            let sent = self.streams.mux.message(control, &ToSlave::Spawn(spawn));
            sent.err().map(|error| format!("the command and its environment are too long: {error}"))
        };
        if let Some(message) = refusal {
            let refusal = Refusal { reason: RefusalReason::Limit, message };
            io.stdin.end();
            let _ = io.outcome.send(Outcome::Refused(refusal));
            return Ok(());
        }
        self.streams.open_sending(stdin, io.stdin)?;
        self.streams.open_receiving(stdout, io.stdout)?;
        self.streams.open_receiving(stderr, io.stderr)?;
        if let Some(to) = reverse {
            self.reverse.allow(control, to);
        }
        self.sessions.insert(control, io.outcome);
        Ok(())
    }

    /// Takes bytes of the stream, but no more frames than are taken in one turn.
    fn feed(&mut self, mut bytes: Bytes) -> Result<(), LinkLost> {
        let came = bytes.len();
        let begin = self.streams.mux.received();
        let mut seen = begin;
        let mut messages = 0;
        while !bytes.is_empty() {
            if seen - begin + messages >= share::TURN {
                self.unread = bytes;
                break;
            }
            match self.streams.mux.expecting() {
                Expecting::Data(handle, len) => {
                    let piece = bytes.split_to(len.min(bytes.len()));
                    self.streams.received(handle, piece, came);
                }
                Expecting::Control(_) => {
                    let piece = &bytes[..bytes.len().min(share::TURN_BYTES)];
                    let (used, event) = self.streams.mux.receive(piece).map_err(broken)?;
                    bytes.advance(used);
                    if let Some(Event::Message(_, payload)) = &event {
                        messages += share::of_message(payload.len());
                    }
                    if let Some(event) = event {
                        self.event(event)?;
                    }
                }
            }
            seen = self.streams.mux.received();
        }
        self.share.take(seen - begin + messages);
        for asked in self.asked.drain(..) {
            let _ = asked.send(());
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), LinkLost> {
        match event {
            Event::Message(handle, payload) => {
                let message = wire::decode(&payload).map_err(|error| broken(error.into()))?;
                self.message(handle, message)?;
            }
            Event::Eof(handle) => self.streams.close_inbox(handle, StreamEnd::Whole),
            Event::Reset(handle) => self.streams.close_inbox(handle, StreamEnd::Cut),
            Event::Stopped(handle) => self.streams.stopped(handle),
        }
        Ok(())
    }

    fn message(&mut self, handle: Handle, message: ToMaster) -> Result<(), LinkLost> {
        let Driver { reverse, streams, share, .. } = self;
        match message {
            ToMaster::Exited(status) => self.ended(handle, Outcome::Exited(status)),
            ToMaster::Refused(refusal) if reverse.listens(handle) => {
                reverse.answer(handle, Err(refusal));
            }
            ToMaster::Refused(refusal) => self.ended(handle, Outcome::Refused(refusal)),
            ToMaster::StartReverse(raise) => return reverse.start(handle, *raise, streams, share),
            ToMaster::FromShim(message) => reverse.receive(handle, message),
            ToMaster::Gone => return reverse.gone(handle, streams),
            ToMaster::Listening(port) => reverse.answer(handle, Ok(port)),
            ToMaster::Accepted(accepted) => {
                return reverse.accepted(handle, accepted, streams, share);
            }
            ToMaster::Hello(_) => {}
        }
        Ok(())
    }

    /// A session has ended.
    fn ended(&mut self, control: Handle, outcome: Outcome) {
        self.reverse.forbid(control);
        let Some(sender) = self.sessions.remove(&control) else { return };
        let SessionHandles { stdin, stdout, stderr, .. } = SessionHandles::of(control);
        // Nobody reads what is still underway to a program that is gone.
        self.streams.cut_sending(stdin);
        // Output comes before the outcome; if it did not, it was cut.
        self.streams.close_inbox(stdout, StreamEnd::Cut);
        self.streams.close_inbox(stderr, StreamEnd::Cut);
        let _ = sender.send(outcome);
    }
}

/// Waits for the rest of the last chunk, or for the next one; `None` at the end. Cancel safe.
async fn next(unread: &mut Bytes, incoming: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
    if unread.is_empty() { incoming.recv().await } else { Some(std::mem::take(unread)) }
}

/// Waits until the stream takes another piece; false if it never will again.
async fn has_room(outgoing: &mpsc::Sender<Bytes>) -> bool {
    outgoing.reserve().await.is_ok()
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
