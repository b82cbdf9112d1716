//! Host, user and port, and what is allowed in them.

use super::UsageError;
use super::settings::Settings;

impl Settings {
    /// Reads the word of the host: a name, `user@host`, or `ssh://[user@]host[:port]`. Returns
    /// the host; user and port count where none was given before.
    pub(super) fn destination(&mut self, word: &[u8]) -> Result<String, UsageError> {
        if let Some(uri) = word.strip_prefix(b"ssh://") {
            let (given_user, host, given_port) = split_uri(uri).ok_or_else(|| {
                let word = String::from_utf8_lossy(word);
                UsageError::new(format!("bad destination '{word}', use ssh://[user@]host[:port]"))
            })?;
            self.default_user(given_user.as_deref())?;
            if let Some(given) = given_port {
                let given = port(given)?;
                self.port.get_or_insert(given);
            }
            return valid_host(host);
        }
        // At the last @: a user's name may hold one.
        match word.iter().rposition(|&byte| byte == b'@') {
            Some(0) => Err(UsageError::new("there is no user name before the @")),
            Some(at) => {
                self.default_user(Some(&word[..at]))?;
                valid_host(&word[at + 1..])
            }
            None => valid_host(word),
        }
    }

    /// Takes a user's name where none was given before. Of a second one ssh looks at nothing.
    pub(super) fn default_user(&mut self, name: Option<&[u8]>) -> Result<(), UsageError> {
        if let (None, Some(name)) = (&self.user, name) {
            self.user = Some(user(name)?);
        }
        Ok(())
    }
}

/// User (decoded), host and port.
type Uri<'a> = (Option<Vec<u8>>, &'a [u8], Option<&'a [u8]>);

/// A URI behind its scheme, cut into user, host and port; `None` where it is none that `ssh`
/// accepts.
fn split_uri(uri: &[u8]) -> Option<Uri<'_>> {
    let (user, rest) = match uri.iter().position(|&byte| byte == b'@') {
        Some(at) => {
            // Connection parameters behind a semicolon are ignored, as ssh ignores them.
            let user = uri[..at].split(|&byte| byte == b';').next().unwrap_or_default();
            (Some(percent_decode(user).filter(|user| !user.is_empty())?), &uri[at + 1..])
        }
        None => (None, uri),
    };
    let (host, rest) = if let Some(bracketed) = rest.strip_prefix(b"[") {
        let end = bracketed.iter().position(|&byte| byte == b']')?;
        (&bracketed[..end], &bracketed[end + 1..])
    } else {
        let end = rest.iter().position(|byte| b":/".contains(byte)).unwrap_or(rest.len());
        rest.split_at(end)
    };
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    let port = match rest {
        [] | [b':'] => None,
        [b':', port @ ..] => Some(port),
        _ => return None,
    };
    if host.is_empty() { None } else { Some((user, host, port)) }
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(value).ok().filter(|&byte| byte != 0)?);
    }
    Some(decoded)
}

/// A user's name, held against what `ssh` allows on a command line.
fn user(name: &[u8]) -> Result<String, UsageError> {
    let bad = || UsageError::new("remote username contains invalid characters");
    let name = std::str::from_utf8(name).map_err(|_| bad())?;
    let after_space = name.as_bytes().windows(2);
    let bad_pair = |pair: &[u8]| pair[0].is_ascii_whitespace() && pair[1] == b'-';
    let bad_byte = |byte: u8| byte.is_ascii_control() || b"'`\";&<>|(){}".contains(&byte);
    if name.starts_with('-')
        || name.ends_with('\\')
        || name.bytes().any(bad_byte)
        || after_space.into_iter().any(bad_pair)
    {
        return Err(bad());
    }
    Ok(name.to_owned())
}

/// A port: 1 to 65535.
pub(super) fn port(text: &[u8]) -> Result<u16, UsageError> {
    let text = String::from_utf8_lossy(text);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok().filter(|&port| port != 0) } else { None };
    port.ok_or_else(|| UsageError::new(format!("Bad port '{text}'.")))
}

/// Longest name of a host, as for the resolver (`NI_MAXHOST`). An alias is no longer.
const MAX_HOST: usize = 1025;

fn valid_host(host: &[u8]) -> Result<String, UsageError> {
    let bad = || UsageError::new("hostname contains invalid characters");
    let host = std::str::from_utf8(host).map_err(|_| bad())?;
    let bad_byte = |byte: u8| {
        byte.is_ascii_control()
            || byte.is_ascii_whitespace()
            || b"'`\"$\\;&<>|(){},".contains(&byte)
    };
    if host.is_empty() {
        return Err(UsageError::new("the host name is empty"));
    }
    if host.starts_with('-') || host.bytes().any(bad_byte) {
        return Err(bad());
    }
    if host.len() > MAX_HOST {
        let length = host.len();
        let text = format!("the host name has {length} bytes, and may have {MAX_HOST}");
        return Err(UsageError::new(text));
    }
    Ok(host.to_owned())
}
