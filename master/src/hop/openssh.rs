//! `openssh`: a host by way of the system's own `ssh`, for what it alone can do: Kerberos, tokens,
//! odd configurations.

use std::path::Path;

use fakessh_protocol::message::HelperTerminal;

use super::argument::check_word;
use super::{ArgumentError, Kind, PlaceName, Plan, Prompt, Start, Variables};
use crate::ssh_config::parse_destination;

/// Where `ssh` is looked for first: the one on `PATH` may be ours.
const USUAL_SSH: &str = "/usr/bin/ssh";

/// Its own connection, not one of the user's shared ones, and nothing on it but our stream:
/// whatever the configuration says of commands, forwards and agents.
const OPTIONS: &[&str] = &[
    "-T",
    "-a",
    "-x",
    "-e",
    "none",
    "-o",
    "ControlPath=none",
    "-o",
    "RemoteCommand=none",
    "-o",
    "ClearAllForwardings=yes",
];

/// ssh prints each question in one piece, and a server may word its own as it likes.
const SECRET: &[&str] = &[":"];

/// Host keys that are not known.
const LINE: &[&str] = &["?", "or the fingerprint:"];

/// `ssh OPTIONS [-p PORT] [-l USER] -- HOST LINE`, with a terminal on which it asks for itself.
pub(super) const OPENSSH: Kind = Kind {
    // Who logs in, as far as the environment says it.
    variables: Variables::These(&["SSH_AUTH_SOCK", "KRB5CCNAME", "HOME"]),
    begins: true,
    place: |argument| PlaceName::Own(host(argument)),
    ..Kind::new("openssh", "openssh:[USER@]HOST[:PORT]", check, plan)
};

fn check(argument: &str) -> Result<(), ArgumentError> {
    check_word(argument, "the host")?;
    parse_destination(argument)
        .map(drop)
        .map_err(|error| ArgumentError::new(error.place_in(argument).start, error.to_string()))
}

fn plan(argument: &str, start: &Start) -> Plan {
    let program = if Path::new(USUAL_SSH).is_file() { USUAL_SSH } else { "ssh" };
    let mut argv: Vec<String> = vec![program.to_owned()];
    argv.extend(OPTIONS.iter().map(|&word| word.to_owned()));
    if let Ok(target) = parse_destination(argument) {
        argv.extend(target.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        argv.extend(target.user.into_iter().flat_map(|user| ["-l".to_owned(), user]));
        argv.extend(["--".to_owned(), target.host]);
    }
    argv.push(start.line());
    Plan {
        terminal: HelperTerminal::Controlling,
        prompt: Some(Prompt::Endings { secret: SECRET, line: LINE, of_account: false }),
        ..Plan::of(argv.into_iter().map(Into::into))
    }
}

/// The host's name in `[USER@]HOST[:PORT]`.
fn host(argument: &str) -> &str {
    let place = argument.rsplit('@').next().unwrap_or(argument);
    match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => match place.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => place,
        },
    }
}

#[cfg(test)]
mod tests {
    use fakessh_protocol::message::QuestionKind;

    use super::super::tests::{argv, start, wrong_at};
    use super::*;

    #[test]
    fn the_host_stands_behind_all_options() {
        let words = argv(&OPENSSH, "alice@[fe80::1]:2222");
        assert!(words[0] == USUAL_SSH || words[0] == "ssh");
        let rest = words[1..].join(" ");
        let expected = "-T -a -x -e none -o ControlPath=none -o RemoteCommand=none -o \
                        ClearAllForwardings=yes -p 2222 -l alice -- fe80::1 exec /bin/sh -c 'cat'";
        assert_eq!(rest, expected);
        let words = argv(&OPENSSH, "web1");
        assert_eq!(words[words.len() - 3..], ["--", "web1", "exec /bin/sh -c 'cat'"]);
    }

    #[test]
    fn a_bad_destination_is_shown_where_it_is_bad() {
        assert_eq!(wrong_at(&OPENSSH, ""), 0);
        assert_eq!(wrong_at(&OPENSSH, "web1:x"), 5);
        assert_eq!(wrong_at(&OPENSSH, "a@-web1"), 2);
        assert_eq!(wrong_at(&OPENSSH, "-oProxyCommand=id"), 0);
    }

    #[test]
    fn questions_of_ssh_are_known() {
        let plan = OPENSSH.plan("web1", &start());
        assert_eq!(plan.terminal, HelperTerminal::Controlling);
        let prompt = plan.prompt.unwrap();
        let kind = |printed: &str| prompt.asked(printed).map(|asked| asked.kind);
        let secret = [
            "alice@web1's password: ",
            "Enter passphrase for key '/home/a/.ssh/id': ",
            "(alice@web1) Verification code: ",
            "Enter PIN for ECDSA-SK key /home/a/.ssh/id_sk: ",
        ];
        for printed in secret {
            assert_eq!(kind(printed), Some(QuestionKind::Secret), "{printed:?}");
        }
        let line = [
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            "Please type 'yes', 'no' or the fingerprint: ",
        ];
        for printed in line {
            assert_eq!(kind(printed), Some(QuestionKind::Line), "{printed:?}");
        }
        assert_eq!(kind("Permission denied, please try again.\r\n"), None);
    }
}
