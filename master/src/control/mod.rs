//! The control protocol: what clients and the master say to each other over the master's socket.
//!
//! docs/control-protocol.md describes it for other programs, and its examples are read by a test.
//! Each message is one datagram of JSON; an answer to a question is none, since a secret would be left
//! in buffers.

mod asked;
mod program;

use fakessh_protocol::exit;
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{Notice, Question, QuestionKind, Secret};
use fakessh_protocol::printable;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::json_bytes::JsonBytes;

pub(crate) use asked::AskedClient;
pub use program::{Program, StartRequest};

/// The number of this protocol. A master serves clients of every protocol from 1 to its own.
pub const PROTOCOL: u32 = 1;

/// A request with what every request brings. It is the first datagram of a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The protocol that the client speaks.
    pub protocol: u32,
    /// The client's environment, as names and values.
    #[serde(default)]
    pub environment: Vec<(JsonBytes, JsonBytes)>,
    /// The client's working directory: relative paths of its configuration are meant from there.
    #[serde(default = "root")]
    pub directory: JsonBytes,
    /// The request, as the client's protocol has it.
    pub request: serde_json::Value,
}

fn root() -> JsonBytes {
    JsonBytes::Text("/".to_owned())
}

/// What the master says, over the connection of a request and over the socket of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Ask this, and send what [`encode_answer`] makes of the answer.
    Ask {
        /// How to ask: `secret`, `line`, `confirm` or `permission`.
        kind: String,
        /// What to show.
        text: String,
        /// The hop that asks for an account's password.
        hop: Option<String>,
    },
    /// Lines for the user; more follows.
    Notice(Notice),
    /// It is done, with what was asked for. For a session: its program has ended, with this
    /// [`ProgramEnd`], and all its output was written.
    Done(serde_json::Value),
    /// It can't be done: of which kind that is, and why and what to do.
    Failed(Failure),
    /// This master ends, and has not done it: the next one will.
    Ending,
    /// The context of this connection is lost, for this reason. No more programs can be started
    /// there.
    Lost(Failure),
    /// All that a session's program has said was written to this stream, which is closed next. A
    /// stream that ends without this was cut.
    Whole(OutputName),
}

/// An output of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the program of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramEnd {
    /// It exited with this status.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl From<exit::ExitStatus> for ProgramEnd {
    fn from(status: exit::ExitStatus) -> ProgramEnd {
        match status {
            exit::ExitStatus::Code(code) => ProgramEnd::Code(code),
            exit::ExitStatus::Signal(number) => ProgramEnd::Signal(number),
        }
    }
}

impl From<ProgramEnd> for exit::ExitStatus {
    fn from(end: ProgramEnd) -> exit::ExitStatus {
        match end {
            ProgramEnd::Code(code) => exit::ExitStatus::Code(code),
            ProgramEnd::Signal(number) => exit::ExitStatus::Signal(number),
        }
    }
}

/// What a client says after its request, beside answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// Over the connection of a context: start a program. Four descriptors come along: the far end
    /// of a socket pair of the client's, for this session, and what shall be the program's standard
    /// input, output and error.
    Start(Box<StartRequest>),
    /// Over the connection of a context: close the context for everybody. [`Reply::Lost`] says when
    /// that is done.
    Close,
    /// Over the socket of a session: send the program's process group this signal, 1 to 64.
    Signal(#[serde(deserialize_with = "signal_number")] u8),
    /// Over the socket of a session: cut standard input. The program is hung up before it can take
    /// what it got for the whole.
    Abort,
    /// Over the socket of a session: the end of this socket is no hang-up.
    Detach,
    /// Over the connection of a run: its tool has ended.
    Ended,
}

impl ClientMessage {
    /// Its name in the protocol.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            ClientMessage::Start(_) => "start",
            ClientMessage::Close => "close",
            ClientMessage::Signal(_) => "signal",
            ClientMessage::Abort => "abort",
            ClientMessage::Detach => "detach",
            ClientMessage::Ended => "ended",
        }
    }
}

/// The context of a connection, as the answer to a request for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// What `fakessh close` takes: `@3`.
    pub id: String,
    /// The route as it was first asked for.
    pub name: String,
    /// The account that programs run as.
    pub user: String,
}

impl Reply {
    /// The reply that asks a question.
    pub fn ask(question: &Question) -> Reply {
        let kind = match question.kind {
            QuestionKind::Secret => "secret",
            QuestionKind::Line => "line",
            QuestionKind::Confirm => "confirm",
            QuestionKind::Permission => "permission",
        };
        let (text, hop) = (printable::question(&question.text), question.hop.clone());
        Reply::Ask { kind: kind.to_owned(), text, hop }
    }

    /// The question that such a reply asks. An unknown kind is a secret, which is not shown.
    pub fn question(kind: &str, text: String, hop: Option<String>) -> Question {
        let kind = match kind {
            "line" => QuestionKind::Line,
            "confirm" => QuestionKind::Confirm,
            "permission" => QuestionKind::Permission,
            _ => QuestionKind::Secret,
        };
        Question { kind, text, hop }
    }
}

/// What stands before the text of an answer. No JSON begins with it.
const ANSWER: u8 = b'=';

/// A client's answer to a question as it goes over the socket; an empty one if there is nobody to
/// ask.
pub fn encode_answer(answer: Option<&Secret>) -> Zeroizing<Vec<u8>> {
    let text = answer.map_or("", |secret| &secret.0);
    // Room for all of it at once: a buffer that grows leaves copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 + text.len()));
    if answer.is_some() {
        bytes.push(ANSWER);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// What a client has sent after its request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The answer to a question; `None` if nobody answers.
    Answer(Option<Secret>),
    Message(ClientMessage),
}

/// Reads what a client sends after its request. Zeroes it, since it may be a secret.
///
/// # Errors
/// For what is neither an answer nor a message of this protocol.
pub(crate) fn heard(payload: Vec<u8>) -> Result<Heard, serde_json::Error> {
    let payload = Zeroizing::new(payload);
    match payload.split_first() {
        None | Some((&ANSWER, _)) => Ok(Heard::Answer(answer(&payload))),
        Some(_) => serde_json::from_slice(&payload).map(Heard::Message),
    }
}

/// The number of a signal: others are refused, so that a client hears of its mistake.
fn signal_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = u8::deserialize(deserializer)?;
    if (1..=64).contains(&number) {
        return Ok(number);
    }
    Err(serde::de::Error::custom(format!("{number} is no signal: they are 1 to 64")))
}

/// What a client is told that sent something else than a message.
pub(crate) fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("the message can't be read: {error}"))
}

/// The answer in such a message.
pub(crate) fn answer(bytes: &[u8]) -> Option<Secret> {
    let (&ANSWER, text) = bytes.split_first()? else { return None };
    std::str::from_utf8(text).ok().map(|text| Secret(text.to_owned()))
}

#[cfg(test)]
mod tests;
