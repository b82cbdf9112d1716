//! Values of keywords of which each word has a meaning.

use fakessh_protocol::terminal::RequestTty;

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
