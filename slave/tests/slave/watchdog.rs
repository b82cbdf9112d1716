//! Tests that hang fail.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// No test takes this long, not on a machine that is busy with others.
const LIMIT: Duration = Duration::from_secs(600);

/// Ends the whole process, and says which test it was, when it lives too long: then something is
/// waited for that does not come, and that has no limit of its own.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn new() -> Watchdog {
        let (alive, is_alive) = channel();
        let thread = std::thread::current();
        std::thread::spawn(move || {
            if is_alive.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let test = thread.name().unwrap_or("a test");
                let _ = writeln!(std::io::stderr(), "{test} hangs");
                std::process::exit(1);
            }
        });
        Watchdog { _alive: alive }
    }
}
