//! What clients and the master say to each other: JSON, one datagram a message.
//!
//! A client sends one [`Request`] in an [`Envelope`], answers what it is asked, and gets one
//! [`Reply::Done`], [`Reply::Failed`] or [`Reply::Ending`]. A run's connection stays open as long as its tool runs.

use std::collections::BTreeMap;

use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::{Notice, Question, QuestionKind, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::json_bytes::JsonBytes;
use crate::lifetime::Rules;
use crate::route::Route;
use crate::run::RunDestination;
use crate::tool::RunDirectoryName;

/// A request with what every request brings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The client's version. A master of another one refuses, whatever the request is.
    pub version: String,
    /// The client's environment.
    pub environment: Vec<(JsonBytes, JsonBytes)>,
    /// The client's working directory.
    pub directory: JsonBytes,
    /// The request, as JSON of a [`Request`].
    pub request: serde_json::Value,
}

/// What a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Connect to what this route leads to, or find it connected, and hold it by these rules.
    Connect(Route, Rules),
    /// Connect, and serve a tool. The first descriptor is the master's end of the run's socket
    /// pair, the second (where there is a directory) its listening socket. When the tool has ended,
    /// the client sends [`ENDED`], and is told what became of the run: [`RunEnd`].
    Run(Box<RunRequest>),
    /// Name all contexts: [`Listing`].
    List,
    /// Close the contexts of these names or ids.
    Close(Vec<String>),
    /// Close all contexts.
    CloseAll,
    /// Close the contexts to which nobody gets again without an answer.
    Lock {
        /// Whether those stay in which a session runs.
        idle: bool,
    },
    /// Close everything and end.
    Stop,
}

/// What a run may reach.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunRequest {
    /// Where the tool itself is to run; on this host where there is none.
    pub on: Option<Route>,
    /// Where names without a route lead, as far as they mean it.
    pub destination: Option<RunDestination>,
    /// Where these names lead.
    pub routes: BTreeMap<String, Route>,
    /// Where these names lead, while hosts are taken from command lines: the user's own names for
    /// routes, or why they lead nowhere. Not connected to before they are used.
    pub names: BTreeMap<String, Result<Route, String>>,
    /// Whether the first session of each mapped destination connects to it; else that is done
    /// before the tool starts.
    pub connect_later: bool,
    /// Options for hosts that are taken from command lines, where nothing else is given.
    pub connection: Vec<JsonBytes>,
    /// Whether what we can't do is left to the real `ssh`, where hosts are taken from command
    /// lines; else it is refused.
    pub real_ssh: bool,
    /// The run directory, to be removed by the master where the client can't any more.
    pub directory: Option<RunDirectoryName>,
    /// How the contexts are held that the run uses.
    pub rules: Rules,
    /// Whether the client answers questions while the tool runs. Else those of a session go to who
    /// asks for it.
    pub answers: bool,
    /// The tool's name, for the audit log.
    pub tool: Option<String>,
}

/// What became of a run whose tool has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Another process still holds the run. Then the master removes the run directory when that
    /// one has ended, too.
    pub is_held: bool,
    /// A shim of the run was started.
    pub was_called: bool,
}

/// What a client says when its tool has ended.
pub const ENDED: &[u8] = b"ended";

/// What the master says.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// It is done, with what was asked for.
    Done(serde_json::Value),
    /// It can't be done: of which kind that is, and one line that says why and what to do.
    Failed(Failure),
    /// This master ends, and has not done it: the next one will.
    Ending,
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
        let (text, hop) = (question.text.clone(), question.hop.clone());
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

/// What stands before the text of an answer. It is no JSON: a secret would be left in buffers.
const ANSWER: u8 = b'=';

/// A client's answer to a question as it goes over the socket; an empty one where there is nobody
/// to ask.
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

/// The answer in such a message.
pub(crate) fn answer(bytes: &[u8]) -> Option<Secret> {
    let (&ANSWER, text) = bytes.split_first()? else { return None };
    std::str::from_utf8(text).ok().map(|text| Secret(text.to_owned()))
}

/// One context, as `fakessh ls --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What `fakessh close` takes where several have one name: `@3`.
    pub id: String,
    /// The route as it was first asked for.
    pub name: String,
    /// The name of the context that this one hangs on.
    pub parent: Option<String>,
    /// The place of that one in the list, from 0, before this one: names may be there twice.
    pub parent_index: Option<usize>,
    /// How many contexts this one hangs on.
    pub depth: usize,
    /// The account that programs run as.
    pub user: String,
    /// Host name or address of the nearest SSH connection; none where there is none.
    pub host: Option<String>,
    /// Its TCP port.
    pub port: Option<u16>,
    /// Why no slave runs there, and each session has an SSH channel of its own.
    pub direct: Option<String>,
    /// Seconds since 1970 at which it was connected.
    pub connected_at: u64,
    /// Seconds since 1970 at which it ends if nobody uses it until then; none while it is used, and
    /// where it ends never by itself.
    pub ends_at: Option<u64>,
    /// Seconds for which it is held while nothing runs in it; none for ever.
    pub persist: Option<u64>,
    /// Whether a session runs in it, or something hangs on it.
    pub busy: bool,
    /// Sessions that run now.
    pub sessions: usize,
    /// Sessions that were started in all.
    pub served: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_be_empty_and_is_told_from_none() {
        for text in ["", "pass word", "\u{e4}\u{20ac}="] {
            let secret = Secret(text.to_owned());
            assert_eq!(answer(&encode_answer(Some(&secret))), Some(secret));
        }
        assert_eq!(answer(&encode_answer(None)), None);
        assert_eq!(answer(b"x"), None);
        assert_eq!(answer(b"=\xff"), None);
    }
}
