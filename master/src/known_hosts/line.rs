//! One line of a `known_hosts` file: whom it names, and with which key.

use fakessh_protocol::pattern;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{HostPatterns, Marker};
use russh::keys::{Algorithm, PublicKey};
use sha1::Sha1;

/// Longest line that is looked at. The longest key that OpenSSH makes, RSA with 16384 bits, takes
/// 2800 bytes.
const MAX_LINE: usize = 16 * 1024;

/// How a name begins that is hashed.
const HASHED: &str = "|1|";

/// A line that holds a key, and the number of the line from 1.
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) key: PublicKey,
    marker: Option<Marker>,
}

impl Line {
    pub(super) fn is_plain(&self) -> bool {
        self.marker.is_none()
    }

    pub(super) fn is_authority(&self) -> bool {
        self.marker == Some(Marker::CertAuthority)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.marker == Some(Marker::Revoked)
    }
}

/// The lines of a file about this name, which is a host or `[host]:port`, in lower case, that hold
/// keys that can be used; others are passed over, as ssh does. Files are long, and what a line
/// names is found out before its key is decoded.
pub(super) fn lines<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = Line> + 'a {
    text.lines().enumerate().filter_map(move |(index, line)| {
        // Fields may be parted by any white space, and comments begin only at the line's start.
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.len() > MAX_LINE {
            return None;
        }
        let mut fields = line.split_ascii_whitespace();
        let (marker, hosts) = match fields.next()? {
            marker if marker.starts_with('@') => (Some(marker.parse().ok()?), fields.next()?),
            hosts => (None, hosts),
        };
        if !is_about(hosts, name) {
            return None;
        }
        let key = format!("{} {}", fields.next()?, fields.next()?);
        let key: PublicKey = key.parse().ok()?;
        let usable = !matches!(key.algorithm(), Algorithm::Other(_));
        usable.then_some(Line { number: index + 1, key, marker })
    })
}

/// Whether the hosts of a line are, or are among others, this one.
fn is_about(hosts: &str, name: &str) -> bool {
    if !hosts.starts_with(HASHED) {
        return matches_list(hosts, name);
    }
    let Ok(HostPatterns::HashedName { salt, hash }) = hosts.parse() else { return false };
    let hmac = Hmac::<Sha1>::new_from_slice(&salt);
    hmac.is_ok_and(|hmac| hmac.chain_update(name).verify_slice(&hash).is_ok())
}

/// The name under which a host is recorded (`sshd(8)`, SSH_KNOWN_HOSTS FILE FORMAT).
pub(super) fn recorded_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The first field of a new line, with the name hashed by this salt.
pub(super) fn hashed_name(name: &str, salt: [u8; 20]) -> Option<String> {
    let hash = Hmac::<Sha1>::new_from_slice(&salt).ok()?.chain_update(name).finalize();
    let hash = hash.into_bytes().into();
    Some(HostPatterns::HashedName { salt: salt.to_vec(), hash }.to_string())
}

/// Whether a list of patterns, parted by commas, matches: one does, and none that is negated.
fn matches_list(patterns: &str, name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.to_ascii_lowercase().split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if pattern::matches(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= pattern::matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negated_pattern_wins_wherever_it_stands() {
        let patterns = "*.example.net,!test.*";
        assert!(matches_list(patterns, "web.example.net"));
        assert!(!matches_list(patterns, "test.example.net"));
        assert!(!matches_list("!a", "b"));
    }
}
