//! `exec`: whatever command runs another one whose name and arguments follow it.

use super::argument::check_word;
use super::{ArgumentError, Kind, Plan, Start};

/// `/bin/sh -c 'COMMAND "$@"' sh COMMAND-OF-OURS`: the text is the shell's, so quotes and variables
/// are what they are there.
#[derive(Debug)]
pub(super) struct Exec;

/// What is run, and what decides for the programs that it is likely to be.
const DECIDED_BY: &[&str] = &[
    "PATH",
    "HOME",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
    "CONTAINER_SSHKEY",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "KUBECONFIG",
    "AWS_PROFILE",
    "INCUS_CONF",
    "INCUS_DIR",
    "INCUS_SOCKET",
    "INCUS_REMOTE",
    "INCUS_PROJECT",
    "SSH_AUTH_SOCK",
    "KRB5CCNAME",
];

impl Kind for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn syntax(&self) -> &'static str {
        "exec:COMMAND"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
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

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        let script = format!("{argument} \"$@\"");
        Plan::of(start.words_behind(&["/bin/sh", "-c", &script, "sh"]))
    }

    fn decided_by(&self) -> &'static [&'static str] {
        DECIDED_BY
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn the_command_is_text_for_a_shell_and_ours_follows_it() {
        let words = argv(&Exec, "ip netns exec 'my net'");
        let script = "ip netns exec 'my net' \"$@\"";
        assert_eq!(words, ["/bin/sh", "-c", script, "sh", "/bin/sh", "-c", "cat"]);
        let start = Start { script: "echo $0:$#: \"$A\"".into(), marker: String::new() };
        let argv = Exec.plan("B='x  y';A=$B env", &start).argv;
        let output = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/bin/sh:0: x  y\n");
    }

    #[test]
    fn a_command_is_needed() {
        assert_eq!(wrong_at(&Exec, ""), 0);
        assert_eq!(wrong_at(&Exec, "  "), 0);
        assert_eq!(wrong_at(&Exec, "-x"), 0);
        assert_eq!(wrong_at(&Exec, "+x"), 0);
        assert_eq!(wrong_at(&Exec, "a\nb"), 1);
    }
}
