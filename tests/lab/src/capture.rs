//! What a tool writes to one of its streams, as it comes.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A stream that is read on a thread of its own and can be waited on.
#[derive(Debug)]
pub(crate) struct Capture(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    open: bool,
}

impl Capture {
    /// Follows a stream to its end; without one, an empty stream that has ended.
    pub(crate) fn follow(source: Option<impl Read + Send + 'static>) -> Capture {
        let state = State { bytes: Vec::new(), open: source.is_some() };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        if let Some(mut source) = source {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                loop {
                    let count = source.read(&mut buffer).unwrap_or(0);
                    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                    state.bytes.extend_from_slice(&buffer[..count]);
                    state.open = count > 0;
                    drop(state);
                    shared.1.notify_all();
                    if count == 0 {
                        break;
                    }
                }
            });
        }
        Capture(shared)
    }

    /// What came so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.clone()
    }

    /// Waits until `look`, which sees the bytes so far and whether more can come, finds something;
    /// `None` after this time.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        look: impl Fn(&[u8], bool) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&state.bytes, state.open) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.0.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
