//! The conversation between the master and a slave.

use serde::{Deserialize, Serialize};

use super::shim::{FromShim, Handoff, Secret, ToShim};
use crate::connection::Connection;
use crate::counted;
use crate::exit::ExitStatus;
use crate::failure::FailureKind;
use crate::forward::Listen;
use crate::handles::SessionHandles;
use crate::terminal::{TerminalRequest, WindowSize};
use crate::wire::{self, Handle, WireError};

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
    /// Milliseconds between two looks at whether the other end still answers; 0 for never.
    pub keepalive_ms: u32,
    /// Milliseconds without a byte from the master after which the slave ends itself and all
    /// that it started; 0 for never.
    pub silence_ms: u32,
}

/// Most reverse sessions at once of a slave: what tools start in parallel, many times over. Each
/// takes some kilobytes of the master, and up to seven descriptors and three processes there.
pub const MAX_REVERSE: usize = 1024;

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramKind {
    /// A command line for the account's login shell: `SHELL -c STRING`, as sshd does.
    Shell(#[serde(with = "counted::bytes")] Vec<u8>),
    /// The account's login shell itself (its argv\[0\] begins with `-`), with no terminal.
    Login,
    /// A subsystem by name (`sftp`). Its standard error is dropped, as sshd does. Where the target
    /// has no program for `sftp`, the slave serves it itself.
    Subsystem(String),
    /// What leads to another account or into a container: its standard input and output are the
    /// stream of a link.
    Helper(Helper),
    /// A connection that the slave opens: standard input goes there, and what comes from there is
    /// standard output. Why it fails stands on standard error, with status 1.
    Connection(Connection),
    /// A tool whose `ssh`, `scp` and `sftp` lead back to the master ([`StartReverse`]).
    Tool(Tool),
    /// A program, looked for on the account's `PATH`, and its arguments. No shell is in between.
    Program(#[serde(with = "counted::words")] Vec<Vec<u8>>),
}

/// The helper of a hop: `sudo`, `docker exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// The program, looked for on the account's `PATH` and where administrators' programs lie, and
    /// its arguments.
    #[serde(with = "counted::words")]
    pub argv: Vec<Vec<u8>>,
    /// Which terminal it gets.
    pub terminal: HelperTerminal,
    /// Whether the slave's own program goes to its standard input before anything else: it starts
    /// a slave at the far end, and nothing crosses the network again.
    pub carries: bool,
}

/// The terminal of a helper, which it asks for a password on. What is written to it comes on the
/// session's handle for standard error; [`ToSlave::Type`] types into it. It is raw and without
/// echo, and stays open as long as the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelperTerminal {
    /// None: standard error is a pipe.
    None,
    /// It is the controlling terminal and standard error; standard input and output are pipes.
    /// Where the target has no terminal to give, as [`HelperTerminal::None`]: most who ask for no
    /// password need none.
    Controlling,
    /// It is the controlling terminal and all three standard descriptors. The stream is on
    /// descriptors 3 (to be read) and 4 (to be written).
    Whole,
}

/// A tool that runs on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The program, looked for on the account's `PATH`, and its arguments. No shell is in between.
    #[serde(with = "counted::words")]
    pub argv: Vec<Vec<u8>>,
}

/// Start a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Where its streams and messages go.
    pub handles: SessionHandles,
    /// What to start.
    pub program: ProgramKind,
    /// What it gets beside its streams.
    pub setup: ProgramSetup,
}

/// What a program gets beside its streams. By default that is what every program of the account
/// has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSetup {
    /// Variables to add to the login environment, as name and value, in order.
    #[serde(with = "counted::variables")]
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// The directory to start in, from the home directory if it is relative. Empty is the home
    /// directory itself.
    #[serde(with = "counted::bytes")]
    pub directory: Vec<u8>,
    /// The terminal to start on: it is the controlling terminal and all three standard streams.
    /// What is written on it comes on the handle for standard output.
    pub terminal: Option<TerminalRequest>,
    /// The control handle of the [`ToSlave::ListenForAgent`] whose socket is the program's agent.
    pub agent: Option<Handle>,
}

impl From<Vec<(Vec<u8>, Vec<u8>)>> for ProgramSetup {
    /// These variables, and nothing else.
    fn from(environment: Vec<(Vec<u8>, Vec<u8>)>) -> ProgramSetup {
        ProgramSetup { environment, ..ProgramSetup::default() }
    }
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
    /// Type this into the terminal of the session's helper, and a line feed behind it.
    Type(Secret),
    /// On the control handle of a reverse session: a message for its shim. The slave passes
    /// [`ToShim::Exited`] on when the shim's descriptors have all that came for them; after that,
    /// and after [`ToShim::Failed`], the session is over. Never [`ToShim::RealSsh`]. The master
    /// sends either of the two when it has closed the handles of standard output and error.
    ToShim(ToShim),
    /// The session's terminal has another size now.
    Resize(WindowSize),
    /// On a new control handle, of whose row nothing else is used: listen on this, and answer with
    /// [`ToMaster::Listening`] or [`ToMaster::Refused`]. [`ToSlave::Hangup`] ends it; connections
    /// that have come in go on.
    Listen(Listen),
    /// As [`ToSlave::Listen`], on a Unix socket in a directory that only the account can enter. It
    /// stands for an agent.
    ListenForAgent,
}

/// A connection came in on a socket that the slave listens on: the slave starts a reverse session
/// of its bytes. On the new session's control handle, which the slave picks.
///
/// The slave sends the peer's bytes on `stdin`, and the master on `stdout`; `stderr` is not used.
/// The session is over as that of a shim is: with [`ToShim::Exited`], [`ToShim::Failed`] or
/// [`ToMaster::Gone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The control handle of [`ToSlave::Listen`].
    pub listener: Handle,
    /// The new session's handles.
    pub handles: SessionHandles,
    /// The address and the port that the connection comes from, to be shown to people.
    pub from: String,
}

