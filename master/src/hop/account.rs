//! `sudo`, `su` and `doas`: another account of the same host. Without a name it is root.

use fakessh_protocol::message::HelperTerminal;

use super::argument::check_name;
use super::{ArgumentError, Kind, PlaceName, Plan, Prompt, Start};

/// The account that is meant if the route names none.
const ROOT: &str = "root";

/// As sudoers(5) allows it: `sudo -H -u USER -p MARKER -- COMMAND`.
///
/// `-p` replaces the prompts of PAM, too, so that no language matters; sudo-rs writes its own frame
/// around it. `requiretty` is content with a controlling terminal.
pub(super) const SUDO: Kind = account("sudo", "sudo[:USER]", |argument, start| Plan {
    terminal: HelperTerminal::Controlling,
    prompt: Some(Prompt::Marker(start.marker.clone())),
    ..start.after(&["sudo", "-H", "-u", user(argument), "-p", &start.marker, "--"])
});

/// By that account's own password: `su - USER -c LINE`.
///
/// su reads the password from its standard input if that is no terminal. So the terminal is all
/// three of its descriptors, and the stream comes beside it. What the files of the login shell print
/// goes to the terminal, and so never into the stream.
pub(super) const SU: Kind = account("su", "su[:USER]", |argument, start| Plan {
    // `-` keeps it from the account's sessions: su clears the environment.
    environment: &[("LC_ALL", "C")],
    terminal: HelperTerminal::Whole,
    prompt: Some(Prompt::of_account(&SU_SECRETS)),
    ..Plan::of(["su", "-", user(argument), "-c", &start.line_over_descriptors()].map(Into::into))
});

/// How PAM's modules ask in English, which `LC_ALL` sees to, and how su asks without PAM. A colon
/// alone is not enough: su prints `su: ` and the reason of a failure in two pieces.
const SU_SECRETS: [&str; 6] = ["assword:", "asscode:", "code:", "PIN:", "OTP:", "oken:"];

/// As doas.conf(5) allows it: `doas -u USER -- COMMAND`.
///
/// doas asks on its controlling terminal only, with a prompt that no option and no language
/// changes, and closes every descriptor above 2.
pub(super) const DOAS: Kind = account("doas", "doas[:USER]", |argument, start| Plan {
    terminal: HelperTerminal::Controlling,
    // Of `doas (USER@HOST) password: `.
    prompt: Some(Prompt::of_account(&["assword:"])),
    ..start.after(&["doas", "-u", user(argument), "--"])
});

const fn account(name: &'static str, syntax: &'static str, plan: fn(&str, &Start) -> Plan) -> Kind {
    let place = |_: &_| PlaceName::AsBefore;
    Kind { default_argument: ROOT, place, ..Kind::new(name, syntax, check_user, plan) }
}

fn user(argument: &str) -> &str {
    if argument.is_empty() { ROOT } else { argument }
}

fn check_user(argument: &str) -> Result<(), ArgumentError> {
    if argument.is_empty() { Ok(()) } else { check_name(argument, "the user's name") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, start, wrong_at};
    use super::*;

    #[test]
    fn sudo_becomes_root_or_who_is_named_and_asks_with_our_marker() {
        let words =
            |user| ["sudo", "-H", "-u", user, "-p", "5eed", "--", "/bin/sh", "-c", "cat"].to_vec();
        assert_eq!(argv(&SUDO, ""), words("root"));
        assert_eq!(argv(&SUDO, "postgres"), words("postgres"));
        assert_eq!(argv(&SUDO, "#1000"), words("#1000"));
        assert_eq!(argv(&SUDO, "DOMAIN\\bob"), words("DOMAIN\\bob"));
        let plan = SUDO.plan("", &start());
        assert_eq!(plan.terminal, HelperTerminal::Controlling);
        assert_eq!(plan.prompt, Some(Prompt::Marker("5eed".into())));
    }

    #[test]
    fn su_gets_a_line_that_moves_the_stream_into_place() {
        let line = "exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;cat'";
        assert_eq!(argv(&SU, ""), ["su", "-", "root", "-c", line]);
        assert_eq!(argv(&SU, "bob"), ["su", "-", "bob", "-c", line]);
        assert_eq!(SU.plan("", &start()).terminal, HelperTerminal::Whole);
    }

    #[test]
    fn questions_of_su_are_known_and_its_complaints_are_not() {
        let plan = SU.plan("", &start());
        assert_eq!(plan.environment, [("LC_ALL", "C")]);
        let prompt = plan.prompt.unwrap();
        for printed in ["Password: ", "Password:", "Verification code: "] {
            assert!(prompt.asked(printed).is_some(), "{printed:?}");
        }
        for printed in ["su: ", "su: Authentication failure\r\n", "Last login: "] {
            assert_eq!(prompt.asked(printed), None, "{printed:?}");
        }
    }

    #[test]
    fn doas_becomes_root_or_who_is_named_and_asks_on_its_terminal() {
        let words = |user| ["doas", "-u", user, "--", "/bin/sh", "-c", "cat"].to_vec();
        assert_eq!(argv(&DOAS, ""), words("root"));
        assert_eq!(argv(&DOAS, "www-data"), words("www-data"));
        let plan = DOAS.plan("", &start());
        assert_eq!(plan.terminal, HelperTerminal::Controlling);
        let prompt = plan.prompt.unwrap();
        let asked = prompt.asked("\rdoas (alice@web1) password: ").unwrap();
        assert_eq!(asked.text, "doas (alice@web1) password:");
        assert_eq!(prompt.asked("doas: Authentication failed\r\n"), None);
    }

    #[test]
    fn a_user_is_one_word() {
        for kind in [SUDO, SU, DOAS] {
            assert_eq!(wrong_at(&kind, "post gres"), 4);
            assert_eq!(wrong_at(&kind, " bob"), 0);
            assert_eq!(wrong_at(&kind, "-u"), 0);
        }
    }
}
