//! Destinations as people write them, and `ProxyJump` lists.

use std::ops::Range;

use thiserror::Error;

use super::{Resolved, Target};

/// Most hops of one `ProxyJump`, those of the hops' own configuration included. A configuration
/// that names itself as its jump host would go on for ever.
pub const MAX_JUMPS: usize = 16;

/// What is wrong with a destination.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DestinationError {
    /// No host, or one that begins with `-` or holds characters that no host name has.
    #[error("'{0}' is not a host name; expected [user@]host[:port]")]
    BadHost(String),
    /// The user begins with `-` or holds characters of the shell.
    #[error("'{0}' is not a user name")]
    BadUser(String),
    /// The port is no number from 1 to 65535.
    #[error("'{0}' is not a port; expected 1 to 65535")]
    BadPort(String),
    /// `ssh://` with a path behind the host.
    #[error("'{0}' has a path; expected ssh://[user@]host[:port]")]
    Path(String),
}

impl DestinationError {
    /// The bytes of the destination's text that are wrong.
    pub(crate) fn place_in(&self, text: &str) -> Range<usize> {
        let (DestinationError::BadHost(part)
        | DestinationError::BadUser(part)
        | DestinationError::BadPort(part)
        | DestinationError::Path(part)) = self;
        let start = match self {
            DestinationError::BadHost(host) if host.is_empty() => {
                Some(text.rfind('@').map_or(0, |at| at + 1))
            }
            // The user of a URI may be written in another way than it is read.
            DestinationError::BadUser(_) => text.find(part.as_str()),
            _ => text.rfind(part.as_str()),
        };
        start.map_or(0..text.len(), |start| start..start + part.len())
    }
}

/// Reads `[user@]host[:port]`, `[user@][v6]:port` or `ssh://[user@]host[:port]`.
///
/// A bare IPv6 address is a host without a port. The user ends at the last `@`.
///
/// # Errors
/// [`DestinationError`], with the offending part.
pub fn parse_destination(text: &str) -> Result<Target, DestinationError> {
    let (rest, uri) = match text.strip_prefix("ssh://") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let rest = if uri { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
    if uri && rest.contains('/') {
        return Err(DestinationError::Path(text.to_owned()));
    }
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(if uri { percent_decode(user) } else { user.into() }), place),
        None => (None, rest),
    };
    let (host, port) = split_port(place)?;
    let target = Target { host: host.to_owned(), user, port, connection: Vec::new() };
    target.check()?;
    Ok(target)
}

impl Target {
    /// Holds host and user against what ssh allows on a command line.
    ///
    /// # Errors
    /// [`DestinationError`], with the offending part.
    pub fn check(&self) -> Result<(), DestinationError> {
        self.user.as_deref().map_or(Ok(()), check_user)?;
        check_host(&self.host)
    }
}

/// The hops of a `ProxyJump` value, the nearest first. Empty for `none`.
///
/// Each hop goes through the one before it. `-F` of `connection` counts for the hops as it does
/// with `ssh`, which passes it on; the other options are for the last host only.
///
/// # Errors
/// [`DestinationError`] for a hop that is no destination.
pub fn parse_proxy_jump(resolved: &Resolved, list: &str) -> Result<Vec<Target>, DestinationError> {
    if list.trim().eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let hop = |text: &str| {
        let mut target = parse_destination(text.trim())?;
        target.connection.clone_from(&resolved.config_file);
        Ok(target)
    };
    list.split(',').map(hop).collect()
}

fn split_port(place: &str) -> Result<(&str, Option<u16>), DestinationError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let bad = || DestinationError::BadHost(place.to_owned());
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(bad()),
        }
    } else {
        match place.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (place, None),
        }
    };
    let port = port.map(parse_port).transpose()?;
    Ok((host, port))
}

fn parse_port(text: &str) -> Result<u16, DestinationError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| DestinationError::BadPort(text.to_owned()))
}

/// As `valid_hostname` of ssh: what a shell or an option parser could take for something else is
/// refused; and brackets, which stand around a host that has colons.
pub(crate) fn check_host(host: &str) -> Result<(), DestinationError> {
    let bad = |byte: char| {
        byte.is_whitespace() || byte.is_control() || "'`\"$\\;&<>|(){}[],".contains(byte)
    };
    if host.is_empty() || host.starts_with('-') || host.contains(bad) {
        return Err(DestinationError::BadHost(host.to_owned()));
    }
    Ok(())
}

/// As `valid_ruser` of ssh.
fn check_user(user: &str) -> Result<(), DestinationError> {
    let bad = |byte: char| byte.is_control() || "'`\";&<>|(){}".contains(byte);
    // What follows a blank would be an option where a shell splits words.
    let option = user.split(char::is_whitespace).skip(1).any(|word| word.starts_with('-'));
    if user.is_empty()
        || user.starts_with('-')
        || user.contains(bad)
        || user.ends_with('\\')
        || option
    {
        return Err(DestinationError::BadUser(user.to_owned()));
    }
    Ok(())
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                decoded.push(value);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<String>, String, Option<u16>) {
        let target = parse_destination(text).unwrap();
        (target.user, target.host, target.port)
    }

    #[test]
    fn every_form_of_a_destination_is_read() {
        assert_eq!(parsed("web1"), (None, "web1".into(), None));
        assert_eq!(parsed("a@b@web1:22"), (Some("a@b".into()), "web1".into(), Some(22)));
        assert_eq!(parsed("[::1]:2222"), (None, "::1".into(), Some(2222)));
        assert_eq!(parsed("u@[fe80::1%eth0]"), (Some("u".into()), "fe80::1%eth0".into(), None));
        assert_eq!(parsed("[app:22]"), (None, "app:22".into(), None));
        assert_eq!(parsed("fe80::1"), (None, "fe80::1".into(), None));
        assert_eq!(parsed("ssh://u@h:33/"), (Some("u".into()), "h".into(), Some(33)));
        assert_eq!(parsed("ssh://a%40b@h"), (Some("a@b".into()), "h".into(), None));
    }

    #[test]
    fn a_destination_is_written_as_it_is_read() {
        for text in ["u@web1:22", "fe80::1", "[fe80::1]:22", "[app:22]", "[app:22]:22"] {
            assert_eq!(parse_destination(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in
            ["", "-oProxyCommand=x", "a b", "h:0", "h:65536", "h:+1", "h:", "@h", "-l@h", "a -b@h"]
        {
            assert!(parse_destination(text).is_err(), "{text:?}");
        }
        for text in ["$(id)", "h;id", "[::1", "[::1]22", "ssh://h/path", "[[::1]"] {
            assert!(parse_destination(text).is_err(), "{text:?}");
        }
    }
}
