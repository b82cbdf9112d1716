//! Why something failed, in a form that programs can tell apart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something failed. Displayed, it is its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// One line that says what was tried, what failed, and what to do.
    pub message: String,
}

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The configuration can't be used, or a destination or route can't be understood.
    Config,
    /// The host's name has no address.
    Resolve,
    /// The host can't be reached, or does not speak SSH.
    Connect,
    /// The host's key is not the one that is expected, or nobody trusts it.
    HostKey,
    /// The server did not accept the login.
    Auth,
    /// A question came up, and there was nobody to ask.
    NeedsAnswer,
    /// A helper such as `sudo` or `docker` did not get there.
    Hop,
    /// This needs a slave, and none can run there.
    NoSlave,
    /// What was asked for does not exist: a program, a connection.
    NotFound,
    /// A limit is reached.
    Limit,
    /// The connection was lost.
    ConnectionLost,
    /// Bytes of the output are missing.
    OutputCut,
    /// The two programs are of different versions.
    Version,
    /// It is not allowed, or not supported.
    Refused,
    /// Anything else. Kinds that this version does not know are read as this.
    #[serde(other)]
    Other,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    /// A failure of no other kind.
    pub fn other(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Other, message)
    }

    /// The same failure, with the name of what failed before its message.
    #[must_use]
    pub fn of(self, name: impl fmt::Display) -> Failure {
        Failure { message: format!("{name}: {}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
