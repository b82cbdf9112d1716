//! Is the other end still there? Counted in ticks, not in seconds: the driver owns the clock.
//!
//! Only answers to what we sent are a sign of life. The peer's own pings say nothing of the way to
//! it: a network can lose one direction alone.

use crate::wire::Kind;

use super::Mux;

/// Payload since the last tick that counts as an answer: a sender has no credit for more than a
/// window of it unless our grants arrive. An answer to a ping comes after such bulk, and may be
/// late on a slow link. Less than this in one interval does not hold an answer up.
const BULK: usize = 64 * 1024;

/// What a tick found out about the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// An answer came since the last tick.
    Alive,
    /// No answer came in this many ticks, this one included. A ping is on its way.
    Silent(u32),
}

#[derive(Debug, Default)]
pub(super) struct Pings {
    answered: bool,
    /// Bytes of payload since the last tick.
    payload: usize,
    silent_ticks: u32,
    sent: u64,
    ping: bool,
    /// The last ping's payload. An older ping that was not answered yet needs no answer.
    pong: Option<u64>,
}

impl Pings {
    /// A frame came that the peer sends only if a frame of ours got there.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    pub(super) fn payload(&mut self, len: usize) {
        self.payload = self.payload.saturating_add(len);
    }

    pub(super) fn ping(&mut self, nonce: u64) {
        self.pong = Some(nonce);
    }

    pub(super) fn owes_pong(&self) -> bool {
        self.ping || self.pong.is_some()
    }

    pub(super) fn transmit(&mut self) -> Option<(Kind, u64)> {
        if let Some(nonce) = self.pong.take() {
            return Some((Kind::Pong, nonce));
        }
        std::mem::take(&mut self.ping).then(|| {
            self.sent += 1;
            (Kind::Ping, self.sent)
        })
    }
}

impl Mux {
    /// To be called at a steady interval. If no answer came since the last call, a ping is
    /// queued; how many silent ticks are too many is for the driver to say.
    pub fn tick(&mut self) -> Liveness {
        let pings = &mut self.liveness;
        let is_bulk = std::mem::take(&mut pings.payload) >= BULK;
        if std::mem::take(&mut pings.answered) || is_bulk {
            pings.silent_ticks = 0;
            return Liveness::Alive;
        }
        pings.silent_ticks = pings.silent_ticks.saturating_add(1);
        pings.ping = true;
        Liveness::Silent(pings.silent_ticks)
    }

    /// Queues a ping now, whatever was heard: the first thing after the machine has slept.
    pub fn probe(&mut self) {
        self.liveness.ping = true;
    }
}
