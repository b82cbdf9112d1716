//! What clients and the master say to each other: JSON, one datagram a message.
//!
//! A client sends one [`Request`] in an [`Envelope`], answers what it is asked, and gets one
//! [`Reply::Done`] or [`Reply::Failed`]. A run's socket stays open as long as its tool runs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use fakessh_protocol::message::{Question, QuestionKind};
use serde::{Deserialize, Serialize};

use crate::ssh_config::Target;

/// Bytes that are text nearly always: a string where they are UTF-8, else a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Text {
        match text.to_str() {
            Some(text) => Text::Text(text.to_owned()),
            None => Text::Bytes(text.as_bytes().to_vec()),
        }
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> OsString {
        match text {
            Text::Text(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

/// A request with what every request brings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The client's version. A master of another one refuses, whatever the request is.
    pub version: String,
    /// The client's environment.
    pub environment: Vec<(Text, Text)>,
    /// The client's working directory.
    pub directory: Text,
    /// The request, as JSON of a [`Request`].
    pub request: serde_json::Value,
}

/// A destination with the options for the way there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Destination {
    host: String,
    user: Option<String>,
    port: Option<u16>,
    connection: Vec<Text>,
}

impl From<&Target> for Destination {
    fn from(target: &Target) -> Destination {
        Destination {
            host: target.host.clone(),
            user: target.user.clone(),
            port: target.port,
            connection: target.connection.iter().map(|word| word.as_os_str().into()).collect(),
        }
    }
}

impl From<Destination> for Target {
    fn from(destination: Destination) -> Target {
        Target {
            host: destination.host,
            user: destination.user,
            port: destination.port,
            connection: destination.connection.into_iter().map(OsString::from).collect(),
        }
    }
}

/// What a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Connect to this destination, or find it connected.
    Connect(Destination),
    /// Connect, and serve a tool. The first descriptor is the master's end of the run's socket
    /// pair, the second (where there is a directory) its listening socket.
    Run(RunRequest),
    /// Name all contexts: [`Listing`].
    List,
    /// Close the contexts of these names.
    Close(Vec<String>),
    /// Close all contexts.
    CloseAll,
    /// Close everything and end.
    Stop,
}

/// What a run may reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRequest {
    /// Where every name leads that has no route.
    pub every: Option<Destination>,
    /// Where these names lead.
    pub routes: BTreeMap<String, Destination>,
    /// Options for hosts that are taken from command lines, where nothing else is given.
    pub connection: Vec<Text>,
    /// The run directory, to be removed by the master where the client can't any more.
    pub directory: Option<PathBuf>,
}

/// What the master says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Ask this, and send an [`Answer`].
    Ask {
        /// How to ask: `secret`, `line` or `confirm`.
        kind: String,
        /// What to show.
        text: String,
    },
    /// A line for the user; more follows.
    Notice(String),
    /// It is done, with what was asked for.
    Done(serde_json::Value),
    /// It can't be done: one line that says why and what to do.
    Failed(String),
}

impl Reply {
    /// The reply that asks a question.
    pub fn ask(question: &Question) -> Reply {
        let kind = match question.kind {
            QuestionKind::Secret => "secret",
            QuestionKind::Line => "line",
            QuestionKind::Confirm => "confirm",
        };
        Reply::Ask { kind: kind.to_owned(), text: question.text.clone() }
    }

    /// The question that such a reply asks. An unknown kind is a secret, which is not shown.
    pub fn question(kind: &str, text: String) -> Question {
        let kind = match kind {
            "line" => QuestionKind::Line,
            "confirm" => QuestionKind::Confirm,
            _ => QuestionKind::Secret,
        };
        Question { kind, text }
    }
}

/// A client's answer to a question; none where there is nobody to ask.
#[derive(Deserialize, Serialize)]
pub struct Answer {
    /// What was typed.
    pub answer: Option<String>,
}

/// One context, as `fakessh ls --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The destination as it was first asked for.
    pub name: String,
    /// The account that programs run as.
    pub user: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Seconds since 1970 at which it was connected.
    pub connected_at: u64,
    /// Sessions that run now.
    pub sessions: usize,
    /// Sessions that were started in all.
    pub served: u64,
}
