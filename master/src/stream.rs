//! A clean byte stream in both directions: what every hop yields, and what a link speaks over.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fakessh_protocol::printable;
use tokio::sync::mpsc;

/// Most chunks that wait between a link and the task that writes them out. Small, so that what
/// is sent next is decided as late as possible and control frames pass bulk.
pub const OUTGOING_CHUNKS: usize = 2;

/// Most chunks that wait between the task that reads a stream and its link.
pub const INCOMING_CHUNKS: usize = 16;

/// A clean byte stream in both directions.
///
/// The end of the stream is the closing of `incoming`. Dropping `outgoing` sends an end of file;
/// dropping both gives the stream up.
#[derive(Debug)]
pub struct ByteStream {
    /// What the far end sends.
    pub incoming: mpsc::Receiver<Bytes>,
    /// What goes to the far end.
    pub outgoing: mpsc::Sender<Bytes>,
    /// What the hop's helper printed beside the stream.
    pub diagnostics: Diagnostics,
}

/// Why a hop ended, for error messages: in our words, and in those of whoever was run there. The
/// two never mix: what a helper prints can't pass for ours.
///
/// Shown as `it ended with status 1; it printed: Sorry`, and as nothing where there is neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What is known of the end, in our words.
    pub remark: Option<String>,
    /// The last that was printed, as one line that is fit to be shown.
    pub printed: String,
}

impl Said {
    /// Whether there is nothing to be said.
    pub fn is_empty(&self) -> bool {
        self.remark.is_none() && self.printed.is_empty()
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printed = printable::end_of_line(&self.printed, printable::MAX_LINE);
        match &self.remark {
            Some(remark) if printed.is_empty() => f.write_str(remark),
            Some(remark) => write!(f, "{remark}; it printed: {printed}"),
            None if printed.is_empty() => Ok(()),
            None => write!(f, "it printed: {printed}"),
        }
    }
}

/// The last lines that a hop's helper printed to its standard error, and what became of it, for
/// error messages.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    printed: Vec<u8>,
    remark: Option<String>,
}

impl Diagnostics {
    /// Most bytes that are kept: a screenful.
    pub const LIMIT: usize = 4096;

    /// Adds what was printed; the oldest bytes make room.
    pub fn add(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        kept.printed.extend_from_slice(bytes);
        let excess = kept.printed.len().saturating_sub(Self::LIMIT);
        kept.printed.drain(..excess);
    }

    /// Says in our words what became of the helper; the first remark counts.
    pub(crate) fn remark(&self, words: impl Into<String>) {
        self.lock().remark.get_or_insert(words.into());
    }

    /// What was kept.
    pub fn said(&self) -> Said {
        let kept = self.lock();
        let printed = printable::one_line(&String::from_utf8_lossy(&kept.printed));
        Said { remark: kept.remark.clone(), printed }
    }

    /// What was printed, with its lines apart.
    pub(crate) fn lines(&self) -> String {
        String::from_utf8_lossy(&self.lock().printed).into_owned()
    }

    /// Forgets what was kept.
    pub fn clear(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_says_is_one_line_that_no_terminal_obeys() {
        let diagnostics = Diagnostics::default();
        diagnostics.add(b"Welcome\r\n\n\x1b[2Jto \x07web1\t\xff\n");
        assert_eq!(diagnostics.said().printed, "Welcome | \u{fffd}[2Jto \u{fffd}web1 \u{fffd}");
        diagnostics.clear();
        assert_eq!(diagnostics.said().to_string(), "");
    }

    #[test]
    fn our_words_stand_before_those_of_a_helper() {
        let diagnostics = Diagnostics::default();
        diagnostics.remark("it ended with status 1");
        diagnostics.remark("it was killed");
        assert_eq!(diagnostics.said().to_string(), "it ended with status 1");
        diagnostics.add(b"Sorry\nit ended with status 0\n");
        let shown = "it ended with status 1; it printed: Sorry | it ended with status 0";
        assert_eq!(diagnostics.said().to_string(), shown);
        diagnostics.clear();
        diagnostics.add(&[b'x'; Diagnostics::LIMIT]);
        assert_eq!(diagnostics.said().to_string().len(), "it printed: ...".len() + 1024);
    }
}
