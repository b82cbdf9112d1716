//! `su`: another account of the same host, by that account's own password.

use fakessh_protocol::message::HelperTerminal;

use super::argument::{self, ROOT};
use super::{ArgumentError, Kind, PlaceName, Plan, Prompt, Start};

/// `su - USER -c LINE`.
///
/// su reads the password from its standard input where that is no terminal, so the terminal is all
/// three of its descriptors and the stream comes beside it. What the login shell's own files print
/// goes to the terminal, and so never into the stream.
#[derive(Debug)]
pub(super) struct Su;

/// Of PAM's modules in English, which `LC_ALL` sees to, and of su without PAM. Not a colon alone:
/// su prints `su: ` and the reason of a failure in two pieces.
const SECRET: &[&str] = &["assword:", "asscode:", "code:", "PIN:", "OTP:", "oken:"];

impl Kind for Su {
    fn name(&self) -> &'static str {
        "su"
    }

    fn syntax(&self) -> &'static str {
        "su[:USER]"
    }

    fn default_argument(&self) -> &'static str {
        ROOT
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        argument::check_user(argument)
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        let user = argument::user(argument);
        let words = ["su", "-", user, "-c", &start.line_over_descriptors()].map(Into::into);
        Plan {
            argv: words.to_vec(),
            // `-` keeps it from the account's sessions: su clears the environment.
            environment: &[("LC_ALL", "C")],
            terminal: HelperTerminal::Whole,
            prompt: Some(Prompt::of_account(SECRET)),
        }
    }

    fn place_name<'a>(&self, _argument: &'a str) -> PlaceName<'a> {
        PlaceName::AsBefore
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, start, wrong_at};
    use super::*;

    #[test]
    fn su_gets_a_line_that_moves_the_stream_into_place() {
        let line = "exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;cat'";
        assert_eq!(argv(&Su, ""), ["su", "-", "root", "-c", line]);
        assert_eq!(argv(&Su, "bob"), ["su", "-", "bob", "-c", line]);
        assert_eq!(Su.plan("", &start()).terminal, HelperTerminal::Whole);
        assert_eq!(wrong_at(&Su, "-c"), 0);
    }

    #[test]
    fn questions_of_su_are_known_and_its_complaints_are_not() {
        let plan = Su.plan("", &start());
        assert_eq!(plan.environment, [("LC_ALL", "C")]);
        let prompt = plan.prompt.unwrap();
        for printed in ["Password: ", "Password:", "Verification code: "] {
            assert!(prompt.asked(printed).is_some(), "{printed:?}");
        }
        for printed in ["su: ", "su: Authentication failure\r\n", "Last login: "] {
            assert_eq!(prompt.asked(printed), None, "{printed:?}");
        }
    }
}
