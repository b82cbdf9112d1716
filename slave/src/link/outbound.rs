//! To the link: control frames, many in one write, and what programs print.
//!
//! A frame that was begun is finished before another begins. Small payload is copied after its
//! header and goes out with its neighbours in one call. The kernel moves bulk from the program's
//! pipe into the link's.

use std::io;
use std::time::Instant;

use fakessh_protocol::mux::Transmit;
use fakessh_protocol::pace::Pace;
use fakessh_protocol::wire::{HEADER_LEN, Handle, Header, Kind};
use rustix::io::Errno;
use zeroize::Zeroize;

use super::direction::Direction;
use super::end::LinkEnd;
use super::pipes::Pipes;
use crate::io::Io;
use crate::poll::Interest;
use crate::session::Source;

/// Payload up to this is copied: a copy of a page costs less than a call of its own.
const COPIED: usize = 4096;

/// Frames are gathered up to this before they are written.
const GATHERED: usize = 16 * 1024;

/// Most bytes sent before the link is read again.
const BUDGET: usize = 1024 * 1024;

/// The sending half of the link.
#[derive(Debug)]
pub(crate) struct Outbound {
    link: Direction,
    /// Whole frames, and at the end perhaps the header of [`Outbound::payload`].
    buffer: Vec<u8>,
    /// Whether one of the frames is a message: there may be a secret in it.
    has_message: bool,
    /// How much of the buffer is written. `None` while it is gathered.
    written: Option<usize>,
    /// The frame whose payload goes out of a program's pipe: its handle, and how many bytes are
    /// missing.
    payload: Option<(Handle, usize)>,
    /// Until when the link, which is full of bulk, is left alone.
    rest: Option<Instant>,
    /// How fast the link takes what is moved to it.
    pace: Pace,
}

/// What one turn may still send.
#[derive(Debug)]
pub(crate) struct Turn {
    budget: usize,
}

impl Outbound {
    /// Takes over standard output. `first` goes before the first frame.
    ///
    /// # Errors
    /// If it can't be reopened or duplicated.
    pub(crate) fn new(first: &[u8]) -> io::Result<Outbound> {
        // A buffer that grows would leave a copy of a secret behind: there is room for the longest.
        let mut buffer = Vec::with_capacity(GATHERED + 2 * COPIED);
        buffer.extend_from_slice(first);
        Ok(Outbound {
            link: Direction::outward()?,
            buffer,
            has_message: false,
            written: None,
            payload: None,
            rest: None,
            pace: Pace::new(Instant::now()),
        })
    }

    /// Lets go of the link.
    pub(crate) fn close(&mut self) {
        self.link.close();
    }

