//! What a server wrote to its standard error, line by line, as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long [`ServerLog::wait_for`] waits before the test fails.
const GUARD: Duration = Duration::from_secs(60);

/// A growing log that can be waited on. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ServerLog(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// How many sources still write.
    open: usize,
}

impl ServerLog {
    /// Takes in what this source gives, on a thread of its own, until it ends.
    pub fn follow(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        log.lock().open += 1;
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.lock().lines.push(line);
                log.0.1.notify_all();
            }
            log.lock().open -= 1;
            log.0.1.notify_all();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole log.
    pub fn text(&self) -> String {
        self.lock().lines.join("\n")
    }

    /// The last `count` lines.
    pub fn last(&self, count: usize) -> String {
        let lines = &self.lock().lines;
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Number of lines so far: a place for [`ServerLog::wait_for`] to begin at.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Whether nothing was logged yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lines hold this text.
    pub fn count(&self, needle: &str) -> usize {
        self.lock().lines.iter().filter(|line| line.contains(needle)).count()
    }

    /// Waits for a line at or behind line `from` that holds this text, and gives it. `None` where
    /// all writers ended without one.
    ///
    /// # Panics
    /// After a minute.
    pub fn wait_for(&self, from: usize, needle: &str) -> Option<String> {
        let deadline = Instant::now() + GUARD;
        let mut state = self.lock();
        loop {
            let found = state.lines.iter().skip(from).find(|line| line.contains(needle));
            if let Some(line) = found {
                return Some(line.clone());
            }
            if state.open == 0 {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {needle:?} in the server's log");
            let waited = self.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
