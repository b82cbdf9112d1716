//! What comes in: headers and control frames are the mux's, payload is the driver's.

use zeroize::Zeroizing;

use crate::wire::{HEADER_LEN, Handle, Header, Kind};

use super::{Event, MAX_WIDENED, Mux, MuxError, check_message, frame};

/// Whose the next bytes of the link are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expecting {
    /// The mux's: give them to [`Mux::receive`]. This many complete what it waits for.
    Control(usize),
    /// Payload of this handle, this many bytes. The driver moves them and says [`Mux::took`].
    Data(Handle, usize),
}

/// Bytes of a control frame that are reserved ahead of them. Above those of the longest secret: an
/// answer of 4096 bytes.
const RESERVED: usize = 8192;

#[derive(Debug)]
pub(super) struct Inbound {
    header: [u8; HEADER_LEN],
    filled: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header,
    Control(Header, Zeroizing<Vec<u8>>),
    Data(Handle, usize),
}

impl Inbound {
    pub(super) fn new() -> Inbound {
        Inbound { header: [0; HEADER_LEN], filled: 0, state: State::Header }
    }
}

impl Mux {
    /// Whose the next bytes of the link are. Whoever reads exactly so many never reads too far.
    pub fn expecting(&self) -> Expecting {
        match &self.inbound.state {
            State::Header => Expecting::Control(HEADER_LEN - self.inbound.filled),
            State::Control(header, payload) => Expecting::Control(header.len - payload.len()),
            State::Data(handle, remaining) => Expecting::Data(*handle, *remaining),
        }
    }

    /// The driver has taken `len` bytes of the payload that [`Mux::expecting`] names. What it took
    /// counts against the handle's window until [`Mux::consumed`].
    pub fn took(&mut self, len: usize) {
        self.liveness.payload(len);
        if let State::Data(_, remaining) = &mut self.inbound.state {
            *remaining = remaining.saturating_sub(len);
            if *remaining == 0 {
                self.inbound.state = State::Header;
            }
        }
    }

    /// Takes bytes of the link, at most up to where a payload begins or an event is complete.
    /// Returns how many it took, and the event. Call it again while bytes are left and
    /// [`Mux::expecting`] says that they are the mux's.
    ///
    /// # Errors
    /// Where the peer broke the protocol. The mux must not be used after that.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), MuxError> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            match &mut self.inbound.state {
                State::Data(..) => break,
                State::Header => {
                    let filled = self.inbound.filled;
                    let take = rest.len().min(HEADER_LEN - filled);
                    self.inbound.header[filled..filled + take].copy_from_slice(&rest[..take]);
                    self.inbound.filled += take;
                    used += take;
                    if self.inbound.filled == HEADER_LEN {
                        self.inbound.filled = 0;
                        let header = Header::decode(self.inbound.header)?;
                        if let Some(event) = self.header(header)? {
                            return Ok((used, Some(event)));
                        }
                    }
                }
                State::Control(header, payload) => {
                    let header = *header;
                    if header.kind == Kind::Message && payload.is_empty() {
                        check_message(self.limits.received, rest[0], header.len)?;
                    }
                    let take = rest.len().min(header.len - payload.len());
                    payload.extend_from_slice(&rest[..take]);
                    used += take;
                    if payload.len() == header.len {
                        let payload = std::mem::take(payload);
                        self.inbound.state = State::Header;
                        if let Some(event) = self.control(header, payload)? {
                            return Ok((used, Some(event)));
                        }
                    }
                }
            }
        }
        Ok((used, None))
    }

    /// A header is complete: a frame without payload acts at once.
    fn header(&mut self, header: Header) -> Result<Option<Event>, MuxError> {
        let handle = header.handle;
        self.received += 1;
        match header.kind {
            Kind::Data => {
                let receiving = self.receiving.get_mut(&handle).ok_or(MuxError::NotOpen(handle))?;
                if !receiving.arrive(header.len) {
                    return Err(MuxError::OverCredit(handle));
                }
                self.inbound.state = State::Data(handle, header.len);
                Ok(None)
            }
            Kind::Eof | Kind::Reset => {
                let receiving = self.close_receiving(handle).ok_or(MuxError::NotOpen(handle))?;
                // Who has said stop has closed its end already.
                Ok(match header.kind {
                    _ if receiving.stopped => None,
                    Kind::Eof => Some(Event::Eof(handle)),
                    _ => Some(Event::Reset(handle)),
                })
            }
            Kind::Stop => Ok(self.sending.remove(&handle).map(|_| {
                self.queue(frame(Kind::Reset, handle, &[]));
                Event::Stopped(handle)
            })),
            Kind::Blocked => {
                self.widen(handle);
                Ok(None)
            }
            Kind::Credit | Kind::Message | Kind::Ping | Kind::Pong => {
                // The length is bounded by Header::decode; what is reserved ahead is bounded here.
                // No secret is longer, so it is in one place.
                let payload = Zeroizing::new(Vec::with_capacity(header.len.min(RESERVED)));
                self.inbound.state = State::Control(header, payload);
                Ok(None)
            }
        }
    }

    /// A control frame with a payload is complete.
    fn control(
        &mut self,
        header: Header,
        payload: Zeroizing<Vec<u8>>,
    ) -> Result<Option<Event>, MuxError> {
        match header.kind {
            Kind::Message => Ok(Some(Event::Message(header.handle, payload))),
            Kind::Credit => {
                self.liveness.answered();
                let mut granted = [0; 4];
                granted.copy_from_slice(&payload);
                self.credit(header.handle, u32::from_le_bytes(granted) as usize)?;
                Ok(None)
            }
            Kind::Ping => {
                let mut nonce = [0; 8];
                nonce.copy_from_slice(&payload);
                self.liveness.ping(u64::from_le_bytes(nonce));
                Ok(None)
            }
            Kind::Pong => {
                self.liveness.answered();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn credit(&mut self, handle: Handle, granted: usize) -> Result<(), MuxError> {
        // A handle that is closed here may not be so there yet.
        let Some(sending) = self.sending.get_mut(&handle) else { return Ok(()) };
        if !sending.credit(granted) {
            return Err(MuxError::CreditOverflow(handle));
        }
        self.queue_turn(handle);
        Ok(())
    }

    /// The sender waits for credit: the receiver may widen its window.
    fn widen(&mut self, handle: Handle) {
        let Some(receiving) = self.receiving.get_mut(&handle) else { return };
        let before = receiving.widened();
        receiving.widen(MAX_WIDENED - self.widened);
        self.widened += receiving.widened() - before;
        self.queue_grant(handle);
    }
}
