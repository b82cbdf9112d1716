//! Runs programs in a context from Rust, in the manner of `std::process::Command`.

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{ProgramKind, Refusal};
use thiserror::Error;

use crate::context::{Context, SessionCount};
use crate::link::{Chunk, LinkLost, Outcome, Receiver, SessionIo};

/// Why a program's end is not known, or its output not whole.
#[derive(Clone, Debug, Error)]
pub enum CommandError {
    /// The connection was lost; what became of the program is unknown.
    #[error(transparent)]
    Lost(#[from] LinkLost),
    /// It was never started.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Its output was cut short though it ended.
    #[error("the program's output was cut short")]
    Cut,
}

/// What a program printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A program to be run in a context.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    context: &'a Context,
    program: ProgramKind,
    environment: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Context {
    /// A command line for the account's login shell, as `ssh HOST COMMAND` runs it: in the home
    /// directory, with the login environment. Nothing is quoted.
    pub fn command(&self, command: impl AsRef<[u8]>) -> Command<'_> {
        let program = ProgramKind::Shell(command.as_ref().to_vec());
        Command { context: self, program, environment: Vec::new() }
    }

    /// A program, looked for on the account's `PATH`, with its arguments as they are: no shell is in
    /// between. It runs in the home directory, with the login environment.
    ///
    /// In a context without a slave the server knows shells only: the words are quoted for the
    /// account's, and a program that is not there is what that shell says of it.
    pub fn program<T: AsRef<[u8]>>(&self, argv: impl IntoIterator<Item = T>) -> Command<'_> {
        let argv = argv.into_iter().map(|word| word.as_ref().to_vec()).collect();
        Command { context: self, program: ProgramKind::Program(argv), environment: Vec::new() }
    }

    /// A subsystem by its name, such as `sftp`.
    pub fn subsystem(&self, name: impl Into<String>) -> Command<'_> {
        let program = ProgramKind::Subsystem(name.into());
        Command { context: self, program, environment: Vec::new() }
    }
}

impl Command<'_> {
    /// Adds a variable to the login environment. `USER`, `LOGNAME`, `HOME`, `SHELL` and `LD_*` are
    /// left as the account has them.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.environment.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Starts it. The request is on its way when this returns; nothing is waited for, and standard
    /// input may follow at once.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn spawn(self) -> Result<(SessionIo, SessionCount), LinkLost> {
        self.context.open(self.program, self.environment)
    }

    /// Runs it to its end with an empty standard input, and collects what it prints.
    ///
    /// Memory grows with the output; for a lot of it take [`Command::spawn`]. Cancelled, it hangs
    /// the program up.
    ///
    /// # Errors
    /// [`CommandError`]. A status other than 0 is none.
    pub async fn output(self) -> Result<Output, CommandError> {
        let (session, _running) = self.spawn()?;
        let SessionIo { stdin, stdout, stderr, mut control } = session;
        stdin.finish();
        let (stdout, stderr, outcome) =
            tokio::join!(collect(stdout), collect(stderr), control.outcome());
        let status = match outcome {
            Outcome::Exited(status) => status,
            Outcome::Refused(refusal) => return Err(CommandError::Refused(refusal)),
            Outcome::Lost(lost) => return Err(CommandError::Lost(lost)),
        };
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else { return Err(CommandError::Cut) };
        Ok(Output { status, stdout, stderr })
    }
}

async fn collect(mut receiver: Receiver) -> Option<Vec<u8>> {
    let mut collected = Vec::new();
    loop {
        match receiver.receive().await {
            Chunk::Data(bytes) => {
                collected.extend_from_slice(&bytes);
                receiver.consumed(bytes.len());
            }
            Chunk::End => return Some(collected),
            Chunk::Cut => return None,
        }
    }
}
