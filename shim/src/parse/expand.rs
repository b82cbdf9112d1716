//! The `%` tokens of LocalCommand and RemoteCommand (`ssh_config(5)`, "TOKENS"), as far as they
//! can be told without the configuration: `%h` may be a HostName that only `ssh -G` knows.

use super::UsageError;

/// What a text with tokens came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expanded {
    /// The text, with all tokens replaced.
    Text(Vec<u8>),
    /// It has this token, which `ssh` knows and we don't.
    Unknown(char),
}

/// What the tokens stand for.
pub(super) struct Tokens<'a> {
    /// `%n`: the host as written.
    pub(super) host: &'a str,
    /// `%r`.
    pub(super) user: Option<&'a str>,
    /// `%p`.
    pub(super) port: Option<u16>,
}

impl Tokens<'_> {
    /// Replaces the tokens in `text`.
    pub(super) fn expand(&self, text: &[u8]) -> Result<Expanded, UsageError> {
        let mut expanded = Vec::with_capacity(text.len());
        let mut bytes = text.iter();
        while let Some(&byte) = bytes.next() {
            if byte != b'%' {
                expanded.push(byte);
                continue;
            }
            let token = bytes.next().copied().unwrap_or(b' ');
            let value = match token {
                b'%' => Some("%".to_owned()),
                b'n' => Some(self.host.to_owned()),
                b'r' => self.user.map(str::to_owned),
                b'p' => self.port.map(|port| port.to_string()),
                b'i' => Some(rustix::process::getuid().as_raw().to_string()),
                b'C' | b'd' | b'f' | b'H' | b'h' | b'I' | b'j' | b'K' | b'k' | b'L' | b'l'
                | b'T' | b't' | b'u' => None,
                _ => {
                    let token = char::from(token).escape_default();
                    return Err(UsageError::new(format!("percent_expand: unknown key %{token}")));
                }
            };
            match value {
                Some(value) => expanded.extend_from_slice(value.as_bytes()),
                None => return Ok(Expanded::Unknown(char::from(token))),
            }
        }
        Ok(Expanded::Text(expanded))
    }
}
