//! The program that a client asks for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::{Connection, Peer};
use serde::{Deserialize, Serialize};

use crate::json_bytes::JsonBytes;

/// Variables of a program, as names and values.
type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// A program to be started in the context of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// What to start.
    pub program: Program,
    /// Variables beside the account's login environment, as names and values.
    #[serde(default)]
    pub environment: Vec<(JsonBytes, JsonBytes)>,
    /// The directory that the program starts in, from the home directory if it is relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<JsonBytes>,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Program {
    /// A program and its arguments, which no shell reads.
    Argv(Vec<JsonBytes>),
    /// A command line for the account's login shell.
    Shell(JsonBytes),
    /// A subsystem, by its name.
    Subsystem(String),
    /// A connection to a TCP port, opened there. Standard input and output are its bytes, and
    /// standard error is a report of lines: `connected`, `end`, or why it failed.
    Tcp {
        /// Name or address, as the target resolves it.
        host: String,
        /// The port.
        port: u16,
    },
    /// The same to a Unix stream socket, by its absolute path.
    Unix(JsonBytes),
}

impl Program {
    /// The program as an invocation asks for it.
    ///
    /// # Errors
    /// If there is none, or if it holds a NUL, which no kernel takes.
    pub(crate) fn into_request(self) -> Result<Request, Failure> {
        Ok(match self {
            Program::Argv(words) if words.is_empty() => {
                return Err(Failure::new(
                    FailureKind::Config,
                    "argv is empty: it names no program",
                ));
            }
            Program::Argv(words) => {
                Request::Program(words.into_iter().map(without_nul).collect::<Result<_, _>>()?)
            }
            Program::Shell(line) => Request::Command(without_nul(line)?),
            Program::Subsystem(name) => Request::Subsystem(name),
            Program::Tcp { host, port } => connection(Peer::Tcp { host, port }),
            Program::Unix(path) => connection(Peer::Unix(without_nul(path)?)),
        })
    }
}

fn connection(peer: Peer) -> Request {
    Request::Connection(Connection { peer, reports: true })
}

impl StartRequest {
    /// The variables as a session takes them.
    ///
    /// # Errors
    /// If a name is none, or a name or value holds a NUL.
    pub(crate) fn take_environment(&mut self) -> Result<Variables, Failure> {
        let variables = std::mem::take(&mut self.environment);
        let checked = variables.into_iter().map(|(name, value)| {
            let name = without_nul(name)?;
            if name.is_empty() || name.contains(&b'=') {
                let name = String::from_utf8_lossy(&name);
                let text = format!("{name:?} is no name of a variable");
                return Err(Failure::new(FailureKind::Config, text));
            }
            Ok((name, without_nul(value)?))
        });
        checked.collect()
    }

    /// The directory as a session takes it.
    ///
    /// # Errors
    /// If it holds a NUL.
    pub(crate) fn take_directory(&mut self) -> Result<Vec<u8>, Failure> {
        self.directory.take().map_or(Ok(Vec::new()), without_nul)
    }
}

fn without_nul(text: JsonBytes) -> Result<Vec<u8>, Failure> {
    let bytes = OsString::from(text).into_vec();
    if bytes.contains(&0) {
        let text = "an argument or a variable of the program holds a NUL";
        return Err(Failure::new(FailureKind::Config, text));
    }
    Ok(bytes)
}
