//! Which program a subsystem is: the one that sshd would run, else an `sftp-server` in one of its
//! usual places, else the slave itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Access, access};

/// sshd's configuration.
const CONFIGURATION: &str = "/etc/ssh/sshd_config";

/// Most bytes of it that are read.
const MAX_CONFIGURATION: u64 = 256 * 1024;

/// Where distributions keep `sftp-server`: Debian, Arch and SUSE, Fedora and RHEL, Alpine and
/// Gentoo, BSD's ports, a build from source.
const SFTP_SERVERS: [&str; 8] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib64/ssh/sftp-server",
    "/usr/lib/sftp-server",
    "/usr/lib/misc/sftp-server",
    "/usr/local/libexec/sftp-server",
];

/// The subsystem that is always the slave's own SFTP server: `sftp -s fakessh-sftp`.
const OUR_SFTP: &str = "fakessh-sftp";

/// Whether the slave serves the subsystem of this name itself: SFTP, if the target has no program
/// for it.
pub(crate) fn is_ours(name: &str) -> bool {
    name == OUR_SFTP || (name == "sftp" && command(name).is_none())
}

/// The shell's command line for the subsystem of this name, or `None` if the target has none.
pub(crate) fn command(name: &str) -> Option<String> {
    let mut configuration = String::new();
    if let Ok(file) = File::open(CONFIGURATION) {
        // A file that can't be read, or is no text, configures nothing.
        let _ = file.take(MAX_CONFIGURATION).read_to_string(&mut configuration);
    }
    configured(&configuration, name).filter(|command| can_run(command)).or_else(|| {
        let usual = SFTP_SERVERS.iter().filter(|_| name == "sftp");
        usual.copied().find(|path| is_executable(Path::new(path))).map(str::to_owned)
    })
}

/// The command of the first `Subsystem NAME COMMAND` (sshd_config(5)).
fn configured(configuration: &str, name: &str) -> Option<String> {
    configuration.lines().find_map(|line| {
        let (keyword, rest) = split_word(line.trim())?;
        let (subsystem, command) = split_word(rest)?;
        let is_it = keyword.eq_ignore_ascii_case("subsystem") && subsystem == name;
        let command = command.split(" #").next().unwrap_or_default().trim();
        (is_it && !command.is_empty()).then(|| command.to_owned())
    })
}

/// The first word, which may be in quotes, and the text after it. sshd allows one `=` between a
/// keyword and its value.
fn split_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let (word, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => text.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((text, "")),
    };
    let rest = rest.trim_start();
    Some((word, rest.strip_prefix('=').unwrap_or(rest).trim_start()))
}

/// Whether a command's program exists. sshd's built-in server has no program.
fn can_run(command: &str) -> bool {
    split_word(command).is_some_and(|(program, _)| {
        program != "internal-sftp"
            && (!program.starts_with('/') || is_executable(Path::new(program)))
    })
}

/// Whether we may execute this file.
pub(crate) fn is_executable(path: &Path) -> bool {
    access(path, Access::EXEC_OK).is_ok() && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshds_configuration_names_the_command() {
        let text = "# Subsystem sftp /no\nPort 22\n\tsubsystem  sftp\t/usr/lib/sftp-server -e\n\
            Subsystem sftp /later\nSubsystem=other \"/opt/my server\" -x # comment\n";
        assert_eq!(configured(text, "sftp").as_deref(), Some("/usr/lib/sftp-server -e"));
        assert_eq!(configured(text, "other").as_deref(), Some("\"/opt/my server\" -x"));
        assert_eq!(configured(text, "none"), None);
    }

    #[test]
    fn our_server_can_be_asked_for_by_name() {
        assert!(is_ours("fakessh-sftp"));
        assert!(!is_ours("netconf"));
    }

    #[test]
    fn a_command_without_a_program_is_none() {
        assert!(!can_run("internal-sftp -l INFO"));
        assert!(!can_run("/nonexistent/sftp-server"));
        assert!(can_run("/bin/sh -c true"));
        assert!(can_run("\"/bin/sh\" -c true"));
    }
}
