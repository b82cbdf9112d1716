//! Is the other end still there? Counted in looks, not in seconds: the driver owns the clock.
//!
//! Only answers to what we sent are a sign of life. The peer's own pings say nothing of the way to
//! it: a network can lose one direction alone.

use crate::wire::Kind;

use super::Mux;

/// Payload since the last look that counts as an answer: a sender has no credit for more than a
/// window of it unless our grants arrive. An answer to a ping comes behind such bulk, and may be
/// late on a slow link. Less than this in one interval does not hold an answer up.
const BULK: usize = 64 * 1024;

/// What a look at the link showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// An answer came since the last look.
    Alive,
    /// No answer came in this many looks, this one included. A ping is on its way.
    Silent(u32),
}

#[derive(Debug, Default)]
pub(super) struct Pings {
    answered: bool,
    /// Bytes of payload since the last look.
    payload: usize,
    silent_looks: u32,
    sent: u64,
    ping: bool,
    /// The last ping's payload; an older one that was not answered yet needs no answer.
    pong: Option<u64>,
}

impl Pings {
    /// Something came that the peer only sends because something of ours got there.
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
    /// queued; how many silent looks are too many is for the driver to say.
    pub fn look(&mut self) -> Liveness {
        let pings = &mut self.liveness;
        let is_bulk = std::mem::take(&mut pings.payload) >= BULK;
        if std::mem::take(&mut pings.answered) || is_bulk {
            pings.silent_looks = 0;
            return Liveness::Alive;
        }
        pings.silent_looks = pings.silent_looks.saturating_add(1);
        pings.ping = true;
        Liveness::Silent(pings.silent_looks)
    }

    /// Queues a ping now, whatever was heard: the first thing after the machine has slept.
    pub fn probe(&mut self) {
        self.liveness.ping = true;
    }
}
