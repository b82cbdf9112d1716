//! One line of a `known_hosts` file: whom it names, and with which key.

use fakessh_shim::parse::matches_pattern;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, PublicKey};
use sha1::Sha1;

/// Longest line that is looked at. The longest key that OpenSSH makes, RSA with 16384 bits, takes
/// 2800 bytes.
const MAX_LINE: usize = 16 * 1024;

/// A line that holds a key, and the number of the line from 1.
pub(super) struct Line {
    pub(super) number: usize,
    entry: Entry,
}

impl Line {
    pub(super) fn key(&self) -> &PublicKey {
        self.entry.public_key()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.entry.marker().is_none()
    }

    pub(super) fn is_authority(&self) -> bool {
        self.entry.marker() == Some(&Marker::CertAuthority)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.entry.marker() == Some(&Marker::Revoked)
    }

    /// Whether the line is about this name, which is a host or `[host]:port`, in lower case.
    pub(super) fn names(&self, name: &str) -> bool {
        match self.entry.host_patterns() {
            HostPatterns::Patterns(patterns) => matches_list(patterns, name),
            HostPatterns::HashedName { salt, hash } => match Hmac::<Sha1>::new_from_slice(salt) {
                Ok(hmac) => hmac.chain_update(name).verify_slice(hash).is_ok(),
                Err(_) => false,
            },
        }
    }
}

/// The lines of a file that hold keys that can be used; others are passed over, as ssh does.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.lines().enumerate().filter_map(|(index, line)| {
        // Fields may be parted by any white space, and comments begin only at the line's start.
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.len() > MAX_LINE {
            return None;
        }
        let mut fields = line.split_ascii_whitespace();
        let count = if line.starts_with('@') { 4 } else { 3 };
        let line = fields.by_ref().take(count).collect::<Vec<_>>().join(" ");
        let entry: Entry = line.parse().ok()?;
        let number = index + 1;
        let usable = !matches!(entry.public_key().algorithm(), Algorithm::Other(_));
        usable.then_some(Line { number, entry })
    })
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

/// Whether a list of patterns matches: one does, and none that is negated.
pub(super) fn matches_list(patterns: &[String], name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(pattern) if matches_pattern(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches_pattern(pattern.as_bytes(), name.as_bytes()),
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negated_pattern_wins_wherever_it_stands() {
        let patterns = ["*.example.net", "!test.*"].map(str::to_owned);
        assert!(matches_list(&patterns, "web.example.net"));
        assert!(!matches_list(&patterns, "test.example.net"));
        assert!(!matches_list(&["!a".to_owned()], "b"));
    }
}
