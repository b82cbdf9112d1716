//! `local`: the master's own host, as the master's own user.

use super::{ArgumentError, Kind, PlaceName, Plan, Start};

/// `/bin/sh -c SCRIPT`.
#[derive(Debug)]
pub(super) struct Local;

impl Kind for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn syntax(&self) -> &'static str {
        "local"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        if argument.is_empty() {
            return Ok(());
        }
        Err(ArgumentError::new(0, "'local' is this host and takes nothing behind it"))
    }

    fn plan(&self, _argument: &str, start: &Start) -> Plan {
        Plan::of(start.words_behind(&[]))
    }

    fn place_name<'a>(&self, _argument: &'a str) -> PlaceName<'a> {
        PlaceName::AsBefore
    }

    fn is_first_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn local_is_the_script_itself() {
        assert_eq!(argv(&Local, ""), ["/bin/sh", "-c", "cat"]);
        assert_eq!(wrong_at(&Local, "x"), 0);
    }
}
