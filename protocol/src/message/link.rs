//! The conversation between the master and a slave.

use serde::{Deserialize, Serialize};

use crate::exit::ExitStatus;
use crate::wire::Handle;

/// The first message on a link, from the slave, right behind its marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name of the account that the slave runs as, from the password database.
    pub user: String,
    /// Its numeric user id.
    pub uid: u32,
    /// Its home directory.
    pub home: String,
    /// The slave's process id on the target.
    pub pid: u32,
}

/// How a link is kept. The master's first message, on [`Handle::LINK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSettings {
    /// Milliseconds between two looks at whether the other end still speaks; 0 for never.
    pub keepalive_ms: u32,
    /// Milliseconds without a byte from the master after which the slave ends itself and all
    /// that it started; 0 for never.
    pub silence_ms: u32,
}

/// The handles of one session. The master picks them, all different and not used for long, and
/// sends at once. So a slave opens them whatever becomes of the program, and where there is none
/// it stops `stdin` and resets `stdout` and `stderr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHandles {
    /// Messages of the session, both ways.
    pub control: Handle,
    /// To the program's standard input.
    pub stdin: Handle,
    /// From its standard output.
    pub stdout: Handle,
    /// From its standard error.
    pub stderr: Handle,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramKind {
    /// A command line for the account's login shell: `SHELL -c STRING`, as sshd does.
    Shell(Vec<u8>),
    /// The account's login shell itself (its argv\[0\] begins with `-`), with no terminal.
    Login,
    /// A subsystem by name (`sftp`). Its standard error is dropped, as sshd does.
    Subsystem(String),
}

/// Start a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Where its streams and messages go.
    pub handles: SessionHandles,
    /// What to start.
    pub program: ProgramKind,
    /// Variables to add to the login environment, as name and value, in order.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
}

/// From the master to a slave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSlave {
    /// On [`Handle::LINK`], once, first.
    Settings(LinkSettings),
    /// On the new session's control handle.
    Spawn(Spawn),
    /// Send this signal (1 to 64) to the session's process group.
    Signal(u8),
    /// The invoker is gone: end what the session started.
    Hangup,
}

/// Why a program was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalReason {
    /// The shell or the subsystem's program does not exist on the target.
    NotFound,
    /// A limit of the target: descriptors, processes, memory, length of the command.
    Limit,
    /// Anything else.
    Other,
}

/// A program was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which kind of failure it was.
    pub reason: RefusalReason,
    /// One line that says what was tried, and what failed.
    pub message: String,
}

/// From a slave to the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMaster {
    /// On [`Handle::LINK`], once, first.
    Hello(Hello),
    /// On a control handle, after the last byte of the program's output: the session is over.
    Exited(ExitStatus),
    /// On a control handle, instead of any output: the session is over.
    Refused(Refusal),
}
