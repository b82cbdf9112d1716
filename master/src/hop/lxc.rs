//! `lxc`: inside a running LXC container.

use super::argument::check_name;
use super::{ArgumentError, Kind, PlaceName, Plan, Start};

/// `lxc-attach --clear-env --name NAME -- COMMAND`.
///
/// Without `--clear-env` the container would get the environment of the host's account.
#[derive(Debug)]
pub(super) struct Lxc;

/// Whose containers: those of an account are below its home.
const DECIDED_BY: &[&str] = &["HOME"];

impl Kind for Lxc {
    fn name(&self) -> &'static str {
        "lxc"
    }

    fn syntax(&self) -> &'static str {
        "lxc:NAME"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        check_name(argument, "the container's name")
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        let words = ["lxc-attach", "--clear-env", "--name", argument, "--"];
        Plan::of(start.words_behind(&words))
    }

    fn place_name<'a>(&self, argument: &'a str) -> PlaceName<'a> {
        PlaceName::Own(argument)
    }

    fn decided_by(&self) -> &'static [&'static str] {
        DECIDED_BY
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn lxc_attaches_with_an_empty_environment() {
        let expected = ["lxc-attach", "--clear-env", "--name", "box", "--", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Lxc, "box"), expected);
        assert_eq!(wrong_at(&Lxc, ""), 0);
        assert_eq!(wrong_at(&Lxc, "a/b"), 1);
    }
}
