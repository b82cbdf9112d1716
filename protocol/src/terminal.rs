//! The terminal of a session: whether the invocation asks for one, and its kind, size and modes
//! (RFC 4254 section 6.2).

use serde::{Deserialize, Serialize};

use crate::counted;

/// The size of a terminal. 0 stands for a number that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
    /// Pixels in a row.
    pub width: u16,
    /// Rows of pixels.
    pub height: u16,
}

/// The terminal that a program on the target gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalRequest {
    /// The kind of terminal: the value of `TERM`. If it is empty, the program's `TERM` is not set.
    #[serde(with = "counted::bytes")]
    pub term: Vec<u8>,
    /// Its size.
    pub size: WindowSize,
    /// Its modes, as opcodes and values (RFC 4254 section 8), in any order. A mode that is missing
    /// stays as the target has it.
    #[serde(with = "counted::modes")]
    pub modes: Vec<(u8, u32)>,
}

/// Whether a session is to have a terminal (`ssh_config(5)`, RequestTTY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestTty {
    /// `-T`: it never has one.
    No,
    /// If there is no command, and standard input is a terminal.
    Auto,
    /// `-t`: if standard input is a terminal.
    Yes,
    /// `-tt`: always.
    Force,
}
