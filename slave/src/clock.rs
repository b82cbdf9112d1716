//! When the slave has to wake without being woken: looks at the link, its silence, and the end
//! of a grace. Nothing here reads the time of day.

use std::time::{Duration, Instant};

use fakessh_protocol::message::LinkSettings;

/// The timers of a link. With none of them set the slave sleeps without a timeout.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// How often to look, and when next.
    look: Option<(Duration, Instant)>,
    /// How long the master may be silent, and when it was last heard.
    silence: Option<(Duration, Instant)>,
}

impl Clock {
    pub(crate) fn set(&mut self, settings: LinkSettings, now: Instant) {
        let interval = |ms: u32| (ms > 0).then(|| Duration::from_millis(ms.into()));
        self.look = interval(settings.keepalive_ms).map(|every| (every, now + every));
        self.silence = interval(settings.silence_ms).map(|limit| (limit, now));
    }

    /// Bytes of the master came.
    pub(crate) fn heard(&mut self) {
        if let Some((_, last)) = &mut self.silence {
            *last = Instant::now();
        }
    }

    /// Whether it is time to look at the link. Says so once an interval.
    pub(crate) fn look_is_due(&mut self, now: Instant) -> bool {
        match &mut self.look {
            Some((every, next)) if *next <= now => {
                *next = now + *every;
                true
            }
            _ => false,
        }
    }

    /// Whether the master has been silent for too long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.silence.is_some_and(|(limit, last)| now.duration_since(last) >= limit)
    }

    /// When to wake at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        let look = self.look.map(|(_, next)| next);
        let silence = self.silence.map(|(limit, last)| last + limit);
        look.into_iter().chain(silence).min()
    }
}
