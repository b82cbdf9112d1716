//! One parsed `ssh` command line, as the shim hands it to the master.

use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Peer};
use crate::counted;
use crate::forward::{self, Forward, ForwardOptions};
use crate::terminal::{RequestTty, TerminalRequest};

/// Where an invocation wants to go, as written: the master decides which context that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The user of `user@host`, `ssh://user@host`, `-l` or `-o User=`, whichever came first.
    pub user: Option<String>,
    /// The host's name or address, an alias of `ssh_config`, or a name that a route gives.
    pub host: String,
    /// The port of `-p`, `-o Port=` or `ssh://host:port`, whichever came first.
    pub port: Option<u16>,
}

/// What an invocation wants to run (`ssh(1)`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// No command: the login shell.
    #[default]
    Login,
    /// The words of the command, joined by one space each.
    Command(#[serde(with = "counted::bytes")] Vec<u8>),
    /// `-s`: a subsystem of this name.
    Subsystem(String),
    /// `-N`: nothing; the session only keeps the context.
    Nothing,
    /// No `ssh` at all: a tool with its arguments, to be run where `fakessh run --on` says.
    Tool(#[serde(with = "counted::words")] Vec<Vec<u8>>),
    /// No `ssh` at all: a program with its arguments, as `fakessh exec` runs it.
    Program(#[serde(with = "counted::words")] Vec<Vec<u8>>),
    /// `-G`: nothing; what the configuration says of the destination, which the real `ssh` prints.
    Configuration,
    /// No `ssh` at all: a connection that is opened there, as a client of the control protocol asks for
    /// it.
    Connection(Connection),
    /// `-W`: a connection that is opened there, whose bytes are those of standard input and output.
    Stdio(Peer),
}

impl Request {
    /// Whether no `ssh` asks for this, but a program of fakessh, or a client of the master: such a
    /// request leads to the one place that it is meant for.
    pub fn is_none_of_ssh(&self) -> bool {
        matches!(self, Request::Tool(_) | Request::Program(_) | Request::Connection(_))
    }
}

/// Which agent a session gets (`ssh_config(5)`, ForwardAgent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardAgent {
    /// None.
    No,
    /// That of `SSH_AUTH_SOCK`.
    Yes,
    /// The one at this path, or that of this variable, whose name follows a `$`.
    At(String),
}

impl ForwardAgent {
    /// Reads a value of the configuration.
    pub fn read(value: &str) -> ForwardAgent {
        match value {
            value if value.eq_ignore_ascii_case("no") || value.eq_ignore_ascii_case("false") => {
                ForwardAgent::No
            }
            value if value.eq_ignore_ascii_case("yes") || value.eq_ignore_ascii_case("true") => {
                ForwardAgent::Yes
            }
            at => ForwardAgent::At(at.to_owned()),
        }
    }
}

/// What other programs reach a session's context by, as with ssh's own `-M`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiplex {
    /// The path of the socket (`ControlPath`), absolute.
    #[serde(with = "counted::bytes")]
    pub path: Vec<u8>,
    /// Seconds without a session over the socket after which the session of this invocation ends
    /// (`ControlPersist`). `None` is never.
    pub idle_seconds: Option<u32>,
}

/// One `ssh` command line with its environment; by default one that says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Where to.
    pub destination: Destination,
    /// What to run there.
    pub request: Request,
    /// Options that say how to get to the destination, in their order and in the form in which
    /// `ssh -G` takes them: `-F file`, `-i file`, `-J jump`, `-o Key=value`. Ignored for a name
    /// that a run has mapped.
    #[serde(with = "counted::options")]
    pub connection: Vec<Vec<u8>>,
    /// `-o BatchMode=yes`: ask nothing.
    pub batch: bool,
    /// Patterns of `-o SendEnv=` (`ssh_config(5)`), in order; a leading `-` takes names away.
    #[serde(with = "counted::patterns")]
    pub send_env: Vec<String>,
    /// Variables of `-o SetEnv=`, as name and value.
    #[serde(with = "counted::settings")]
    pub set_env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The environment of the shim, as name and value.
    #[serde(with = "counted::variables")]
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory of the shim: relative paths of options are meant from there.
    #[serde(with = "counted::bytes")]
    pub directory: Vec<u8>,
    /// The directory on the target that the program starts in; empty for the home directory. No
    /// `ssh` sets it.
    #[serde(with = "counted::bytes")]
    pub starts_in: Vec<u8>,
    /// What a terminal of the session is to be like: the shim's own, if its standard input is one.
    pub terminal: Option<TerminalRequest>,
    /// Whether the session is to have a terminal, if the command line says so.
    pub request_tty: Option<RequestTty>,
    /// Forwards of the command line, in their order.
    #[serde(with = "forward::list")]
    pub forwards: Vec<Forward>,
    /// What the command line says of forwards.
    pub forward_options: ForwardOptions,
    /// Whether the session gets an agent, if the command line says so.
    pub agent: Option<ForwardAgent>,
    /// `-M`: what is listened on for others.
    pub multiplex: Option<Multiplex>,
    /// An option that we can't honour yet, by the name that the user gave it (`-L`, `-o Tunnel`).
    /// The master refuses the invocation, or leaves it to the real `ssh` where it may.
    pub unserved: Option<String>,
    /// Whether the shim waits for word that the session runs: with `-f` and `LocalCommand`, and
    /// before it reads a terminal.
    pub announce: bool,
    /// What the command line itself says of the session: the configuration's word for that does not
    /// count.
    pub given: SessionKeywords,
    /// How often `-v` was given, for the log.
    pub verbosity: u8,
}

/// Which of the keywords that say what a session is were given (`ssh_config(5)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKeywords {
    /// `RemoteCommand`.
    pub remote_command: bool,
    /// `SessionType`, `-N` or `-s`.
    pub session_type: bool,
    /// `StdinNull`, `-n` or `-f`.
    pub stdin_null: bool,
}

impl SessionKeywords {
    /// The first of these keywords that is not among those that were `given` elsewhere.
    pub fn first_beside(self, given: SessionKeywords) -> Option<&'static str> {
        let all = [
            ("RemoteCommand", self.remote_command, given.remote_command),
            ("SessionType", self.session_type, given.session_type),
            ("StdinNull", self.stdin_null, given.stdin_null),
        ];
        all.into_iter().find(|(_, wanted, given)| *wanted && !*given).map(|(name, ..)| name)
    }
}

/// Joins the words of a remote command as `ssh(1)` does: one space each, nothing quoted.
pub fn join_command<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut command = Vec::new();
    for (index, word) in words.into_iter().enumerate() {
        if index > 0 {
            command.push(b' ');
        }
        command.extend_from_slice(word);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_by_one_space_and_not_quoted() {
        let words: [&[u8]; 3] = [b"echo", b"a  b", b"$HOME"];
        assert_eq!(join_command(words), b"echo a  b $HOME");
        assert_eq!(join_command([]), b"");
    }
}
