//! What every program of the slave gets: the account's environment, home directory and limits.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use fakessh_protocol::message::{Hello, ProgramSetup, Refusal, RefusalReason};
use fakessh_protocol::terminal::TerminalRequest;
use rustix::io::Errno;
use rustix::process::Rlimit;

use super::account::Account;
use crate::sys::{self, ChildSetup};

/// Variables as name and value, in order.
pub(crate) type Variables = [(Vec<u8>, Vec<u8>)];

/// Variables that a shell sets for itself: here they are those of another process.
const NOT_INHERITED: [&str; 4] = ["OLDPWD", "PWD", "SHLVL", "_"];

/// How our own variables begin.
const OUR_PREFIX: &[u8] = b"FAKESSH_";

/// Variables that no invocation may set: they say who the account is.
const NOT_SETTABLE: [&[u8]; 4] = [b"USER", b"LOGNAME", b"HOME", b"SHELL"];

/// Where sshd looks for programs (its `_PATH_STDPATH`), for a target that sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What every program of this slave gets, and who it runs as.
#[derive(Debug)]
pub(crate) struct Launcher {
    account: Account,
    environment: Vec<(OsString, OsString)>,
    child_setup: ChildSetup,
    /// The file that this process runs, or why it could not be opened.
    program: Result<File, Errno>,
}

impl Launcher {
    /// A launcher for programs of this account, with this limit of descriptors and our own
    /// environment. `program` is the file that this process runs.
    pub(crate) fn new(
        account: Account,
        descriptors: Rlimit,
        program: Result<File, Errno>,
    ) -> Launcher {
        let directory = CString::new(account.home.clone()).unwrap_or_else(|_| c"/".to_owned());
        let environment = login_environment(&account);
        Launcher {
            account,
            environment,
            child_setup: ChildSetup { directory, starts_in: None, descriptors },
            program,
        }
    }

    /// Tells the master who we are.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            user: String::from_utf8_lossy(&self.account.name).into_owned(),
            uid: self.account.uid,
            home: String::from_utf8_lossy(&self.account.home).into_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(),
        }
    }

    /// Gives a program the login's environment with the kind of its terminal and the variables of
    /// its setup, its directory, and all else that every program gets.
    pub(crate) fn prepare(&self, command: &mut Command, setup: &ProgramSetup) {
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(TerminalRequest { term, .. }) = &setup.terminal
            && !term.is_empty()
        {
            command.env("TERM", OsStr::from_bytes(term));
        }
        // What the invocation sets counts more (SetEnv TERM).
        command.envs(settable(&setup.environment));
        sys::prepare_child(command, self.child_setup(setup));
    }

    /// The value of a variable in the login's environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let (_, value) = self.environment.iter().find(|(other, _)| other == name)?;
        Some(value)
    }

    /// What a variable is for a program that gets `variables`.
    pub(crate) fn value(&self, variables: &Variables, name: &str) -> Option<OsString> {
        let given = variables.iter().rev().find(|(other, _)| other == name.as_bytes());
        let given = given.map(|(_, value)| OsStr::from_bytes(value));
        given.or_else(|| self.variable(name)).map(OsStr::to_owned)
    }

    /// The account's login shell.
    pub(super) fn shell(&self) -> &OsStr {
        self.account.shell()
    }

    /// The account's home directory.
    pub(crate) fn home(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.account.home))
    }

    /// The file that this process runs, open for reading. Its name is gone from the disk.
    ///
    /// # Errors
    /// If it could not be opened when the slave started.
    pub(crate) fn program(&self) -> io::Result<&File> {
        self.program.as_ref().map_err(|error| (*error).into())
    }

    /// The working directory and the limits of a program.
    pub(super) fn child_setup(&self, setup: &ProgramSetup) -> ChildSetup {
        let starts_in = (!setup.directory.is_empty())
            .then(|| CString::new(setup.directory.clone()).unwrap_or_else(|_| c"/".to_owned()));
        ChildSetup { starts_in, ..self.child_setup.clone() }
    }

    /// Whether a program can start in the directory of its setup.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(super) fn check_directory(&self, setup: &ProgramSetup) -> Result<(), Refusal> {
        if setup.directory.is_empty() {
            return Ok(());
        }
        let directory = self.home().join(OsStr::from_bytes(&setup.directory));
        let refused = |reason, why: String| {
            let message = format!("can't start in {}: {why}", directory.display());
            Err(Refusal { reason, message })
        };
        match std::fs::metadata(&directory) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => refused(RefusalReason::NotFound, "it is no directory".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refused(RefusalReason::NotFound, error.to_string())
            }
            Err(error) => refused(RefusalReason::Other, error.to_string()),
        }
    }
}

/// Our own environment, without variables of ours or of this process alone. Variables that sshd
/// sets from the account's entry are added if they are missing.
fn login_environment(account: &Account) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = env::vars_os()
        .filter(|(name, _)| {
            !NOT_INHERITED.iter().any(|other| name == other)
                && !name.as_bytes().starts_with(OUR_PREFIX)
        })
        .collect();
    let login: [(&str, &[u8]); 5] = [
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("HOME", &account.home),
        ("SHELL", &account.shell),
        ("PATH", DEFAULT_PATH.as_bytes()),
    ];
    for (name, value) in login {
        if !environment.iter().any(|(other, _)| other == name) {
            environment.push((name.into(), OsStr::from_bytes(value).to_owned()));
        }
    }
    environment
}

/// The variables that an invocation may set.
pub(super) fn settable(variables: &Variables) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    variables
        .iter()
        .filter(|(name, value)| may_set(name, value))
        .map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value)))
}

/// Whether this is a variable at all, and whether an invocation may set it.
fn may_set(name: &[u8], value: &[u8]) -> bool {
    let is_variable = !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
    is_variable && !value.contains(&0) && !name.starts_with(b"LD_") && !NOT_SETTABLE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_say_who_we_are_or_what_to_load_are_not_set() {
        assert!(may_set(b"LC_ALL", b"C") && may_set(b"EMPTY", b""));
        for name in [&b"LD_PRELOAD"[..], b"HOME", b"USER", b"LOGNAME", b"SHELL", b"", b"A=B"] {
            assert!(!may_set(name, b"x"), "{name:?}");
        }
        assert!(!may_set(b"A", b"nul\0"));
    }
}
