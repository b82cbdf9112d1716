//! `incus`: inside a running instance of Incus.

use super::argument::check_name;
use super::{ArgumentError, Kind, PlaceName, Plan, Start};

/// `incus exec --mode=non-interactive [REMOTE:]NAME -- COMMAND`.
///
/// The mode keeps incus from making a terminal, whatever its own descriptors are.
#[derive(Debug)]
pub(super) struct Incus;

/// Which server and project.
const DECIDED_BY: &[&str] =
    &["INCUS_CONF", "INCUS_DIR", "INCUS_SOCKET", "INCUS_REMOTE", "INCUS_PROJECT", "HOME"];

impl Kind for Incus {
    fn name(&self) -> &'static str {
        "incus"
    }

    fn syntax(&self) -> &'static str {
        "incus:[REMOTE:]NAME"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        check_name(argument, "the instance's name")?;
        if argument.ends_with(':') {
            let message = "the instance's name is missing behind that of the remote";
            return Err(ArgumentError::new(argument.len(), message));
        }
        Ok(())
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        let words = ["incus", "exec", "--mode=non-interactive", argument, "--"];
        Plan::of(start.words_behind(&words))
    }

    fn place_name<'a>(&self, argument: &'a str) -> PlaceName<'a> {
        PlaceName::Own(argument.rsplit(':').next().unwrap_or(argument))
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
    fn incus_makes_no_terminal() {
        let words = |name| {
            ["incus", "exec", "--mode=non-interactive", name, "--", "/bin/sh", "-c", "cat"].to_vec()
        };
        assert_eq!(argv(&Incus, "box"), words("box"));
        assert_eq!(argv(&Incus, "lab:box"), words("lab:box"));
        assert_eq!(wrong_at(&Incus, "lab:"), 4);
        assert_eq!(wrong_at(&Incus, "--project"), 0);
    }
}
