//! The command line of `ssh(1)`: all letters, `-o`, options behind the host, URIs.
//!
//! Checked against OpenSSH 10, and where versions differ (`-P`) the newer one counts. Values that
//! only say how to get to the host are not looked into: `ssh -G` does that where it matters.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use fakessh_protocol::printable;
use thiserror::Error;

mod command_line;
mod config_line;
mod destination;
mod expand;
mod finish;
mod keyword;
mod letter;
mod settings;

pub use command_line::{Argv, CommandLine, Level, Local};
use letter::Next;
pub use letter::takes_value;
use settings::Settings;

/// What the parser has to know beside the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The environment, whole, as name and value.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory, absolute.
    pub directory: Vec<u8>,
}

impl Surroundings {
    /// Those of this process. A working directory that was removed is empty.
    pub fn current() -> Surroundings {
        let directory = env::current_dir().unwrap_or_default();
        Surroundings {
            environment: current_environment(),
            directory: directory.into_os_string().into_vec(),
        }
    }
}

/// The environment of this process, as an invocation carries it.
pub fn current_environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect()
}

/// What a command line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A session, or a question to the master (`-O`, `-G`).
    Session(Box<CommandLine>),
    /// Something that only the real `ssh` can answer, about itself: no host (its usage text), `-V`,
    /// `-Q`. Holds the command line as it came.
    RealSsh(Vec<OsString>),
}

/// A command line that `ssh` refuses, with status 255. The message is one line, in its words.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    fn new(message: impl Into<String>) -> UsageError {
        // It quotes words that may hold anything, and is one line all the same.
        UsageError(printable::word(&message.into(), printable::MAX_LINE))
    }
}

/// Parses a command line, `args[0]` being the program's name.
///
/// An option that can't be honoured yet is no error: `Invocation::unserved` names the first.
///
/// # Errors
/// [`UsageError`] where `ssh` itself would refuse.
pub fn parse(args: Vec<OsString>, surroundings: Surroundings) -> Result<Parsed, UsageError> {
    parse_with(args, surroundings, |_| false)
}

/// As [`parse`], for a command line that a person has typed: a destination for which `is_route`
/// says yes is the host of the result as it is, and is not looked into.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    args: Vec<OsString>,
    surroundings: Surroundings,
    is_route: impl FnOnce(&str) -> bool,
) -> Result<Parsed, UsageError> {
    let mut settings = Settings::default();
    let words: Vec<&[u8]> = args.iter().skip(1).map(|word| word.as_bytes()).collect();
    let mut words = words.as_slice();

    let terminated = match settings.options(&mut words)? {
        Next::RealSsh => return Ok(Parsed::RealSsh(args)),
        Next::Words { terminated } => terminated,
    };
    let Some((host, rest)) = words.split_first() else { return Ok(Parsed::RealSsh(args)) };
    let host_at = args.len() - words.len();
    let host = match std::str::from_utf8(host) {
        Ok(route) if is_route(route) => route.to_owned(),
        _ => settings.destination(host)?,
    };
    words = rest;
    let mut command_is_marked = false;
    if !terminated {
        match settings.options(&mut words)? {
            Next::RealSsh => return Ok(Parsed::RealSsh(args)),
            Next::Words { terminated } => command_is_marked = terminated,
        }
    }
    let command = args.len() - words.len();
    let (invocation, local) = settings.finish(host, words, surroundings)?;
    let argv =
        Argv { words: args, host: host_at, command, host_is_marked: terminated, command_is_marked };
    Ok(Parsed::Session(Box::new(CommandLine { invocation, local, argv })))
}

/// Whether these words, without the program's name, ask for the version and nothing else.
pub(crate) fn is_version_request(words: &[OsString]) -> bool {
    words.first().is_some_and(|word| word == OsStr::new("-V"))
}

#[cfg(test)]
mod tests;