/// Most bytes of [`Accepted::from`]: a Unix socket's path is the longest of them.
pub const MAX_ORIGIN: usize = 256;

/// A tool on the target has called `ssh`: the slave starts a reverse session, as its invoker. On the
/// new session's control handle, which the slave picks ([`Side::Slave`](crate::handles::Side::Slave)).
///
/// The slave sends on `stdin`, the master on `stdout` and `stderr`. Bytes may follow at once.
///
/// It may come after [`ToMaster::Exited`] of the tool's session: what the tool has left behind
/// can call `ssh` as long as it holds the run. The master serves it or tells it that the run is
/// over; the slave sends none after a hangup of the tool's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartReverse {
    /// The control handle of the tool's own session: the run it belongs to, and all that it may
    /// reach.
    pub tool: Handle,
    /// The new session's handles.
    pub handles: SessionHandles,
    /// What the shim handed over.
    pub handoff: PackedHandoff,
}

/// A [`Handoff`] that was not decoded yet: the master decides by what comes before it whether it
/// wants to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedHandoff(#[serde(with = "counted::bytes")] Vec<u8>);

impl PackedHandoff {
    /// Encodes a handoff.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], and [`WireError::BadMessage`] where one of its lists is too long.
    pub fn pack(handoff: &Handoff) -> Result<PackedHandoff, WireError> {
        Ok(PackedHandoff(wire::encode(handoff)?.to_vec()))
    }

    /// Decodes it.
    ///
    /// # Errors
    /// As [`wire::decode`].
    pub fn unpack(&self) -> Result<Handoff, WireError> {
        wire::decode(&self.0)
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.0.len()
    }
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

impl From<RefusalReason> for FailureKind {
    fn from(reason: RefusalReason) -> FailureKind {
        match reason {
            RefusalReason::NotFound => FailureKind::NotFound,
            RefusalReason::Limit => FailureKind::Limit,
            RefusalReason::Other => FailureKind::Refused,
        }
    }
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
    /// On the control handle of a new reverse session.
    StartReverse(Box<StartReverse>),
    /// On the control handle of a reverse session: a message from its shim.
    FromShim(FromShim),
    /// On the control handle of a reverse session: its shim is gone, and the session is over.
    Gone,
    /// On the control handle of [`ToSlave::Listen`]: connections are waited for, on this port if it
    /// is a TCP port.
    Listening(u16),
    /// On the control handle of a new reverse session.
    Accepted(Accepted),
}

/// Most bytes of a [`ToMaster::StartReverse`]: a command line and an environment as large as the kernel
/// allows by default, which is 2 MiB for both (execve(2)), and what goes around them.
const MAX_START_REVERSE: usize = 2 * 1024 * 1024 + 64 * 1024;

/// Most bytes of a [`ToMaster::Hello`] and of a [`ToMaster::Refused`]: a name or two, a path
/// (4096 bytes), and a line of text.
const MAX_WORDY: usize = 16 * 1024;

/// Most bytes of a [`ToMaster::FromShim`]: an answer of 4096 bytes is the longest that a shim gives.
const MAX_FROM_SHIM: usize = 8 * 1024;

/// Most bytes of a [`ToMaster::Accepted`]: the address of a peer is the longest part of it.
const MAX_ACCEPTED: usize = 512;

/// Most bytes of the others, which are a few numbers.
const MAX_BRIEF: usize = 16;

impl ToMaster {
    /// Most bytes of an encoded message whose first byte is this one, which says what it is. The
    /// master takes no more from a slave, and a slave says no more.
    pub fn limit(first: u8) -> usize {
        match first {
            0 | 2 => MAX_WORDY,
            3 => MAX_START_REVERSE,
            4 => MAX_FROM_SHIM,
            7 => MAX_ACCEPTED,
            _ => MAX_BRIEF,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_has_the_limit_that_is_meant_for_it() {
        let hello = Hello { user: String::new(), uid: 0, home: String::new(), pid: 0 };
        let refusal = Refusal { reason: RefusalReason::Other, message: String::new() };
        let handoff = Handoff { version: String::new(), invocation: Default::default() };
        let start = StartReverse {
            tool: Handle(4),
            handles: SessionHandles::of(Handle(u32::MAX)),
            handoff: PackedHandoff::pack(&handoff).unwrap(),
        };
        let accepted = Accepted {
            listener: Handle(u32::MAX),
            handles: SessionHandles::of(Handle(u32::MAX)),
            from: "x".repeat(MAX_ORIGIN),
        };
        for (message, limit) in [
            (ToMaster::Hello(hello), MAX_WORDY),
            (ToMaster::Exited(ExitStatus::Signal(255)), MAX_BRIEF),
            (ToMaster::Refused(refusal), MAX_WORDY),
            (ToMaster::StartReverse(Box::new(start)), MAX_START_REVERSE),
            (ToMaster::FromShim(FromShim::Signal(255)), MAX_FROM_SHIM),
            (ToMaster::Gone, MAX_BRIEF),
            (ToMaster::Listening(u16::MAX), MAX_BRIEF),
            (ToMaster::Accepted(accepted), MAX_ACCEPTED),
        ] {
            let bytes = wire::encode(&message).unwrap();
            assert_eq!(ToMaster::limit(bytes[0]), limit, "{message:?}");
            assert!(bytes.len() <= limit);
        }
    }
}
