//! `doas`: another account of the same host, as doas.conf(5) allows it.

use fakessh_protocol::message::HelperTerminal;

use super::argument::{self, ROOT};
use super::{ArgumentError, Kind, PlaceName, Plan, Prompt, Start};

/// `doas -u USER -- COMMAND`.
///
/// It asks on its controlling terminal only, with a prompt of its own that no option and no
/// language changes, and closes every descriptor above 2.
#[derive(Debug)]
pub(super) struct Doas;

/// Of `doas (USER@HOST) password: `.
const SECRET: &[&str] = &["assword:"];

impl Kind for Doas {
    fn name(&self) -> &'static str {
        "doas"
    }

    fn syntax(&self) -> &'static str {
        "doas[:USER]"
    }

    fn default_argument(&self) -> &'static str {
        ROOT
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        argument::check_user(argument)
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        let user = argument::user(argument);
        Plan {
            terminal: HelperTerminal::Controlling,
            prompt: Some(Prompt::of_account(SECRET)),
            ..Plan::of(start.words_behind(&["doas", "-u", user, "--"]))
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
    fn doas_becomes_root_or_who_is_named_and_asks_on_its_terminal() {
        let words = |user| ["doas", "-u", user, "--", "/bin/sh", "-c", "cat"].to_vec();
        assert_eq!(argv(&Doas, ""), words("root"));
        assert_eq!(argv(&Doas, "www-data"), words("www-data"));
        assert_eq!(wrong_at(&Doas, "a b"), 1);
        let plan = Doas.plan("", &start());
        assert_eq!(plan.terminal, HelperTerminal::Controlling);
        let prompt = plan.prompt.unwrap();
        let asked = prompt.asked("\rdoas (alice@web1) password: ").unwrap();
        assert_eq!(asked.text, "doas (alice@web1) password:");
        assert_eq!(prompt.asked("doas: Authentication failed\r\n"), None);
    }
}
