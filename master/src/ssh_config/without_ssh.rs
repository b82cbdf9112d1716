//! Hosts looked up where there is no OpenSSH client: what the command line says, and what ssh has
//! built in.

use crate::caller::Caller;

use super::algorithm_lists::AlgorithmList;
use super::openssh::settle;
use super::resolved::Dump;
use super::{ConfigError, Resolved, Target, tokens};

/// What ssh would do with no configuration file at all.
///
/// # Errors
/// [`ConfigError::NeedsSsh`] for what only ssh understands.
pub(super) fn resolve(target: &Target, caller: &Caller) -> Result<Resolved, ConfigError> {
    // In the order in which ssh takes them: the first value of a keyword wins.
    let mut dump = String::new();
    if let Some(user) = &target.user {
        dump += &format!("user {user}\n");
    }
    if let Some(port) = target.port {
        dump += &format!("port {port}\n");
    }
    let mut named = false;
    let mut words = target.connection.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let (letter, glued) = text.split_at_checked(2).unwrap_or((&text, ""));
        let value = match glued {
            "" => words.next().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default(),
            glued => glued.to_owned(),
        };
        match (letter, keyword_value(&value)) {
            ("-i", _) => {
                named = true;
                dump += &format!("identityfile {value}\n");
            }
            ("-F", _) if value == "none" || value == "/dev/null" => {}
            ("-o", Some((keyword, value))) => {
                let keyword = keyword.to_ascii_lowercase();
                named |= keyword == "identityfile";
                let value = match AlgorithmList::of(&keyword) {
                    Some(list) => list.expand(value).map_err(|message| ConfigError::Rejected {
                        host: target.host.clone(),
                        message,
                    })?,
                    None => value.to_owned(),
                };
                dump += &format!("{keyword} {value}\n");
            }
            _ => return Err(ConfigError::NeedsSsh(format!("{letter} {value}"))),
        }
    }
    let defaults = "identityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/id_ecdsa\n\
                    identityfile ~/.ssh/id_ed25519\n";
    if !named {
        dump += defaults;
    }
    let (local_user, _) = tokens::account(caller);
    dump += &format!("user {local_user}\nport 22\n");
    dump += "userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n";
    dump += "globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2\n";
    settle(&Dump::read(&dump), target, &Dump::read(defaults), caller)
}

/// What `-o` says: a keyword, white space or one `=`, and a value.
fn keyword_value(line: &str) -> Option<(&str, &str)> {
    let (keyword, rest) =
        line.trim().split_once(|char: char| char == '=' || char.is_whitespace())?;
    let value = rest.trim_start_matches([' ', '\t', '=']);
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some((keyword, quoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;
    use std::sync::Arc;

    use crate::caller::AskNobody;

    use super::*;

    fn caller() -> Caller {
        let environment = vec![("SSH_AUTH_SOCK".into(), "/run/agent".into())];
        Caller { environment, directory: "/".into(), ask: Arc::new(AskNobody) }
    }

    #[test]
    fn the_options_of_the_command_line_still_count() {
        let connection = ["-F", "none", "-i", "/k", "-o", "StrictHostKeyChecking=yes"];
        let connection = connection.map(OsString::from).to_vec();
        let target = Target { host: "h".into(), user: Some("u".into()), port: Some(7), connection };
        let resolved = resolve(&target, &caller()).unwrap();
        assert_eq!((resolved.user.as_str(), resolved.port), ("u", 7));
        assert_eq!(resolved.identity_files, [PathBuf::from("/k")]);
        assert_eq!(resolved.identity_agent, Some("/run/agent".into()));
        let strict = crate::ssh_config::StrictHostKeyChecking::Yes;
        assert_eq!(resolved.strict_host_key_checking, strict);

        let target = Target { connection: vec!["-F".into(), "/c".into()], ..target };
        assert!(matches!(resolve(&target, &caller()), Err(ConfigError::NeedsSsh(_))));
    }

    #[test]
    fn algorithms_are_those_of_ssh_or_refused() {
        let look_up = |option: &str| {
            let connection = ["-o", option].map(OsString::from).to_vec();
            resolve(&Target { host: "h".into(), connection, ..Target::default() }, &caller())
        };
        for option in ["Ciphers=none", "MACs=none", "KexAlgorithms=none", "Ciphers=aes128-ctr,x"] {
            let error = look_up(option).unwrap_err().to_string();
            assert!(error.contains("Bad SSH2 "), "{error}");
        }
        let resolved = look_up("CIPHERS=^aes256-ctr").unwrap();
        assert_eq!(resolved.algorithms.ciphers.unwrap()[0], "aes256-ctr");
        let resolved = look_up("CASignatureAlgorithms=ssh-ed25519").unwrap();
        assert_eq!(resolved.key_rules.authority_signatures, ["ssh-ed25519"]);
        assert_eq!(resolved.algorithms, crate::ssh_config::Algorithms::default());
        assert_eq!(look_up("RequiredRSASize=4096").unwrap().key_rules.required_rsa_size, 4096);
    }

    #[test]
    fn the_first_value_wins_as_with_ssh() {
        let look_up = |user: Option<&str>, port, words: &[&str]| {
            let connection = words.iter().map(OsString::from).collect();
            let target =
                Target { host: "h".into(), user: user.map(str::to_owned), port, connection };
            resolve(&target, &caller()).unwrap()
        };
        let words = ["-oUser bob", "-oUser=eve", "-oPort=7", "-oPort=8"];
        let resolved = look_up(None, None, &words);
        assert_eq!((resolved.user.as_str(), resolved.port), ("bob", 7));
        let resolved = look_up(Some("u"), Some(9), &words);
        assert_eq!((resolved.user.as_str(), resolved.port), ("u", 9));
        let words = ["-o", "UserKnownHostsFile = \"/k\"", "-o", "ProxyCommand nc -o x=y %h"];
        let resolved = look_up(None, None, &words);
        assert_eq!(resolved.user_known_hosts_files, [PathBuf::from("/k")]);
        assert_eq!(resolved.proxy_command.as_deref(), Some("nc -o x=y %h"));
        assert_eq!(resolved.port, 22);
    }
}
