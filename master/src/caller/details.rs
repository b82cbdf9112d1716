//! What somebody is told who looks for a fault (`ssh -v`).

use std::time::{Duration, Instant};

use fakessh_protocol::message::Notice;

use super::{Ask, Caller};

/// How much somebody wants to be told of what is done.
#[derive(Clone, Copy, Debug)]
pub struct Details {
    level: u8,
    begun: Instant,
}

impl Details {
    /// As much as so many `-v` ask for; nothing for none.
    pub(crate) fn of_verbosity(level: u8) -> Option<Details> {
        (level > 0).then(|| Details { level, begun: Instant::now() })
    }

    /// The time since it was asked.
    pub(crate) fn elapsed(self) -> Duration {
        self.begun.elapsed()
    }
}

/// Tells somebody a detail, with the time since it was asked, if so many `-v` or more were given.
pub(crate) async fn detail(ask: &dyn Ask, level: u8, text: impl FnOnce() -> String) {
    let Some(details) = ask.details().filter(|details| details.level >= level) else { return };
    let (milliseconds, text) = (details.elapsed().as_millis(), text());
    ask.notice(Notice::ours(format!("{milliseconds} ms: {text}"))).await;
}

impl Caller {
    /// As [`detail`].
    pub(crate) async fn detail(&self, level: u8, text: impl FnOnce() -> String) {
        detail(&*self.ask, level, text).await;
    }
}
