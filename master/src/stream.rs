//! A clean byte stream in both directions: what every hop yields, and what a link speaks over.

use std::sync::{Arc, Mutex, PoisonError};

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

/// The last lines that a hop's helper printed to its standard error, for error messages.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics(Arc<Mutex<Vec<u8>>>);

impl Diagnostics {
    /// Most bytes that are kept: a screenful.
    pub const LIMIT: usize = 4096;

    /// Adds what was printed; the oldest bytes make room.
    pub fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let excess = kept.len().saturating_sub(Self::LIMIT);
        kept.drain(..excess);
    }

    /// What was kept, as one line that is fit to be shown.
    pub fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        printable::one_line(&String::from_utf8_lossy(&kept))
    }

    /// What was kept, with its lines apart.
    pub(crate) fn lines(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }

    /// Forgets what was kept.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_says_is_one_line_that_no_terminal_obeys() {
        let diagnostics = Diagnostics::default();
        diagnostics.add(b"Welcome\r\n\n\x1b[2Jto \x07web1\t\xff\n");
        assert_eq!(diagnostics.text(), "Welcome | \u{fffd}[2Jto \u{fffd}web1 \u{fffd}");
        diagnostics.clear();
        assert_eq!(diagnostics.text(), "");
    }
}
