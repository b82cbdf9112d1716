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

/// The fields of a line, of which nothing is decoded yet.
pub(super) struct Fields<'a> {
    pub(super) marker: Option<&'a str>,
    hosts: &'a str,
    kind: &'a str,
    /// The key, in base64.
    pub(super) blob: &'a str,
}

impl Fields<'_> {
    /// Whether the hosts are, or are among others, this one.
    pub(super) fn is_about(&self, name: &str) -> bool {
        is_about(self.hosts, name)
    }

    /// Whether the hosts are patterns, and no names.
    pub(super) fn has_pattern(&self) -> bool {
        !self.hosts.starts_with(HASHED) && self.hosts.contains(['*', '?', '!'])
    }

    /// Whether there are several hosts.
    pub(super) fn names_others(&self) -> bool {
        !self.hosts.starts_with(HASHED) && self.hosts.contains(',')
    }

    /// The key, if it can be used.
    pub(super) fn key(&self) -> Option<PublicKey> {
        let key: PublicKey = format!("{} {}", self.kind, self.blob).parse().ok()?;
        is_usable(&key).then_some(key)
    }
}

/// Whether a key is of a kind that is known here.
pub(super) fn is_usable(key: &PublicKey) -> bool {
    !matches!(key.algorithm(), Algorithm::Other(_))
}

/// The fields of a line; `None` if it has none, or is too long.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    // Fields may be parted by any white space, and comments begin only at the line's start.
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') || line.len() > MAX_LINE {
        return None;
    }
    let mut fields = line.split_ascii_whitespace();
    let (marker, hosts) = match fields.next()? {
        marker if marker.starts_with('@') => (Some(marker), fields.next()?),
        hosts => (None, hosts),
    };
    Some(Fields { marker, hosts, kind: fields.next()?, blob: fields.next()? })
}

/// The lines of a file about this name, which is a host or `[host]:port`, in lower case, that hold
/// keys that can be used; others are passed over, as ssh does. Files are long, and what a line
/// names is found out before its key is decoded.
pub(super) fn lines<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = Line> + 'a {
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fields = fields(line)?;
        let marker = match fields.marker {
            Some(marker) => Some(marker.parse().ok()?),
            None => None,
        };
        let key = fields.is_about(name).then(|| fields.key())??;
        Some(Line { number: index + 1, key, marker })
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
