//! Settings of a host on a machine without an OpenSSH client: what the command line says, and what
//! ssh has built in.

use crate::caller::Caller;

use super::algorithm_lists::AlgorithmList;
use super::{ConfigError, Target, tokens};

/// What ssh has built in, as `ssh -G` prints it.
pub(super) const DEFAULTS: &str = "identityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/id_ecdsa\n\
                                   identityfile ~/.ssh/id_ed25519\n";

/// Writes what `ssh -G` would print with no configuration file at all.
///
/// # Errors
/// [`ConfigError::NeedsSsh`] for what only ssh understands.
pub(super) fn dump(target: &Target, caller: &Caller) -> Result<String, ConfigError> {
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
    if !named {
        dump += DEFAULTS;
    }
    let (local_user, _) = tokens::account(caller);
    dump += &format!("user {local_user}\nport 22\n");
    dump += "userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n";
    dump += "globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2\n";
    Ok(dump)
}

/// What `-o` says: a keyword, white space or one `=`, and a value.
fn keyword_value(line: &str) -> Option<(&str, &str)> {
    let (keyword, rest) =
        line.trim().split_once(|char: char| char == '=' || char.is_whitespace())?;
    let value = rest.trim_start_matches([' ', '\t', '=']);
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some((keyword, quoted.unwrap_or(value)))
}
