//! Values of keywords of which each word has a meaning.

use std::net::IpAddr;
use std::time::Duration;

use fakessh_protocol::terminal::RequestTty;

/// The bits of a letter that Control leaves.
const CONTROL: u8 = 31;

/// What vis(3) calls meta: the highest bit.
const META: u8 = 128;

/// Which addresses of a host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// All of them.
    Any,
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

impl AddressFamily {
    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            AddressFamily::Any => true,
            AddressFamily::Inet => address.is_ipv4(),
            AddressFamily::Inet6 => address.is_ipv6(),
        }
    }
}

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

/// The escape character: `~` if nothing is said, `None` if there is none.
///
/// `ssh -G` prints it as vis(3) writes characters, so that `^A` of a configuration is `\^A`.
pub(super) fn escape(value: Option<&str>) -> Option<u8> {
    match value.map(str::as_bytes) {
        Some(b"none") => None,
        Some([b'\\', visible @ ..]) => Some(unvis(visible).unwrap_or(b'\\')),
        Some([character]) => Some(*character),
        Some([b'^', letter]) => Some(letter & CONTROL),
        _ => Some(b'~'),
    }
}

/// The character that vis(3) writes as a backslash and this.
fn unvis(visible: &[u8]) -> Option<u8> {
    match visible {
        [b'\\'] => Some(b'\\'),
        [b'^', b'?'] => Some(127),
        [b'^', letter] => Some(letter & CONTROL),
        [b'M', b'-', character] => Some(character | META),
        [b'M', b'^', b'?'] => Some(127 | META),
        [b'M', b'^', letter] => Some((letter & CONTROL) | META),
        [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7'] => {
            Some(visible.iter().fold(0, |value, digit| (value << 3) | (digit - b'0')))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_character_is_read_as_ssh_prints_it() {
        for (value, expected) in [
            (None, Some(b'~')),
            (Some("none"), None),
            (Some("~"), Some(b'~')),
            (Some("%"), Some(b'%')),
            (Some("^"), Some(b'^')),
            (Some("^A"), Some(1)),
            (Some("^]"), Some(29)),
            (Some("\\^A"), Some(1)),
            (Some("\\^["), Some(27)),
            (Some("\\^?"), Some(127)),
            (Some("\\^@"), Some(0)),
            (Some("\\\\"), Some(b'\\')),
            (Some("\\"), Some(b'\\')),
            (Some("\\040"), Some(b' ')),
            (Some("\\011"), Some(b'\t')),
            (Some("\\240"), Some(160)),
            (Some("\\M-i"), Some(233)),
            (Some("\\M^A"), Some(129)),
        ] {
            assert_eq!(escape(value), expected, "{value:?}");
        }
    }
}