    /// When to try the link again though nothing is ready.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.rest
    }

    /// Sends what there is to send, until the link is full or the turn's budget used up. Returns
    /// early, with a handle, when an output's end is on its way: messages that have waited for that
    /// can be queued now, and go out in the same write.
    ///
    /// # Errors
    /// How the link ended.
    pub(crate) fn send(
        &mut self,
        io: &mut Io,
        pipes: &mut impl Pipes,
        turn: &mut Turn,
    ) -> Result<Option<Handle>, LinkEnd> {
        self.rest = None;
        let interest = loop {
            if self.written.is_none()
                && self.payload.is_none()
                && let Some(ended) = self.gather(io, pipes)
            {
                return Ok(Some(ended));
            }
            let step = if !self.buffer.is_empty() {
                self.write_buffer()
            } else if let Some((handle, len)) = self.payload {
                self.send_payload(io, pipes, handle, len)
            } else {
                break Interest::End;
            };
            match step {
                Ok(len) if len < turn.budget => turn.budget -= len,
                Err(Errno::AGAIN) => break self.link_is_full(),
                Ok(_) => break Interest::Write,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(LinkEnd::Closed),
                Err(error) => return Err(error.into()),
            }
        };
        self.link.watch(&io.poll, interest)?;
        Ok(None)
    }

    /// How to learn of room. There is always more bulk, so a link that takes it fast is tried again
    /// after a rest, and does not wake us with each piece.
    fn link_is_full(&mut self) -> Interest {
        let now = Instant::now();
        let is_bulk = self.pace.is_bulk(now) && self.payload.is_some();
        self.rest = self.link.rest().filter(|_| is_bulk).map(|rest| now + rest);
        if self.rest.is_some() { Interest::End } else { Interest::Write }
    }

    /// Gathers frames, up to one whose payload is to be moved and not copied, or to the end of an
    /// output, whose handle it returns.
    fn gather(&mut self, io: &mut Io, pipes: &mut impl Pipes) -> Option<Handle> {
        while self.buffer.len() < GATHERED {
            match io.mux.transmit()? {
                Transmit::Control(frame) => {
                    self.buffer.extend_from_slice(&frame);
                    let head = frame.first_chunk::<HEADER_LEN>();
                    if let Some(Ok(header)) = head.map(|&head| Header::decode(head)) {
                        self.has_message |= header.kind == Kind::Message;
                        if matches!(header.kind, Kind::Eof | Kind::Reset) {
                            return Some(header.handle);
                        }
                    }
                }
                Transmit::Data { header, handle, len } => {
                    self.buffer.extend_from_slice(&header);
                    if len > COPIED {
                        self.payload = Some((handle, len));
                        return None;
                    }
                    self.copy_payload(io, pipes.source(handle), handle, len);
                }
            }
        }
        None
    }

    fn write_buffer(&mut self) -> Result<usize, Errno> {
        let written = self.written.get_or_insert(0);
        let len = self.link.write(&self.buffer[*written..])?;
        *written += len;
        if *written == self.buffer.len() {
            if std::mem::take(&mut self.has_message) {
                self.buffer.as_mut_slice().zeroize();
            }
            self.buffer.clear();
            self.written = None;
        }
        Ok(len)
    }

    /// Moves payload from the program's pipe to the link.
    fn send_payload(
        &mut self,
        io: &mut Io,
        pipes: &mut impl Pipes,
        handle: Handle,
        len: usize,
    ) -> Result<usize, Errno> {
        let mut source = pipes.source(handle);
        if let Some(source) = source.as_deref_mut()
            && let Some(pipe) = source.pipe()
        {
            match self.link.splice_from(pipe, len) {
                Ok(Some(moved)) if moved > 0 => {
                    self.payload = (moved < len).then_some((handle, len - moved));
                    self.pace.add(moved);
                    source.sent(io, moved);
                    return Ok(moved);
                }
                // The pipe is not empty, so the link is full.
                Err(Errno::AGAIN) if rustix::io::ioctl_fionread(pipe)? > 0 => {
                    return Err(Errno::AGAIN);
                }
                Ok(None) | Ok(Some(_)) | Err(Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        let part = len.min(GATHERED);
        self.payload = (part < len).then_some((handle, len - part));
        self.copy_payload(io, source, handle, part);
        Ok(0)
    }

    /// Copies payload from the program's pipe to the end of the buffer.
    ///
    /// The frame has begun and must be as long as it said. If its bytes are gone (the master wants
    /// no more of them, or another process has read them from the pipe) it is filled with zeros, and
    /// its handle is reset: nobody takes them for the program's.
    fn copy_payload(
        &mut self,
        io: &mut Io,
        source: Option<&mut Source>,
        handle: Handle,
        len: usize,
    ) {
        let from = self.buffer.len();
        self.buffer.resize(from + len, 0);
        let mut filled = 0;
        if let Some(pipe) = source.as_ref().and_then(|source| source.pipe()) {
            while filled < len {
                match rustix::io::read(pipe, &mut self.buffer[from + filled..]) {
                    Err(Errno::INTR) => {}
                    Ok(0) | Err(_) => break,
                    Ok(len) => filled += len,
                }
            }
        }
        match source {
            Some(source) if filled == len => source.sent(io, len),
            Some(source) => source.cut(io),
            None => io.mux.reset(handle),
        }
    }
}

impl Default for Turn {
    fn default() -> Turn {
        Turn { budget: BUDGET }
    }
}
