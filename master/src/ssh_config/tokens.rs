//! Percent tokens, `${VARIABLES}` and `~`, where `ssh -G` leaves them (`ssh_config(5)`, TOKENS).

use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::caller::Caller;

use super::Resolved;

/// What tokens stand for.
pub(super) struct Tokens<'a> {
    resolved: &'a Resolved,
    caller: &'a Caller,
    home: PathBuf,
    local_user: String,
    local_host: String,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(resolved: &'a Resolved, caller: &'a Caller) -> Tokens<'a> {
        let (local_user, home) = account(caller);
        let name = rustix::system::uname();
        let local_host = name.nodename().to_string_lossy().into_owned();
        Tokens { resolved, caller, home, local_user, local_host }
    }

    /// The value of one token, if there is such a token.
    fn value(&self, token: char) -> Option<String> {
        let resolved = self.resolved;
        Some(match token {
            '%' => "%".to_owned(),
            'h' => resolved.hostname.clone(),
            'n' => resolved.host.clone(),
            'p' => resolved.port.to_string(),
            'r' => resolved.user.clone(),
            'k' => match &resolved.host_key_alias {
                Some(alias) => alias.to_ascii_lowercase(),
                None => resolved.host.clone(),
            },
            'j' => resolved.proxy_jump.clone().unwrap_or_default(),
            'u' => self.local_user.clone(),
            'd' => self.home.to_string_lossy().into_owned(),
            'i' => rustix::process::getuid().as_raw().to_string(),
            'l' => self.local_host.clone(),
            'L' => self.local_host.split('.').next().unwrap_or_default().to_owned(),
            'C' => self.connection_hash(),
            _ => return None,
        })
    }

    /// `%C`: the SHA-1 of `%l%h%p%r%j`.
    fn connection_hash(&self) -> String {
        let mut hash = Sha1::new();
        for token in ['l', 'h', 'p', 'r', 'j'] {
            hash.update(self.value(token).unwrap_or_default());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Replaces tokens. One that is not known stays as it is.
    fn percent(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                expanded.push(char);
                continue;
            }
            let token = chars.next();
            match token.and_then(|token| self.value(token)) {
                Some(value) => expanded.push_str(&value),
                None => {
                    expanded.push('%');
                    expanded.extend(token);
                }
            }
        }
        expanded
    }

    /// Replaces `${NAME}` by the caller's variables. One that is not set stays as it is.
    fn variables(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let found = after.split_once('}').and_then(|(name, after)| {
                Some((self.caller.variable(name)?.to_string_lossy().into_owned(), after))
            });
            match found {
                Some((value, after)) => {
                    expanded.push_str(&value);
                    rest = after;
                }
                None => {
                    expanded.push_str("${");
                    rest = after;
                }
            }
        }
        expanded + rest
    }

    /// Replaces tokens and `${VARIABLES}` in an argument of a program. `more` are further tokens.
    ///
    /// # Errors
    /// The first that has no value: what is meant is not known then.
    pub(super) fn argument(&self, text: &str, more: &[(char, &str)]) -> Result<String, String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(index) = rest.find(['%', '$']) {
            expanded.push_str(&rest[..index]);
            rest = &rest[index..];
            if let Some(after) = rest.strip_prefix("${") {
                let (name, after) = after.split_once('}').ok_or_else(|| rest.to_owned())?;
                let value = self.caller.variable(name).ok_or_else(|| format!("${{{name}}}"))?;
                expanded.push_str(&value.to_string_lossy());
                rest = after;
            } else if let Some(after) = rest.strip_prefix('%') {
                let token = after.chars().next().ok_or("%")?;
                let further = more.iter().find(|(name, _)| *name == token);
                let value = match further {
                    Some((_, value)) => (*value).to_owned(),
                    None => self.value(token).ok_or_else(|| format!("%{token}"))?,
                };
                expanded.push_str(&value);
                rest = &after[token.len_utf8()..];
            } else {
                expanded.push('$');
                rest = &rest[1..];
            }
        }
        Ok(expanded + rest)
    }

    /// The name of a file: `~`, variables and tokens expanded, and made absolute.
    pub(super) fn file(&self, path: &Path) -> PathBuf {
        let text = path.to_string_lossy();
        let text = match text.strip_prefix("~/") {
            Some(rest) => format!("{}/{rest}", self.home.display()),
            None if text == "~" => self.home.to_string_lossy().into_owned(),
            None => text.into_owned(),
        };
        self.caller.directory.join(self.percent(&self.variables(&text)))
    }
}

/// The command of `ProxyCommand` with its tokens replaced.
pub fn expand_proxy_command(command: &str, resolved: &Resolved, caller: &Caller) -> String {
    Tokens::new(resolved, caller).percent(command)
}

/// The name and home directory of this account. ssh takes both from the password database and
/// not from the environment; accounts that are in no local file have the caller's `HOME`.
pub(super) fn account(caller: &Caller) -> (String, PathBuf) {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, id, _, _, home, ..] if *id == uid => {
                Some(((*name).to_owned(), PathBuf::from(home)))
            }
            _ => None,
        }
    });
    entry.unwrap_or_else(|| {
        let variable = |name| caller.variable(name).unwrap_or_default().to_owned();
        (variable("USER").to_string_lossy().into_owned(), PathBuf::from(variable("HOME")))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::caller::AskNobody;
    use crate::ssh_config::Target;
    use crate::ssh_config::resolved::{Dump, root};

    use super::*;

    fn expanded(file: &str) -> String {
        with_tokens(|tokens| tokens.file(Path::new(file)).display().to_string())
    }

    fn with_tokens<T>(look: impl FnOnce(&Tokens<'_>) -> T) -> T {
        let target = Target { host: "web1".into(), ..Target::default() };
        let dump = Dump::read("hostname 10.0.0.1\nuser bob\nport 2222\n");
        let resolved = dump.resolved(&target, &root(), &Dump::default()).unwrap();
        let caller = Caller {
            environment: vec![("KEYS".into(), "/keys".into())],
            directory: "/work".into(),
            ask: Arc::new(AskNobody),
        };
        look(&Tokens::new(&resolved, &caller))
    }

    #[test]
    fn tokens_and_variables_are_replaced_and_names_made_absolute() {
        assert_eq!(expanded("%r_%n_%p"), "/work/bob_web1_2222");
        assert_eq!(expanded("${KEYS}/%h"), "/keys/10.0.0.1");
        assert_eq!(expanded("/a/%%h"), "/a/%h");
    }

    #[test]
    fn an_argument_has_only_what_is_known() {
        let argument = |text| with_tokens(|tokens| tokens.argument(text, &[('H', "[h]:1")]));
        assert_eq!(argument("%H-%n $1 ${KEYS}%%").unwrap(), "[h]:1-web1 $1 /keys%");
        for (text, missing) in [("a%Z", "%Z"), ("a%", "%"), ("${NO}", "${NO}"), ("a${b", "${b")] {
            assert_eq!(argument(text).unwrap_err(), missing);
        }
    }

    #[test]
    fn what_is_not_known_stays() {
        assert_eq!(expanded("/a/%Z${NO}${"), "/a/%Z${NO}${");
        assert_eq!(expanded("/a/50%"), "/a/50%");
    }
}
