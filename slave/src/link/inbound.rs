//! From the link: frames are taken apart, and payload goes to programs' standard input.
//!
//! What is small is read in one go with what follows it. The bulk of a large frame is moved by the
//! kernel from the link into the program's pipe; while that pipe is full it is kept here, within
//! the credit of its handle, so that one program that does not read never stops the link.

use std::thread;
use std::time::Duration;

use fakessh_protocol::message::ToSlave;
use fakessh_protocol::mux::{Event, Expecting};
use fakessh_protocol::wire::{self, Handle};
use rustix::io::{Errno, ioctl_fionread};
use zeroize::Zeroize;

use crate::event_loop::{LinkEnd, SCRATCH, Slave};
use crate::poll::Part;

/// What is read at once where no bulk is expected: the frames of some dozen short commands.
const READ_AHEAD: usize = 4096;

/// Most bytes taken in before programs' output has its turn.
const BUDGET: usize = 1024 * 1024;

/// How long a program whose pipe is full of bulk has to make room before its input is copied. A
/// fast one takes much in this time.
const PATIENCE: Duration = Duration::from_micros(200);

/// Bytes of the link that were read and not taken apart.
#[derive(Debug)]
pub(crate) struct Inbound {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether the last frame was more than is read ahead: then the next is likely to be, too,
    /// and its payload shall stay in the link's pipe.
    bulk: bool,
}

impl Inbound {
    pub(crate) fn new() -> Inbound {
        let buffer = vec![0; READ_AHEAD].into_boxed_slice();
        Inbound { buffer, start: 0, end: 0, bulk: false }
    }

    /// Whether something was read that waits to be taken apart. The kernel does not know of it.
    pub(crate) fn is_pending(&self) -> bool {
        self.start < self.end
    }

    /// Zeroes what is taken apart: there was a secret in it. It may have begun in an earlier read,
    /// of which something is left behind the end of the last.
    fn wipe(&mut self) {
        self.buffer[..self.start].zeroize();
        self.buffer[self.end..].zeroize();
    }
}

/// How a step of taking in went.
enum Step {
    /// This many bytes were dealt with.
    Took(usize),
    /// Nothing is there.
    Empty,
    /// What was done takes long enough for others to wait.
    Enough,
}

impl Slave {
    /// Takes in what the link has, up to a budget.
    pub(crate) fn take_in(&mut self) -> Result<(), LinkEnd> {
        let mut budget = BUDGET;
        let mut patience = Some(PATIENCE);
        loop {
            let step = match self.mux.expecting() {
                Expecting::Control(len) => self.take_frames(len)?,
                Expecting::Data(handle, len) if self.inbound.is_pending() => {
                    self.take_read_ahead(handle, len)
                }
                Expecting::Data(handle, len) => self.take_payload(handle, len, &mut patience)?,
            };
            match step {
                Step::Took(len) if len < budget => budget -= len,
                Step::Took(_) | Step::Enough | Step::Empty => return Ok(()),
            }
        }
    }

