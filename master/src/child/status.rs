//! How programs end, and the signals that they are sent.

use std::fmt;

use fakessh_protocol::exit;

/// How a program ended (RFC 4254 section 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(exit::ExitStatus);

impl ExitStatus {
    pub(super) fn new(status: exit::ExitStatus) -> ExitStatus {
        ExitStatus(status)
    }

    /// The status that the program exited with, 0 to 255; `None` if a signal killed it.
    pub fn code(self) -> Option<i32> {
        match self.0 {
            exit::ExitStatus::Code(code) => Some(code.into()),
            exit::ExitStatus::Signal(_) => None,
        }
    }

    /// The number of the signal that killed the program, 1 to 64 as on Linux; `None` if it exited.
    pub fn signal(self) -> Option<i32> {
        match self.0 {
            exit::ExitStatus::Code(_) => None,
            exit::ExitStatus::Signal(number) => Some(number.into()),
        }
    }

    /// Whether the program exited with status 0.
    pub fn success(self) -> bool {
        self.0.success()
    }

    /// The status as a shell reports it: the code, or 128 plus the number of the signal.
    pub fn shell_code(self) -> u8 {
        self.0.shell_code()
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit status: {code}"),
            (None, number) => write!(f, "signal: {}", number.unwrap_or_default()),
        }
    }
}

/// A signal, by its number on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    /// Hang-up.
    pub const HUP: Signal = Signal(1);
    /// Interrupt, as of ^C.
    pub const INT: Signal = Signal(2);
    /// Quit, as of ^\.
    pub const QUIT: Signal = Signal(3);
    /// Kill, which no program can catch.
    pub const KILL: Signal = Signal(9);
    /// For the program's own use.
    pub const USR1: Signal = Signal(10);
    /// For the program's own use.
    pub const USR2: Signal = Signal(12);
    /// The request to end.
    pub const TERM: Signal = Signal(15);

    pub(super) fn number(self) -> u8 {
        self.0
    }

    /// The signal of a number, 1 to 64; `None` for any other number.
    pub fn from_number(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|number| (1..=64).contains(number)).map(Signal)
    }
}

/// What a program printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How the program ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}
