//! The conversation between a shim and its master, one datagram a message.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::exit::ExitStatus;
use crate::invocation::Invocation;

/// The datagram that starts a session. With it travel four descriptors, in this order: the far end
/// of the shim's own socket pair, and standard input, output and error of the shim. The kernel
/// cuts such a list at its end where the receiver may open no more descriptors, and over the first
/// one the shim can still be told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// The version of the program that the shim belongs to; a master of another one refuses.
    pub version: String,
    /// The parsed command line.
    pub invocation: Invocation,
}

/// A secret that an answer carries. Not shown by `Debug`, and zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How an answer is to be got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuestionKind {
    /// A password or passphrase: without echo.
    Secret,
    /// A line of text, with echo.
    Line,
    /// `yes`, `no`, or (for a host key) the key's fingerprint.
    Confirm,
    /// As [`QuestionKind::Secret`], for the helper of a hop: what `--password-file` answers.
    HopSecret,
}

/// Something that only the person who caused the connection can answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// How to get the answer.
    pub kind: QuestionKind,
    /// What to show, ending where the answer is typed.
    pub text: String,
}

/// From the master to a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShim {
    /// Ask this on the terminal or by `SSH_ASKPASS`, and send [`FromShim::Answer`].
    Ask(Question),
    /// A line for standard error, without the leading `fakessh:`; the session goes on.
    Notice(String),
    /// The session runs. Sent only where [`Invocation::announce`] asked for it.
    Started,
    /// The program has ended and all its output is written.
    Exited(ExitStatus),
    /// There was no session, or it was lost: one line for standard error, and status 255.
    Failed(String),
    /// This invocation is not for us and no route was named: run the real `ssh` with the same
    /// command line. The three descriptors of the handoff come back with this message; the text
    /// says why, for `-v`.
    RealSsh(String),
}

/// From a shim to the master. The end of the shim closes the socket, which is a hangup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShim {
    /// The answer to [`ToShim::Ask`]; `None` where none can be had.
    Answer(Option<Secret>),
    /// The shim got this signal (1 to 64): pass it to the program.
    Signal(u8),
}
