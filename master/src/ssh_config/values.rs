//! Values of keywords of which each word has a meaning.

use std::net::IpAddr;

use fakessh_protocol::terminal::RequestTty;

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
