//! `scp` and `sftp`: the real ones, told to use our `ssh`. They have its path compiled in and
//! never look at `PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;

use crate::diagnostics::say;
use crate::real::NotFound;
use crate::{find, place, real};

/// The status of a shell for a program that is not there.
const NOT_FOUND: u8 = 127;

/// The status of a shell for a program that can't be run.
const NOT_EXECUTABLE: u8 = 126;

/// Becomes the real program of this name, with `-S` and the path of our `ssh` put first: a `-S`
/// of the user's own comes later and wins. It has the name that this process has, which its messages
/// begin with. Returns, with the status to exit with, only where that
/// fails.
pub(crate) fn run(name: &str, argv: &[OsString]) -> u8 {
    let argv0 = argv.first().map_or(OsStr::new(name), OsString::as_os_str);
    find::announce(argv0);
    let beside = place::directories(argv0).into_iter().map(|directory| directory.join("ssh"));
    let Some(ssh) = beside.into_iter().find(|ssh| ssh.is_file()) else {
        say(&format!("there is no ssh beside this {name}; start it with `fakessh run`"));
        return NOT_FOUND;
    };
    let mut program = match real::command(name) {
        Ok(program) => program,
        Err(NotFound::Nowhere) => {
            say(&format!("{name} is neither on PATH nor in /usr/bin; install the OpenSSH client"));
            return NOT_FOUND;
        }
        Err(NotFound::LeadsBack) => {
            say(&format!(
                "the {name} found on PATH leads back to this one; put the real {name} on PATH"
            ));
            return NOT_EXECUTABLE;
        }
    };
    let arguments = argv.get(1..).unwrap_or_default();
    let error = program.arg0(argv0).arg("-S").arg(ssh).args(arguments).exec();
    say(&format!("cannot run {}: {error}", program.get_program().display()));
    NOT_EXECUTABLE
}
