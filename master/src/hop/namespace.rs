//! `nsenter`, `chroot` and `local`: places of the same kernel.

use super::argument::check_word;
use super::{ArgumentError, Kind, PlaceName};

/// Inside the namespaces of a process: `nsenter -a -t PID -- COMMAND`.
pub(super) const NSENTER: Kind = Kind::new("nsenter", "nsenter:PID", check_pid, |pid, start| {
    start.after(&["nsenter", "-a", "-t", pid, "--"])
});

/// With another directory as the root: `chroot PATH COMMAND`.
pub(super) const CHROOT: Kind =
    Kind::new("chroot", "chroot:PATH", check_path, |path, start| start.after(&["chroot", path]));

/// The master's own host, as the master's own user: the command itself.
pub(super) const LOCAL: Kind = Kind {
    begins: true,
    place: |_| PlaceName::AsBefore,
    ..Kind::new("local", "local", check_nothing, |_, start| start.after(&[]))
};

fn check_pid(argument: &str) -> Result<(), ArgumentError> {
    let message = "expected the number of a process, 1 or more";
    if let Some(at) = argument.find(|character: char| !character.is_ascii_digit()) {
        return Err(ArgumentError::new(at, message));
    }
    // As pid_t.
    match argument.parse::<i32>() {
        Ok(1..) => Ok(()),
        _ => Err(ArgumentError::new(0, message)),
    }
}

fn check_path(argument: &str) -> Result<(), ArgumentError> {
    check_word(argument, "the path")?;
    if argument.starts_with('/') {
        return Ok(());
    }
    // There is no directory that a relative path would be relative to.
    Err(ArgumentError::new(0, "expected an absolute path, one that begins with '/'"))
}

fn check_nothing(argument: &str) -> Result<(), ArgumentError> {
    if argument.is_empty() {
        return Ok(());
    }
    Err(ArgumentError::new(0, "'local' is this host and takes nothing after it"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn nsenter_takes_the_number_of_a_process() {
        let expected = ["nsenter", "-a", "-t", "4711", "--", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&NSENTER, "4711"), expected);
        assert_eq!(wrong_at(&NSENTER, "47x1"), 2);
        for argument in ["", "0", "+1", "99999999999"] {
            assert_eq!(wrong_at(&NSENTER, argument), 0, "{argument:?}");
        }
    }

    #[test]
    fn chroot_takes_an_absolute_path_whatever_is_in_it() {
        let expected = ["chroot", "/srv/my root:1", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&CHROOT, "/srv/my root:1"), expected);
        assert_eq!(wrong_at(&CHROOT, "srv"), 0);
        assert_eq!(wrong_at(&CHROOT, "/srv\n"), 4);
    }

    #[test]
    fn local_is_the_script_itself() {
        assert_eq!(argv(&LOCAL, ""), ["/bin/sh", "-c", "cat"]);
        assert_eq!(wrong_at(&LOCAL, "x"), 0);
    }
}
