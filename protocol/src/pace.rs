//! Whether bytes come so fast that each waking costs more than a little waiting.

use std::time::{Duration, Instant};

/// Bytes that make bulk when they come within [`BULK_TIME`].
pub const BULK: usize = 64 * 1024;

/// 64 KiB in this time are 1.3 Gbit/s: from there on it is wakings that cost, and not the network.
pub const BULK_TIME: Duration = Duration::from_micros(400);

/// How fast bytes come. It has no clock: it is told the time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes since `since`.
    bytes: usize,
    since: Instant,
    is_bulk: bool,
}

impl Pace {
    /// Nothing has come yet.
    pub fn new(now: Instant) -> Pace {
        Pace { bytes: 0, since: now, is_bulk: false }
    }

    /// So many bytes came.
    pub fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether it is bulk that flows. Judged anew when enough came, or enough time went by.
    pub fn is_bulk(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        if self.bytes >= BULK || elapsed > BULK_TIME {
            let would_need = BULK as u128 * elapsed.as_nanos();
            self.is_bulk = self.bytes as u128 * BULK_TIME.as_nanos() >= would_need;
            (self.bytes, self.since) = (0, now);
        }
        self.is_bulk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_told_by_its_rate() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut after = |micros, bytes| {
            now += Duration::from_micros(micros);
            pace.add(bytes);
            pace.is_bulk(now)
        };
        // A packet every 100 us is bulk from the second on.
        assert!(!after(100, 32 * 1024));
        assert!(after(100, 32 * 1024));
        // A little less in one look changes nothing; for longer it does.
        assert!(after(200, 30 * 1024));
        assert!(after(190, 36 * 1024));
        assert!(!after(1_000, 100 * 1024));
        // Much at once after a long silence is none, and goes on as bulk.
        assert!(!after(1_000_000, 64 * 1024));
        assert!(after(300, 64 * 1024));
        assert!(!after(401, 0));
    }
}
