//! To the link: control frames, many in one write, and what programs print.
//!
//! A frame that was begun is finished before another begins. What a program prints in passing is
//! copied behind its header and goes out with its neighbours in one call; bulk is moved by the
//! kernel from the program's pipe into the link's.

use std::time::Instant;

use fakessh_protocol::mux::Transmit;
use fakessh_protocol::pace::Pace;
use fakessh_protocol::wire::{HEADER_LEN, Handle, Header, Kind};
use rustix::io::Errno;
use zeroize::Zeroize;

use crate::event_loop::{LinkEnd, Slave};
use crate::poll::Interest;

/// Payload up to this is copied: a copy of a page costs less than a call of its own.
const COPIED: usize = 4096;

/// Frames are gathered up to this before they are written.
const GATHERED: usize = 16 * 1024;

/// Most bytes sent before the link is read again.
const BUDGET: usize = 1024 * 1024;

/// What is on its way out.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Whole frames, and at the end perhaps the header of [`Outbound::payload`].
    buffer: Vec<u8>,
    /// Whether one of them is a message: there may be a secret in it.
    has_message: bool,
    /// How much of the buffer is written.
    written: usize,
    /// The frame whose bytes go out of a program's pipe: its handle, and how many are missing.
    payload: Option<(Handle, usize)>,
    /// Until when the link, which is full of bulk, is left alone.
    rest: Option<Instant>,
    /// How fast the link takes what is moved to it.
    pace: Pace,
}

impl Default for Outbound {
    fn default() -> Outbound {
        // A buffer that grows leaves a copy behind: a secret finds room.
        let buffer = Vec::with_capacity(GATHERED + 2 * COPIED);
        let pace = Pace::new(Instant::now());
        Outbound { buffer, has_message: false, written: 0, payload: None, rest: None, pace }
    }
}

impl Outbound {
    /// When the link is to be looked at again though nothing is ready.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.rest
    }

    /// What goes before the first frame.
    pub(crate) fn begin(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

impl Slave {
    /// Sends what there is to send, until the link is full or a budget used up.
    pub(crate) fn send_out(&mut self) -> Result<(), LinkEnd> {
        let mut budget = BUDGET;
        self.outbound.rest = None;
        let interest = loop {
            if self.outbound.payload.is_none() && self.outbound.buffer.is_empty() {
                self.gather();
            }
            let step = if !self.outbound.buffer.is_empty() {
                self.write_buffer()
            } else if let Some((handle, len)) = self.outbound.payload {
                self.send_payload(handle, len)
            } else {
                break Interest::End;
            };
            match step {
                Ok(len) if len < budget => budget -= len,
                Err(Errno::AGAIN) => break self.link_is_full(),
                Ok(_) => break Interest::Write,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(LinkEnd::Closed),
                Err(error) => return Err(error.into()),
            }
        };
        Ok(self.link_out.watched.watch(&self.poll, interest)?)
    }

    /// How to learn of room. Of bulk there is always more, so a link that takes it fast is asked
    /// again after a rest, and does not wake us with each piece.
    fn link_is_full(&mut self) -> Interest {
        let now = Instant::now();
        let is_bulk = self.outbound.pace.is_bulk(now) && self.outbound.payload.is_some();
        self.outbound.rest = self.link_out.rest().filter(|_| is_bulk).map(|rest| now + rest);
        if self.outbound.rest.is_some() { Interest::End } else { Interest::Write }
    }

    /// Gathers frames, up to one whose payload is to be moved and not copied.
    fn gather(&mut self) {
        while self.outbound.buffer.len() < GATHERED {
            match self.mux.transmit() {
                None => return,
                Some(Transmit::Control(frame)) => {
                    self.outbound.buffer.extend_from_slice(&frame);
                    self.note(&frame);
                }
                Some(Transmit::Data { header, handle, len }) => {
                    self.outbound.buffer.extend_from_slice(&header);
                    if len > COPIED {
                        self.outbound.payload = Some((handle, len));
                        return;
                    }
                    self.copy_payload(handle, len);
                }
            }
        }
    }

    /// Looks at what goes out: where this frame ends an output, the session may be over with it.
    fn note(&mut self, frame: &[u8]) {
        let Some(Ok(header)) = frame.first_chunk::<HEADER_LEN>().map(|&head| Header::decode(head))
        else {
            return;
        };
        self.outbound.has_message |= header.kind == Kind::Message;
        if matches!(header.kind, Kind::Eof | Kind::Reset)
            && let Some((session, _)) = self.sessions.of(header.handle)
        {
            let control = session.handles.control;
            self.settle(control);
        }
    }

    fn write_buffer(&mut self) -> Result<usize, Errno> {
        let Outbound { buffer, written, has_message, .. } = &mut self.outbound;
        let len = self.link_out.write(&buffer[*written..])?;
        *written += len;
        if *written == buffer.len() {
            if std::mem::take(has_message) {
                buffer.as_mut_slice().zeroize();
            }
            buffer.clear();
            *written = 0;
        }
        Ok(len)
    }

    /// Moves payload from the program's pipe to the link.
    fn send_payload(&mut self, handle: Handle, len: usize) -> Result<usize, Errno> {
        if let Some(output) = self.sessions.source(handle).and_then(Option::as_mut) {
            match self.link_out.splice_from(&output.pipe, len) {
                Ok(Some(moved)) if moved > 0 => {
                    self.outbound.payload = (moved < len).then_some((handle, len - moved));
                    self.outbound.pace.add(moved);
                    self.sent(handle, moved);
                    return Ok(moved);
                }
                // The link is full: the pipe is not empty.
                Err(Errno::AGAIN) if rustix::io::ioctl_fionread(&output.pipe)? > 0 => {
                    return Err(Errno::AGAIN);
                }
                Ok(None) | Ok(Some(_)) | Err(Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        let part = len.min(GATHERED);
        self.outbound.payload = (part < len).then_some((handle, len - part));
        self.copy_payload(handle, part);
        Ok(0)
    }

    /// Copies payload from the program's pipe behind what is gathered.
    ///
    /// The frame has begun and must be as long as it said. Where its bytes are gone (the master
    /// wants no more of them, or somebody else has read them from the pipe) it is filled with
    /// zeros, and its handle is reset: nobody takes them for the program's.
    fn copy_payload(&mut self, handle: Handle, len: usize) {
        let buffer = &mut self.outbound.buffer;
        let from = buffer.len();
        buffer.resize(from + len, 0);
        let mut filled = 0;
        if let Some(output) = self.sessions.source(handle).and_then(Option::as_mut) {
            while filled < len {
                match rustix::io::read(&output.pipe, &mut buffer[from + filled..]) {
                    Err(Errno::INTR) => {}
                    Ok(0) | Err(_) => break,
                    Ok(len) => filled += len,
                }
            }
        }
        if filled == len {
            return self.sent(handle, len);
        }
        if let Some(slot) = self.sessions.source(handle) {
            *slot = None;
        }
        self.mux.reset(handle);
    }

    /// So many bytes have left a program's pipe.
    fn sent(&mut self, handle: Handle, len: usize) {
        let Some(slot) = self.sessions.source(handle) else { return };
        let Some(output) = slot else { return };
        output.offered = output.offered.saturating_sub(len);
        if output.offered > 0 {
            return;
        }
        // A pipe that can't be watched again is of no more use than one that has ended.
        if output.ended {
            *slot = None;
        } else if output.pipe.watch(&self.poll, Interest::Read).is_err() {
            *slot = None;
            self.mux.reset(handle);
        }
    }
}
