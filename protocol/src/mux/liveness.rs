//! Is the other end still there? Counted in looks, not in seconds: the driver owns the clock.

use crate::wire::Kind;

use super::Mux;

/// What a look at the link showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Something came since the last look.
    Alive,
    /// Nothing came in this many looks, this one included. A ping is on its way.
    Silent(u32),
}

#[derive(Debug, Default)]
pub(super) struct Pings {
    heard: bool,
    silent_looks: u32,
    sent: u64,
    ping: bool,
    /// The last ping's payload; an older one that was not answered yet needs no answer.
    pong: Option<u64>,
}

impl Pings {
    pub(super) fn heard(&mut self) {
        self.heard = true;
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
    /// To be called at a steady interval. Where nothing came since the last call, a ping is
    /// queued; how many silent looks are too many is for the driver to say.
    pub fn look(&mut self) -> Liveness {
        let pings = &mut self.liveness;
        if std::mem::take(&mut pings.heard) {
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
