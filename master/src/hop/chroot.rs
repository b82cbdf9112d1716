//! `chroot`: with another directory as the root.

use super::argument::check_word;
use super::{ArgumentError, Kind, Plan, Start};

/// `chroot PATH COMMAND`.
#[derive(Debug)]
pub(super) struct Chroot;

impl Kind for Chroot {
    fn name(&self) -> &'static str {
        "chroot"
    }

    fn syntax(&self) -> &'static str {
        "chroot:PATH"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        check_word(argument, "the path")?;
        if argument.starts_with('/') {
            return Ok(());
        }
        // There is no directory that a relative one would be relative to.
        Err(ArgumentError::new(0, "expected an absolute path, one that begins with '/'"))
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        Plan::of(start.words_behind(&["chroot", argument]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn chroot_takes_an_absolute_path_whatever_is_in_it() {
        let expected = ["chroot", "/srv/my root:1", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Chroot, "/srv/my root:1"), expected);
        assert_eq!(wrong_at(&Chroot, "srv"), 0);
        assert_eq!(wrong_at(&Chroot, "/srv\n"), 4);
    }
}
