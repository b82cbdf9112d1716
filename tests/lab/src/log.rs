//! What a server wrote to its standard error, line by line, as it comes.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::wait::GUARD;

/// A growing log that can be waited on. Whoever asks sees all that was written before: a line that
/// the server wrote is never late. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ServerLog(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// Those that still write.
    sources: Vec<Source>,
}

/// A pipe that a server writes to, and the line that it has begun.
#[derive(Debug)]
struct Source {
    pipe: File,
    begun: Vec<u8>,
}

impl ServerLog {
    /// Takes in what comes out of this pipe until its end. A thread of its own keeps the pipe from
    /// filling up.
    pub fn follow(&self, pipe: impl Into<OwnedFd>) {
        let pipe = File::from(pipe.into());
        let flags = fcntl_getfl(&pipe).expect("a log's flags");
        fcntl_setfl(&pipe, flags | OFlags::NONBLOCK).expect("a log that is not waited for");
        let watched = pipe.try_clone().expect("a second descriptor");
        self.lock().sources.push(Source { pipe, begun: Vec::new() });
        let log = self.clone();
        std::thread::spawn(move || {
            loop {
                let mut fds = [PollFd::new(&watched, PollFlags::IN)];
                let _ = poll(&mut fds, None);
                let has_ended = fds[0].revents() == PollFlags::HUP;
                drop(log.lock());
                log.0.1.notify_all();
                if has_ended {
                    break;
                }
            }
        });
    }

    /// The state with all that was written so far.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.take_in();
        guard
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
            if state.sources.is_empty() {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {needle:?} in the server's log");
            let waited = self.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn take_in(&mut self) {
        let State { lines, sources } = self;
        sources.retain_mut(|source| {
            let mut bytes = std::mem::take(&mut source.begun);
            // Ends where nothing more was written; at the end of the pipe, without an error.
            let goes_on = source.pipe.read_to_end(&mut bytes).is_err();
            let mut rest = &bytes[..];
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                lines.push(text(&rest[..end]));
                rest = &rest[end + 1..];
            }
            if !goes_on && !rest.is_empty() {
                lines.push(text(rest));
                rest = &[];
            }
            source.begun = rest.to_vec();
            goes_on
        });
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_written_is_there_whoever_reads_it() {
        let log = ServerLog::default();
        let (reader, mut writer) = std::io::pipe().unwrap();
        log.follow(reader);
        for round in 1..=10_000 {
            writeln!(writer, "a line").unwrap();
            assert_eq!(log.count("a line"), round);
        }
    }

    #[test]
    fn a_log_ends_with_its_writers() {
        let log = ServerLog::default();
        let (reader, mut writer) = std::io::pipe().unwrap();
        log.follow(reader);
        write!(writer, "one\r\ntw").unwrap();
        assert_eq!(log.len(), 1);
        let waiting = std::thread::spawn({
            let log = log.clone();
            move || (log.wait_for(1, "three"), log.text())
        });
        write!(writer, "o").unwrap();
        drop(writer);
        assert_eq!(waiting.join().unwrap(), (None, "one\ntwo".to_owned()));
    }

    #[test]
    fn much_is_taken_in_where_nobody_asks() {
        let log = ServerLog::default();
        let (reader, mut writer) = std::io::pipe().unwrap();
        log.follow(reader);
        writer.write_all(&b"line\n".repeat(100_000)).unwrap();
        assert_eq!(log.len(), 100_000);
    }
}
