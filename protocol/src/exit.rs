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

/// Signals that have a name in SSH (RFC 4254 section 6.10), with their numbers on Linux.
const SIGNALS: [(&str, u8); 12] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("ABRT", 6),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
];

/// The name of a signal in SSH, without `SIG`; `None` if it has none.
pub fn signal_name(number: u8) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// The number of a signal of this name; `None` if the name is not SSH's.
pub fn signal_number(name: &str) -> Option<u8> {
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
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

    #[test]
    fn signals_have_names_both_ways() {
        assert!(SIGNALS.iter().all(|(name, number)| {
            signal_number(name) == Some(*number) && signal_name(*number) == Some(name)
        }));
        assert_eq!((signal_name(28), signal_number("WINCH")), (None, None));
    }
}
