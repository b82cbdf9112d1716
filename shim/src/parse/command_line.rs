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
    /// `-M`, `ControlMaster yes`: listens for others at the ControlPath, if there is one.
    pub is_master: bool,
    /// `-e`, `EscapeChar`: the escape character of a session on a terminal, if the command line says
    /// which. `None` inside is none.
    pub escape: Option<Option<u8>>,
}

/// One `ssh` command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// For the master.
    pub invocation: Invocation,
    /// For the shim.
    pub local: Local,
    /// The command line as it came: the real `ssh` may have to run it.
    pub argv: Argv,
}

/// The words of an `ssh` command line, from argv\[0\] on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argv {
    pub(super) words: Vec<OsString>,
    /// Place of the destination.
    pub(super) host: usize,
    /// Place of the command's first word; behind the last word if there is none.
    pub(super) command: usize,
    /// Whether `--` stands before the destination.
    pub(super) host_is_marked: bool,
    /// Whether `--` stands before the command.
    pub(super) command_is_marked: bool,
}

impl Argv {
    /// The words as they came.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// The words with further options behind their own: where a first value counts, theirs does.
    pub(crate) fn with_options(&self, options: Vec<OsString>) -> Vec<OsString> {
        if options.is_empty() {
            return self.words.clone();
        }
        // `user@host` is an option as well, so that they belong behind it: ssh reads options there,
        // too, unless `--` stood before it. The parser takes no host that looks like an option.
        let before = self.host - usize::from(self.host_is_marked);
        let after = self.command - usize::from(self.command_is_marked);
        let own = [&self.words[..before], &self.words[self.host..after]].concat();
        let end = ["--".into()];
        own.into_iter()
            .chain(options)
            .chain(end)
            .chain(self.words[self.command..].to_vec())
            .collect()
    }
}
