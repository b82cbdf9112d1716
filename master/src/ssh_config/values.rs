//! Values of keywords of which each word has a meaning.

use std::time::Duration;

use fakessh_protocol::terminal::RequestTty;

/// Whether keys that a known host tells of are recorded (`ssh_config(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateHostKeys {
    /// They are not.
    No,
    /// They are.
    Yes,
    /// They are after a question.
    Ask,
}

/// When keys are exchanged anew; `None` for the library's own limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RekeyLimit {
    /// After so many bytes one way.
    pub bytes: Option<u64>,
    /// After this time.
    pub time: Option<Duration>,
}

impl RekeyLimit {
    /// Reads what `ssh -G` prints: bytes and seconds, and 0 for no limit of the user's.
    pub(super) fn read(value: Option<&str>) -> RekeyLimit {
        let mut numbers = value
            .unwrap_or_default()
            .split_whitespace()
            .map(|number| number.parse().ok().filter(|&number: &u64| number > 0));
        let bytes = numbers.next().flatten();
        RekeyLimit { bytes, time: numbers.next().flatten().map(Duration::from_secs) }
    }
}

/// What becomes of keys that a host tells of. `ssh -G` knows what counts if nothing is said.
pub(super) fn update_host_keys(value: Option<&str>) -> UpdateHostKeys {
    match value {
        Some("yes" | "true") => UpdateHostKeys::Yes,
        Some("ask") => UpdateHostKeys::Ask,
        _ => UpdateHostKeys::No,
    }
}

/// Whether a session is to have a terminal; `None` if that depends on its command.
pub(super) fn request_tty(value: Option<&str>) -> Option<RequestTty> {
    match value {
        Some("yes" | "true") => Some(RequestTty::Yes),
        Some("no" | "false") => Some(RequestTty::No),
        Some("force") => Some(RequestTty::Force),
        _ => None,
    }
}

/// The escape character: `~` if nothing is said.
pub(super) fn escape(value: Option<&str>) -> Option<u8> {
    match value.map(str::as_bytes) {
        Some(b"none") => None,
        Some([character]) => Some(*character),
        Some([b'^', letter]) => Some(letter & 31),
        _ => Some(b'~'),
    }
}
