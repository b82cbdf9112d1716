//! The conversation between a shim and its master, one datagram a message.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::connection::Peer;
use crate::counted;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::forward::Listen;
use crate::invocation::Invocation;
use crate::printable;
use crate::terminal::WindowSize;

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
    /// Whether something may be done: `yes`, or an `SSH_ASKPASS` that succeeds and says nothing.
    Permission,
}

/// Something that only the person who caused the connection can answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// How to get the answer.
    pub kind: QuestionKind,
    /// What to show, ending where the answer is typed. Each line that quotes somebody says whom.
    pub text: String,
    /// The hop that asks for the password of an account there, as the master names it: what
    /// `--password-file` goes by, since a hop chooses its own words.
    pub hop: Option<String>,
}

impl Question {
    /// A question for a secret that no file answers.
    pub fn secret(text: impl Into<String>) -> Question {
        Question { kind: QuestionKind::Secret, text: text.into(), hop: None }
    }
}

/// Something for the person that needs no answer. Shown with [`fmt::Display`], which filters it:
/// each line says whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Who says it, if the words are not ours: a host, a helper.
    pub from: Option<String>,
    /// What is said.
    pub text: String,
}

impl Notice {
    /// Words of ours.
    pub fn ours(text: impl Into<String>) -> Notice {
        Notice { from: None, text: text.into() }
    }

    /// Words of somebody else.
    pub fn from(who: impl Into<String>, text: impl Into<String>) -> Notice {
        Notice { from: Some(who.into()), text: text.into() }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            None => f.write_str(printable::ours(&self.text).trim_end()),
            Some(who) => f.write_str(&printable::said(&format!("{who} says: "), &self.text)),
        }
    }
}

/// How a session runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Whether its program is on a terminal of its own: then the shim's terminal is only passed
    /// through.
    pub on_terminal: bool,
    /// The escape character that the configuration names for the host; `None` is none.
    pub escape: Option<u8>,
}

/// From the master to a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShim {
    /// Ask this on the terminal or by `SSH_ASKPASS`, and send [`FromShim::Answer`].
    Ask(Question),
    /// Lines for standard error; the session goes on.
    Notice(Notice),
    /// The session runs. Sent only if [`Invocation::announce`] asked for it.
    Started(Started),
    /// Listen on this, for a forward, and send [`FromShim::Listening`]: the ports of the session are
    /// those of whoever asks for it, in the place where that process lives.
    Listen(Listen),
    /// Connect to this, for a connection that came in on the target, and send
    /// [`FromShim::Connected`] with this number.
    Connect(u32, Peer),
    /// The program has ended and all its output is written.
    Exited(ExitStatus),
    /// There was no session, or it was lost: one line for standard error, and status 255.
    Failed(Failure),
    /// This invocation is not for us: run the real `ssh`. The three descriptors of the handoff come
    /// back with this message.
    RealSsh {
        /// Why, for `-v`.
        why: String,
        /// What to run it with.
        words: RealWords,
    },
}

/// The words that the real `ssh` is run with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RealWords {
    /// The invocation's own, with these options of its run behind its options: of most options the
    /// first value counts.
    With(Vec<Vec<u8>>),
    /// These, behind the program's name.
    These(Vec<Vec<u8>>),
}

/// From a shim to the master. The end of the shim closes the socket, which is a hangup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShim {
    /// The answer to [`ToShim::Ask`]; `None` where none can be had.
    Answer(Option<Secret>),
    /// The shim got this signal (1 to 64): pass it to the program.
    Signal(u8),
    /// The shim's terminal has another size now.
    Resize(WindowSize),
    /// Whether output may go to the shim's terminal: after [`Started::on_terminal`] it may as soon as
    /// the terminal is raw, and not while the shim is stopped.
    Showing(bool),
    /// The shim goes on as this process, in the background.
    Background(u32),
    /// Some terminal may have another size now. Clients of [`Invocation::multiplex`] have their
    /// master told by SIGWINCH.
    WindowChanged,
    /// The answer to [`ToShim::Listen`]. The sockets come with this message, at most
    /// [`MAX_LISTENERS`].
    Listening(ListenAnswer),
    /// The answer to the [`ToShim::Connect`] of this number. The socket comes with this message; if
    /// there is none, this is why, in one line.
    Connected(u32, String),
}

/// What came of a [`ToShim::Listen`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenAnswer {
    /// Why there is no socket, in one line; empty if there is one.
    pub why_not: String,
    /// The file of a Unix socket, for whoever has the socket to remove at its end. Its directory is
    /// the last descriptor of the message.
    pub file: Option<SocketFileName>,
}

/// The file of a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFileName {
    /// Its name in its directory.
    #[serde(with = "counted::bytes")]
    pub name: Vec<u8>,
    /// The device that the file is on.
    pub device: u64,
    /// The file's number on that device.
    pub inode: u64,
}

/// Most sockets that a shim listens on for one forward: a name with more addresses is rare, and one
/// datagram carries no more.
pub const MAX_LISTENERS: usize = 7;
