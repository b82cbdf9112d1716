//! The real `ssh`, `scp` and `sftp`, for what is theirs: found on `PATH` with ourselves left out.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fakessh_protocol::exit::TRANSPORT_FAILURE;

use crate::diagnostics::say;
use crate::parse::is_version_request;
use crate::place;

/// How often we have become the real `ssh` on the way to this process, and in which process last.
/// A wrapper on `PATH` that leads back to us would go round for ever.
const GUARD: &str = "FAKESSH_REAL_SSH";

/// Most times that the real `ssh` may lead back to us: a ProxyCommand that calls `ssh` does so
/// rightly, once a jump.
const MAX_ROUNDS: u32 = 8;

/// Where the programs are where `PATH` does not say.
const USUAL_PLACE: &str = "/usr/bin";

/// Becomes the real `ssh`, with the command line as it came. Returns, with the status to exit
/// with, only where that fails.
pub(crate) fn ssh(argv: &[OsString]) -> u8 {
    let guard = match next_guard(env::var(GUARD).ok().as_deref(), std::process::id()) {
        Ok(guard) => guard,
        Err(text) => {
            say(text);
            return TRANSPORT_FAILURE;
        }
    };
    let arguments = argv.get(1..).unwrap_or_default();
    if let Some(program) = find("ssh") {
        let error = Command::new(&program).args(arguments).env(GUARD, guard).exec();
        say(&format!("cannot run {}: {error}", program.display()));
    } else if is_version_request(arguments) {
        say(concat!("version ", env!("CARGO_PKG_VERSION"), "; there is no OpenSSH client here"));
        return 0;
    } else {
        say("this command line is for the real ssh, and none is on PATH or in /usr/bin");
    }
    TRANSPORT_FAILURE
}

/// The value of [`GUARD`] for the program that we are about to become, from its value now.
fn next_guard(now: Option<&str>, pid: u32) -> Result<String, &'static str> {
    let (last, rounds) = now.and_then(|value| value.split_once(' ')).unwrap_or(("", "0"));
    let rounds: u32 = rounds.parse().unwrap_or(0);
    if last == pid.to_string() || rounds >= MAX_ROUNDS {
        return Err("the ssh found on PATH leads back to this one; put the real ssh on PATH");
    }
    Ok(format!("{pid} {}", rounds + 1))
}

/// Finds a program on `PATH`, else in the usual place, that is not this one.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let ourselves = fs::metadata("/proc/self/exe").ok();
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain([PathBuf::from(USUAL_PLACE)]);
    directories
        .filter(|directory| directory.is_absolute() && !place::is_run_directory(directory))
        .map(|directory| directory.join(name))
        .find(|program| is_other_program(program, ourselves.as_ref()).unwrap_or(false))
}

fn is_other_program(program: &Path, ourselves: Option<&fs::Metadata>) -> io::Result<bool> {
    let found = fs::metadata(program)?;
    let executable = found.is_file() && found.mode() & 0o111 != 0;
    let same = ourselves.is_some_and(|us| us.dev() == found.dev() && us.ino() == found.ino());
    Ok(executable && !same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_round_is_noticed() {
        let first = next_guard(None, 10).unwrap();
        assert_eq!(first, "10 1");
        assert!(next_guard(Some(&first), 10).is_err());
        assert_eq!(next_guard(Some(&first), 11).unwrap(), "11 2");
        assert!(next_guard(Some("9 8"), 10).is_err());
        assert_eq!(next_guard(Some("nonsense"), 10).unwrap(), "10 1");
    }
}
