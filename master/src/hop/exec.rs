//! `exec`: any command that runs another one whose words follow.

use super::argument::check_word;
use super::{ArgumentError, Kind, Variables};

/// `/bin/sh -c 'COMMAND "$@"' sh COMMAND-OF-OURS`: the text is the shell's, so it may hold quotes
/// and variables.
pub(super) const EXEC: Kind = Kind {
    // The command may be that of any other hop.
    variables: Variables::OfAllAnd(&["PATH"]),
    ..Kind::new("exec", "exec:COMMAND", check, |argument, start| {
        start.after(&["/bin/sh", "-c", &format!("{argument} \"$@\""), "sh"])
    })
};

fn check(argument: &str) -> Result<(), ArgumentError> {
    check_word(argument, "the command")?;
    if argument.starts_with('+') {
        let message = "the command begins with '+', which would make it an option of the shell";
        return Err(ArgumentError::new(0, message));
    }
    if argument.trim().is_empty() {
        return Err(ArgumentError::new(0, "the command is missing here"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::Start;
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn the_command_is_text_for_a_shell_and_ours_follows_it() {
        let words = argv(&EXEC, "ip netns exec 'my net'");
        let script = "ip netns exec 'my net' \"$@\"";
        assert_eq!(words, ["/bin/sh", "-c", script, "sh", "/bin/sh", "-c", "cat"]);
        let start = Start { script: "echo $0:$#: \"$A\"".into(), marker: String::new() };
        let argv = EXEC.plan("B='x  y';A=$B env", &start).argv;
        let output = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/bin/sh:0: x  y\n");
    }

    #[test]
    fn a_command_is_needed() {
        assert_eq!(wrong_at(&EXEC, ""), 0);
        assert_eq!(wrong_at(&EXEC, "  "), 0);
        assert_eq!(wrong_at(&EXEC, "-x"), 0);
        assert_eq!(wrong_at(&EXEC, "+x"), 0);
        assert_eq!(wrong_at(&EXEC, "a\nb"), 1);
    }
}