    /// Headers and control frames.
    fn take_frames(&mut self, len: usize) -> Result<Step, LinkEnd> {
        if !self.inbound.is_pending() {
            let size = self.inbound.buffer.len();
            let size = if self.inbound.bulk { len.min(size) } else { size };
            match self.link_in.read(&mut self.inbound.buffer[..size]) {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(len) => (self.inbound.start, self.inbound.end) = (0, len),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Step::Empty),
                Err(error) => return Err(error.into()),
            }
            self.clock.heard();
        }
        let Inbound { buffer, start, end, .. } = &mut self.inbound;
        let (used, event) = self.mux.receive(&buffer[*start..*end])?;
        *start += used;
        if let Expecting::Data(_, len) = self.mux.expecting() {
            self.inbound.bulk = len >= READ_AHEAD;
        }
        match event {
            Some(event) => self.handle_event(event, used),
            None => Ok(Step::Took(used)),
        }
    }

    /// Payload that was read together with its header.
    fn take_read_ahead(&mut self, handle: Handle, len: usize) -> Step {
        let len = len.min(self.inbound.end - self.inbound.start);
        let from = self.inbound.start;
        self.inbound.start += len;
        self.mux.took(len);
        if let Some(sink) = self.sessions.sink(handle) {
            match sink.give(&self.poll, &self.inbound.buffer[from..from + len]) {
                Ok(given) => self.mux.consumed(handle, given),
                Err(_) => self.sink_broke(handle),
            }
        }
        Step::Took(len)
    }

    /// Payload that is still in the link. For a program whose pipe is full it waits a moment where
    /// there is patience left: one that reads as fast as bytes come will have made room, and to
    /// copy them costs more.
    fn take_payload(
        &mut self,
        handle: Handle,
        len: usize,
        patience: &mut Option<Duration>,
    ) -> Result<Step, LinkEnd> {
        while let Some(sink) = self.sessions.sink(handle) {
            if sink.is_drained() {
                match self.link_in.splice_into(&sink.pipe, len) {
                    Ok(Some(0)) => return Err(LinkEnd::Closed),
                    Ok(Some(moved)) => {
                        self.clock.heard();
                        self.mux.took(moved);
                        self.mux.consumed(handle, moved);
                        return Ok(Step::Took(moved));
                    }
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => {}
                    Ok(None) => break,
                    Err(_) => {
                        self.sink_broke(handle);
                        break;
                    }
                }
            }
            if ioctl_fionread(&self.link_in.watched)? == 0 {
                break;
            }
            let Some(patience) = patience.take() else {
                self.keep_payload(handle, len)?;
                return Ok(Step::Enough);
            };
            thread::sleep(patience);
            self.drain_sink(handle);
        }
        self.keep_payload(handle, len)
    }

    /// Payload that the program can't take now, or that nobody wants.
    fn keep_payload(&mut self, handle: Handle, len: usize) -> Result<Step, LinkEnd> {
        let len = match self.link_in.read(&mut self.scratch[..len.min(SCRATCH)]) {
            Ok(0) => return Err(LinkEnd::Closed),
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Step::Empty),
            Err(error) => return Err(error.into()),
        };
        self.clock.heard();
        self.mux.took(len);
        if let Some(sink) = self.sessions.sink(handle) {
            match sink.give(&self.poll, &self.scratch[..len]) {
                Ok(given) => self.mux.consumed(handle, given),
                Err(_) => self.sink_broke(handle),
            }
        }
        Ok(Step::Took(len))
    }

    fn handle_event(&mut self, event: Event, used: usize) -> Result<Step, LinkEnd> {
        self.inbound.bulk = false;
        match event {
            Event::Message(Handle::LINK, payload) => {
                if let ToSlave::Settings(settings) = wire::decode(&payload)? {
                    self.clock.set(settings, std::time::Instant::now());
                }
            }
            Event::Message(control, payload) => match wire::decode(&payload)? {
                ToSlave::Spawn(spawn) => {
                    self.spawn(control, &spawn)?;
                    return Ok(Step::Enough);
                }
                ToSlave::Signal(number) => self.signal(control, number),
                ToSlave::Hangup => self.hang_up(control),
                ToSlave::Type(secret) => {
                    self.type_secret(control, &secret.0);
                    self.inbound.wipe();
                }
                ToSlave::Tell(message) => self.tell(control, message),
                ToSlave::Settings(_) => {}
            },
            Event::Eof(handle) => {
                if let Some(sink) = self.sessions.sink(handle) {
                    sink.ending = true;
                    if sink.is_drained() {
                        self.close_sink(handle);
                    }
                }
            }
            Event::Reset(handle) => self.stdin_was_cut(handle),
            Event::Stopped(handle) => self.close_source(handle),
        }
        Ok(Step::Took(used))
    }

    fn close_sink(&mut self, handle: Handle) {
        if let Some((session, Part::Stdin)) = self.sessions.of(handle) {
            session.stdin = None;
        }
        self.close_raised_sink(handle);
    }

    /// The invoker's side of a program's input broke: to the program a closed pipe would look like
    /// the end of all of it, so it is hung up first. (For a session that is over, and for an input
    /// that the program itself has closed, nothing is cut, and nothing comes here.)
    fn stdin_was_cut(&mut self, handle: Handle) {
        if let Some((session, Part::Stdin)) = self.sessions.of(handle) {
            let control = session.handles.control;
            self.hang_up(control);
        }
    }

    /// The program reads no more: the master shall know, also where it sends nothing.
    pub(crate) fn sink_broke(&mut self, handle: Handle) {
        self.close_sink(handle);
        self.mux.stop(handle);
    }

    /// There is room again in a sink.
    pub(crate) fn drain_sink(&mut self, handle: Handle) {
        let Some(sink) = self.sessions.sink(handle) else { return };
        match sink.drain(&self.poll) {
            Ok(given) => {
                let over = sink.ending && sink.is_drained();
                self.mux.consumed(handle, given);
                if over {
                    self.close_sink(handle);
                }
            }
            Err(_) => self.sink_broke(handle),
        }
    }

    /// The master wants no more of an output: the program is to notice with its next write.
    fn close_source(&mut self, handle: Handle) {
        if let Some(output) = self.sessions.source(handle) {
            *output = None;
        }
        if let Some((session, _)) = self.sessions.of(handle) {
            let control = session.handles.control;
            self.settle(control);
        }
        self.close_raised_source(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_came_in_two_reads_is_wiped() {
        let buffer = vec![b's'; READ_AHEAD].into_boxed_slice();
        let mut inbound = Inbound { buffer, start: 10, end: 12, bulk: false };
        inbound.wipe();
        let left: Vec<usize> = (0..READ_AHEAD).filter(|at| inbound.buffer[*at] != 0).collect();
        assert_eq!(left, [10, 11], "what is pending stays");
    }
}
