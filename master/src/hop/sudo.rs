//! `sudo`: another account of the same host, as sudoers(5) allows it.

use fakessh_protocol::message::HelperTerminal;

use super::argument::{self, ROOT};
use super::{ArgumentError, Kind, PlaceName, Plan, Prompt, Start};

/// `sudo -H -u USER -p MARKER -- COMMAND`.
///
/// `-p` replaces the prompts of PAM, too, so that no language matters; sudo-rs writes its own frame
/// around it. `requiretty` is content with a controlling terminal.
#[derive(Debug)]
pub(super) struct Sudo;

impl Kind for Sudo {
    fn name(&self) -> &'static str {
        "sudo"
    }

    fn syntax(&self) -> &'static str {
        "sudo[:USER]"
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
            prompt: Some(Prompt::Marker(start.marker.clone())),
            ..Plan::of(start.words_behind(&["sudo", "-H", "-u", user, "-p", &start.marker, "--"]))
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
    fn sudo_becomes_root_or_who_is_named_and_asks_with_our_marker() {
        let words =
            |user| ["sudo", "-H", "-u", user, "-p", "5eed", "--", "/bin/sh", "-c", "cat"].to_vec();
        assert_eq!(argv(&Sudo, ""), words("root"));
        assert_eq!(argv(&Sudo, "postgres"), words("postgres"));
        assert_eq!(argv(&Sudo, "#1000"), words("#1000"));
        let plan = Sudo.plan("", &start());
        assert_eq!(plan.terminal, HelperTerminal::Controlling);
        assert_eq!(plan.prompt, Some(Prompt::Marker("5eed".into())));
    }

    #[test]
    fn a_user_is_one_word() {
        assert_eq!(wrong_at(&Sudo, "post gres"), 4);
        assert_eq!(wrong_at(&Sudo, "-u"), 0);
    }
}
