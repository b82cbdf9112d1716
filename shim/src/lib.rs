//! The program that tools take for `ssh`, `scp` and `sftp`.
//!
//! A tool runs `ssh`. The shim [parses](parse) the command line, [finds](find) the master, sends
//! it the invocation and its own standard input, output and error in one datagram, and from
//! then on only [waits](session): for questions to [ask](prompt), signals to pass on, and the
//! status to exit with. No thread, no timer, no async, no configuration: it starts in half a
//! millisecond and waits in one blocked call.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use fakessh_protocol::exit::TRANSPORT_FAILURE;

use diagnostics::Diagnostics;
use parse::CommandLine;

pub mod diagnostics;
pub mod find;
pub mod parse;
mod place;
pub mod prompt;
mod real;
pub mod session;
mod sys;
mod tool;

/// One of the programs that the shim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ssh`.
    Ssh,
    /// `scp`.
    Scp,
    /// `sftp`.
    Sftp,
}

impl Program {
    /// The one that has this path, or name.
    pub fn named(path: &OsStr) -> Option<Program> {
        match Path::new(path).file_name().unwrap_or_default().as_bytes() {
            b"ssh" => Some(Program::Ssh),
            b"scp" => Some(Program::Scp),
            b"sftp" => Some(Program::Sftp),
            _ => None,
        }
    }

    /// The one that this process was started as: by its `argv[0]`, else by the path that was
    /// executed (`exec -a` renames), else by what that leads to: tools link to `ssh`.
    pub fn started(argv0: Option<&OsStr>) -> Option<Program> {
        let named = argv0.and_then(Program::named);
        named.or_else(|| place::executed().find_map(|path| Program::named(path.as_os_str())))
    }
}

/// Is this program, and returns the status to exit with.
///
/// The process is the shim's from here on: see [`session::run`].
pub fn main(program: Program, args: Vec<OsString>) -> u8 {
    if let Err(error) = session::hold_standard_descriptors() {
        diagnostics::say(&format!("cannot open /dev/null: {error}"));
        return TRANSPORT_FAILURE;
    }
    match program {
        Program::Ssh => {
            ssh_over(args, |line| find_master(line).map(Some).map_err(|error| error.to_string()))
        }
        Program::Scp => tool::run("scp", &args),
        Program::Sftp => tool::run("sftp", &args),
    }
}

/// The name that a program was called by.
fn argv0(args: &[OsString]) -> &OsStr {
    args.first().map_or(OsStr::new(""), OsString::as_os_str)
}

/// As [`find::find`], for this command line.
///
/// # Errors
/// [`find::NotFound`].
pub fn find_master(line: &CommandLine) -> Result<OwnedFd, find::NotFound> {
    find::find(argv0(line.argv.words()))
}

/// Is `ssh`, with a connection to the master that `connect` makes once the command line is
/// understood; its error is one line. If it makes none, this is the real `ssh`.
pub fn ssh_over(
    args: Vec<OsString>,
    connect: impl FnOnce(&CommandLine) -> Result<Option<OwnedFd>, String>,
) -> u8 {
    ssh_typed(args, |_| false, |line| connect(line))
}

/// As [`ssh_over`], for a command line that a person has typed: a destination for which `is_route`
/// says yes is left to `connect`, which may change the command line that is handed over.
pub fn ssh_typed(
    args: Vec<OsString>,
    is_route: impl FnOnce(&str) -> bool,
    connect: impl FnOnce(&mut CommandLine) -> Result<Option<OwnedFd>, String>,
) -> u8 {
    let name = argv0(&args).to_owned();
    let surroundings = parse::Surroundings::current();
    let mut command_line = match parse::parse_with(args, surroundings, is_route) {
        Ok(parse::Parsed::Session(command_line)) => *command_line,
        Ok(parse::Parsed::RealSsh(argv)) => {
            find::announce(&name);
            return real::ssh(&argv);
        }
        Err(error) => {
            find::announce(&name);
            diagnostics::say(&error.to_string());
            return TRANSPORT_FAILURE;
        }
    };
    match connect(&mut command_line) {
        Ok(Some(socket)) => session::run(command_line, socket),
        Ok(None) => real::ssh(command_line.argv.words()),
        Err(error) => {
            match Diagnostics::open(&command_line.local) {
                Ok(diagnostics) => diagnostics.failed(&error),
                Err(_) => diagnostics::say(&error),
            }
            TRANSPORT_FAILURE
        }
    }
}
