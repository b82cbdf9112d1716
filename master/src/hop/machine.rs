//! `machine`: inside a container of systemd-nspawn, or another one that systemd-machined knows.

use super::argument::check_name;
use super::{Kind, PlaceName};

/// A shell that asks `machinectl` for the machine's first process, and has `nsenter -a -t PID`
/// run the command in its namespaces. `machinectl shell` would make a terminal.
pub(super) const MACHINE: Kind = Kind {
    place: |argument| PlaceName::Own(argument),
    ..Kind::new(
        "machine",
        "machine:NAME",
        |argument| check_name(argument, "the machine's name"),
        |argument, start| start.after(&["/bin/sh", "-c", SCRIPT, "sh", argument]),
    )
};

/// Its arguments are the machine's name and the command. Complaints of machinectl come through.
const SCRIPT: &str = "p=$(machinectl show -p Leader --value \"$1\")||exit 1;\
                      case $p in \"\"|0|*[!0-9]*) echo \"machine $1 does not run\">&2;exit 1;;esac;\
                      shift;exec nsenter -a -t \"$p\" -- \"$@\"";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::tests::{argv, start, wrong_at};
    use super::*;

    #[test]
    fn a_machine_is_entered_by_its_leader() {
        let words = argv(&MACHINE, "box");
        assert_eq!(words[..2], ["/bin/sh", "-c"]);
        assert_eq!(words[3..], ["sh", "box", "/bin/sh", "-c", "cat"]);
        assert_eq!(wrong_at(&MACHINE, "a b"), 1);
    }

    /// Runs the plan with a machinectl that prints this, and an nsenter that prints its arguments.
    fn run(machinectl: &str) -> (Option<i32>, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let programs = [("machinectl", machinectl), ("nsenter", "printf '<%s>' \"$@\"")];
        for (name, script) in programs {
            // Written by another process: what a program that another test just starts has
            // inherited open for writing can't be run.
            let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\"; chmod 755 \"$1\"";
            let path = directory.path().join(name);
            let mut sh = Command::new("sh");
            assert!(sh.args(["-c", write, "sh"]).arg(path).arg(script).status().unwrap().success());
        }
        let argv = MACHINE.plan("box", &start()).argv;
        let mut command = Command::new(&argv[0]);
        let output = command.args(&argv[1..]).env("PATH", directory.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn the_script_passes_the_leader_and_the_command_on() {
        let (status, out, err) = run("[ \"$*\" = 'show -p Leader --value box' ]&&echo 4711");
        assert_eq!(out, "<-a><-t><4711><--></bin/sh><-c><cat>", "{err}");
        assert_eq!(status, Some(0));
    }

    #[test]
    fn a_machine_that_does_not_run_is_an_error() {
        for says in ["echo 0", "echo", "echo 1 2"] {
            let expected = (Some(1), String::new(), "machine box does not run\n".to_owned());
            assert_eq!(run(says), expected, "{says}");
        }
        let (status, out, err) = run("echo \"No machine 'box' known\" >&2;exit 1");
        assert_eq!((status, out.as_str()), (Some(1), ""));
        assert_eq!(err, "No machine 'box' known\n");
    }
}
