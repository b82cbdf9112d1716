//! From the link: takes frames apart, and moves their payload into sinks.
//!
//! Small frames are read in one go with what follows them. The kernel moves the bulk of a large
//! frame from the link into the program's pipe. While that pipe is full, the bulk is kept here,
//! within the credit of its handle, so that a program that does not read never stops the link.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use fakessh_protocol::message::LinkSettings;
use fakessh_protocol::mux::{Event, Expecting};
use fakessh_protocol::wire::{Handle, MAX_DATA};
use rustix::io::Errno;
use zeroize::Zeroize;

use super::clock::Clock;
use super::direction::Direction;
use super::end::LinkEnd;
use super::pipes::Pipes;
use crate::io::Io;
use crate::poll::Interest;
use crate::session::Sink;

/// Bytes that are read at once when no bulk is expected: the frames of some dozen short commands.
const READ_AHEAD: usize = 4096;

/// Most bytes taken in before programs' output has its turn.
const BUDGET: usize = 1024 * 1024;

/// How long a program whose pipe is full of bulk has to make room before its input is copied. A
/// fast program reads much in this time.
const ROOM_WAIT: Duration = Duration::from_micros(200);

/// The receiving half of the link.
#[derive(Debug)]
pub(crate) struct Inbound {
    link: Direction,
    clock: Clock,
    ahead: ReadAhead,
    /// Room for payload that has to be copied: one data frame.
    scratch: Box<[u8]>,
}

/// Bytes of the link that were read and not taken apart.
#[derive(Debug)]
struct ReadAhead {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether the last frame was longer than what is read ahead. Then the next frame is likely to
    /// be long as well, and its payload shall stay in the link's pipe.
    is_bulk: bool,
}

/// What the rest of the slave has to act upon.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The master did something.
    Event(Event),
    /// The sink of this handle is closed: its reader is gone.
    SinkClosed(Handle),
}

/// What one turn may still do.
#[derive(Debug)]
pub(crate) struct Turn {
    budget: usize,
    /// How long the turn may still wait for a program to make room.
    room_wait: Option<Duration>,
}

/// What became of one step.
enum Step {
    /// So many bytes were dealt with.
    Took(usize, Option<Taken>),
    /// Nothing is there.
    Empty,
}

impl Inbound {
    /// Takes over standard input, and watches it.
    ///
    /// # Errors
    /// If it can't be reopened, duplicated or watched.
    pub(crate) fn new(io: &Io) -> io::Result<Inbound> {
        let mut link = Direction::inward()?;
        link.watch(&io.poll, Interest::Read)?;
        Ok(Inbound {
            link,
            clock: Clock::default(),
            ahead: ReadAhead::new(),
            scratch: vec![0; MAX_DATA].into_boxed_slice(),
        })
    }

    /// Lets go of the link.
    pub(crate) fn close(&mut self) {
        self.link.close();
    }

    /// Sets when the link is asked for signs of life, and when it counts as dead.
    pub(crate) fn set(&mut self, settings: LinkSettings) {
        self.clock.set(settings, Instant::now());
    }

