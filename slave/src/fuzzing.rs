//! Readers of this crate, as fuzz targets reach them. Not for anything else.

use crate::sftp::{Server, kind};

/// Requests that only look: what a fuzzer makes of them changes nothing on this machine. `OPEN` is
/// none of them, since there are files whose opening does something.
const HARMLESS: [u8; 10] = [
    kind::INIT,
    kind::CLOSE,
    kind::READ,
    kind::LSTAT,
    kind::FSTAT,
    kind::READDIR,
    kind::REALPATH,
    kind::STAT,
    kind::READLINK,
    kind::WRITE,
];

/// An SFTP server that answers harmless requests.
#[derive(Debug)]
pub struct Sftp(Server);

impl Sftp {
    /// A server to which nobody has spoken.
    pub fn start() -> Sftp {
        Sftp(Server::new(b"/".to_vec()))
    }

    /// Whether a packet asks for nothing but a look.
    pub fn is_harmless(packet: &[u8]) -> bool {
        packet.first().is_none_or(|first| HARMLESS.contains(first))
    }

    /// Gives it a packet. The replies that come of it; `None` if it is malformed.
    pub fn answer(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        assert!(Sftp::is_harmless(packet), "not for a fuzzer: {packet:?}");
        self.0.answer(packet).ok()?;
        let replies = self.0.replies.waiting().to_vec();
        self.0.replies.clear();
        Some(replies)
    }
}
