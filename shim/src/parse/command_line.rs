//! What a parsed command line is: the part that goes to the master, and the part that the shim
//! itself acts upon.

use std::ffi::OsString;
use std::path::PathBuf;

use fakessh_protocol::invocation::Invocation;

/// How much is said on standard error (`LogLevel` of `ssh_config(5)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `-q`: failures only.
    Quiet,
    /// As quiet as that.
    Fatal,
    /// Errors.
    Error,
    /// Notices, too.
    #[default]
    Info,
    /// A little more.
    Verbose,
    /// `-v`, and more of it: why we do what we do.
    Debug,
}

/// What the shim itself acts upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// `-E`: the file to which diagnostics are appended.
    pub log_file: Option<PathBuf>,
    /// `-q`, `-v`, `LogLevel`.
    pub level: Level,
    /// `-n`, `-f`, `StdinNull`: the program's standard input is `/dev/null`.
    pub null_stdin: bool,
    /// `-f`, `ForkAfterAuthentication`: go to the background once the session runs.
    pub background: bool,
    /// `LocalCommand`, expanded, where `PermitLocalCommand` allows it.
    pub local_command: Option<OsString>,
    /// What is said before anything is done, without the leading `fakessh:`.
    pub notices: Vec<String>,
}

/// One `ssh` command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// For the master.
    pub invocation: Invocation,
    /// For the shim.
    pub local: Local,
    /// The command line as it came, from argv\[0\] on: the real `ssh` may have to run it.
    pub argv: Vec<OsString>,
}