    /// When to wake at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.clock.next()
    }

    /// Asks the master for a sign of life if that is due.
    ///
    /// # Errors
    /// If the master has been silent for too long.
    pub(crate) fn check(&mut self, io: &mut Io, now: Instant) -> Result<(), LinkEnd> {
        if self.clock.tick_is_due(now) {
            io.mux.tick();
        }
        if self.clock.is_silent(now) { Err(LinkEnd::Silent) } else { Ok(()) }
    }

    /// Whether bytes were read that wait to be taken apart. The kernel does not report them.
    pub(crate) fn is_pending(&self) -> bool {
        self.ahead.is_pending()
    }

    /// Zeroes what was taken apart: there was a secret in it.
    pub(crate) fn wipe(&mut self) {
        self.ahead.wipe();
    }

    /// Takes in what the link has, up to what the turn may do, or to the next thing to act upon.
    ///
    /// # Errors
    /// How the link ended.
    pub(crate) fn take(
        &mut self,
        io: &mut Io,
        pipes: &mut impl Pipes,
        turn: &mut Turn,
    ) -> Result<Option<Taken>, LinkEnd> {
        while turn.budget > 0 {
            let step = match io.mux.expecting() {
                Expecting::Control(len) => self.take_frames(io, len)?,
                Expecting::Data(handle, len) => {
                    let sink = pipes.sink(handle).filter(|sink| !sink.is_closed());
                    self.take_payload(io, sink, (handle, len), turn)?
                }
            };
            let Step::Took(len, taken) = step else { return Ok(None) };
            turn.budget = turn.budget.saturating_sub(len);
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    /// Headers and control frames.
    fn take_frames(&mut self, io: &mut Io, len: usize) -> Result<Step, LinkEnd> {
        let ahead = &mut self.ahead;
        if !ahead.is_pending() {
            let size = ahead.buffer.len();
            let size = if ahead.is_bulk { len.min(size) } else { size };
            match self.link.read(&mut ahead.buffer[..size]) {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(len) => (ahead.start, ahead.end) = (0, len),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Step::Empty),
                Err(error) => return Err(error.into()),
            }
            self.clock.heard();
        }
        let (used, event) = io.mux.receive(ahead.pending())?;
        ahead.start += used;
        if let Expecting::Data(_, len) = io.mux.expecting() {
            ahead.is_bulk = len >= READ_AHEAD;
        }
        if event.is_some() {
            ahead.is_bulk = false;
        }
        Ok(Step::Took(used, event.map(Taken::Event)))
    }

    /// Payload, for a sink that is open if there is one.
    fn take_payload(
        &mut self,
        io: &mut Io,
        mut sink: Option<&mut Sink>,
        (handle, len): (Handle, usize),
        turn: &mut Turn,
    ) -> Result<Step, LinkEnd> {
        let len = if self.is_pending() {
            self.take_read_ahead(io, sink.as_deref_mut(), len)
        } else if let Some(moved) = sink
            .as_deref_mut()
            .map_or(Ok(None), |sink| self.splice(io, sink, (handle, len), turn))?
        {
            moved
        } else {
            match self.link.read(&mut self.scratch[..len.min(MAX_DATA)]) {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(len) => {
                    self.clock.heard();
                    io.mux.took(len);
                    if let Some(sink) = sink.as_deref_mut() {
                        sink.give(io, &self.scratch[..len]);
                    }
                    len
                }
                Err(Errno::AGAIN | Errno::INTR) if sink.as_ref().is_some_and(|s| s.is_closed()) => {
                    0
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Step::Empty),
                Err(error) => return Err(error.into()),
            }
        };
        let is_closed = sink.is_some_and(|sink| sink.is_closed());
        Ok(Step::Took(len, is_closed.then_some(Taken::SinkClosed(handle))))
    }

    /// Payload that was read together with its header.
    fn take_read_ahead(&mut self, io: &mut Io, sink: Option<&mut Sink>, len: usize) -> usize {
        let bytes = self.ahead.pending();
        let bytes = &bytes[..len.min(bytes.len())];
        io.mux.took(bytes.len());
        if let Some(sink) = sink {
            sink.give(io, bytes);
        }
        let len = bytes.len();
        self.ahead.start += len;
        len
    }

    /// Moves payload that is still in the link straight into a program's pipe, and returns how much
    /// that was. If the pipe is full, the turn waits a moment, once: a program that reads as fast
    /// as bytes come will have made room, and to copy them costs more.
    fn splice(
        &mut self,
        io: &mut Io,
        sink: &mut Sink,
        (handle, len): (Handle, usize),
        turn: &mut Turn,
    ) -> Result<Option<usize>, LinkEnd> {
        while !sink.is_closed() {
            if let Some(pipe) = sink.direct() {
                match self.link.splice_into(pipe, len) {
                    Ok(Some(0)) => return Err(LinkEnd::Closed),
                    Ok(Some(moved)) => {
                        self.clock.heard();
                        io.mux.took(moved);
                        io.mux.consumed(handle, moved);
                        return Ok(Some(moved));
                    }
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => {}
                    Ok(None) => break,
                    Err(_) => {
                        sink.cut(io);
                        break;
                    }
                }
            }
            if self.link.available()? == 0 {
                break;
            }
            let Some(wait) = turn.room_wait.take() else {
                // The copy takes long enough for others to wait.
                turn.budget = 0;
                break;
            };
            thread::sleep(wait);
            sink.drain(io);
        }
        Ok(None)
    }
}

impl Default for Turn {
    fn default() -> Turn {
        Turn { budget: BUDGET, room_wait: Some(ROOM_WAIT) }
    }
}

impl ReadAhead {
    fn new() -> ReadAhead {
        let buffer = vec![0; READ_AHEAD].into_boxed_slice();
        ReadAhead { buffer, start: 0, end: 0, is_bulk: false }
    }

    fn is_pending(&self) -> bool {
        self.start < self.end
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Zeroes what was taken apart. It may have begun in an earlier read, of which something is
    /// left after the end of the last.
    fn wipe(&mut self) {
        self.buffer[..self.start].zeroize();
        self.buffer[self.end..].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_came_in_two_reads_is_wiped() {
        let buffer = vec![b's'; READ_AHEAD].into_boxed_slice();
        let mut ahead = ReadAhead { buffer, start: 10, end: 12, is_bulk: false };
        ahead.wipe();
        let left: Vec<usize> = (0..READ_AHEAD).filter(|at| ahead.buffer[*at] != 0).collect();
        assert_eq!(left, [10, 11], "what is pending stays");
    }
}
