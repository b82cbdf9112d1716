//! Waiting for what must come, with one limit for all tests.

use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::process::Child;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A test that waits longer than this for one thing has failed. It is a guard against hangs, and no
/// measure of speed: shells of some accounts take long to start on a busy machine.
pub const GUARD: Duration = Duration::from_secs(120);

/// No test takes this long, not on a machine that is busy with others.
const LONGEST_TEST: Duration = Duration::from_secs(600);

/// Waits until something is so, of which there is no event.
///
/// # Panics
/// With these words, after [`GUARD`].
#[track_caller]
pub fn wait_until(mut done: impl FnMut() -> bool, otherwise: &str) {
    let deadline = Instant::now() + GUARD;
    while !done() {
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::yield_now();
    }
}

/// Ends the whole test process, and says which test it was, if this lives longer than any test:
/// then the test waits for something that does not come, and that has no limit of its own.
#[derive(Debug)]
pub struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Watches over the test of this thread.
    #[expect(clippy::new_without_default, reason = "it starts a thread")]
    pub fn new() -> Watchdog {
        let (alive, is_alive) = channel();
        let thread = std::thread::current();
        std::thread::spawn(move || {
            if is_alive.recv_timeout(LONGEST_TEST) == Err(RecvTimeoutError::Timeout) {
                let test = thread.name().unwrap_or("a test");
                let _ = writeln!(std::io::stderr(), "{test} hangs");
                std::process::exit(1);
            }
        });
        Watchdog { _alive: alive }
    }
}

/// A child that is killed and reaped at the end of the test, if it still runs then.
#[derive(Debug)]
pub struct KillOnDrop(pub Child);

impl Deref for KillOnDrop {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for KillOnDrop {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
