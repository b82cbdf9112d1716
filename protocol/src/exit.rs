//! How a remote program ended, and the status that a shell would see for it.

use serde::{Deserialize, Serialize};

/// The status for everything that is the transport's or our own fault, as `ssh(1)` uses it.
/// A program that itself exits with 255 gives the same number; nothing else does.
pub const TRANSPORT_FAILURE: u8 = 255;

/// How a remote program ended (RFC 4254 section 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called `exit` with this status, already cut to eight bits.
    Code(u8),
    /// A signal of this number (1 to 64) killed it.
    Signal(u8),
}

impl ExitStatus {
    /// The status as a shell reports it: the code, or 128 plus the signal's number.
    pub fn shell_code(self) -> u8 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(number) => 128u8.saturating_add(number.min(127)),
        }
    }

    /// Whether the program exited with status 0.
    pub fn success(self) -> bool {
        self == ExitStatus::Code(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_128_plus_its_number() {
        assert_eq!(ExitStatus::Signal(15).shell_code(), 143);
        assert_eq!(ExitStatus::Code(255).shell_code(), 255);
        assert_eq!(ExitStatus::Signal(255).shell_code(), 255);
        assert!(ExitStatus::Code(0).success() && !ExitStatus::Signal(1).success());
    }
}
