//! What is noted, and how it is written.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::time::SystemTime;

use fakessh_unix::peer;
use fakessh_unix::process::{self, Stat};
use rustix::process::Pid;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Commands;
use super::time::rfc3339;

/// Most bytes of a command that is noted as it is.
const MAX_COMMAND: usize = 4096;

/// Who caused something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    /// The user of the process that asked.
    pub(crate) uid: u32,
    /// That process: a shim, or a command of fakessh.
    pub(crate) pid: u32,
    /// The context in which the tool runs that asked, where that is a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
}

impl Who {
    /// The process at the other end of a Unix socket.
    pub(crate) fn at(socket: impl AsFd) -> Option<Who> {
        let peer = peer::credentials(socket)?;
        let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
        Some(Who { uid: peer.uid.as_raw(), pid, at: None })
    }

    /// The process, for a person: the program that has called `ssh`, where that can be seen.
    pub(crate) fn shown(&self) -> String {
        let caller = || {
            let parent = Stat::of(Pid::from_raw(i32::try_from(self.pid).ok()?)?)?.parent?;
            Some(format!("{:?} (process {parent})", process::name(parent)?))
        };
        match (&self.at, caller()) {
            (Some(at), _) => format!("a program at {at}"),
            (None, Some(caller)) => caller,
            (None, None) => format!("process {}", self.pid),
        }
    }
}

/// Something that is noted.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A run began.
    Run {
        run: u64,
        by: Option<Who>,
        /// The tool's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        tool: Option<String>,
        /// Where its names lead; nothing where hosts are taken from command lines.
        routes: Vec<(String, String)>,
    },
    /// A server let us in.
    Login {
        host: String,
        address: String,
        user: String,
        /// What it accepted.
        accepted: Vec<String>,
        by: Option<Who>,
    },
    /// A context was made.
    Context { context: String, id: String, user: String, by: Option<Who> },
    /// A session was over.
    Session(Box<SessionEvent>),
    /// A session had a forward no more.
    Forward(Box<ForwardEvent>),
    /// Something was refused, or failed.
    Refused { what: String, why: String, by: Option<Who> },
    /// A context was closed by us.
    Closed { context: String, id: String, why: String },
    /// Lines found no room.
    Dropped { records: u64 },
}

/// A session that is over.
#[derive(Debug, Serialize)]
pub(crate) struct SessionEvent {
    pub(crate) ms: u64,
    pub(crate) run: u64,
    pub(crate) by: Option<Who>,
    /// The host as the command line named it.
    pub(crate) host: String,
    pub(crate) context: String,
    pub(crate) id: String,
    pub(crate) user: String,
    /// `login`, `command`, `tool`, or the name of a subsystem.
    pub(crate) program: String,
    #[serde(flatten)]
    pub(crate) command: LoggedCommand,
    #[serde(rename = "in")]
    pub(crate) input: u64,
    #[serde(rename = "out")]
    pub(crate) output: u64,
    #[serde(rename = "err")]
    pub(crate) errors: u64,
    /// How often a program there has reached an agent here, if it might.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<u64>,
    #[serde(flatten)]
    pub(crate) end: End,
}

/// A forward that a session has no more.
#[derive(Debug, Serialize)]
pub(crate) struct ForwardEvent {
    pub(crate) ms: u64,
    pub(crate) run: u64,
    pub(crate) by: Option<Who>,
    pub(crate) context: String,
    pub(crate) id: String,
    /// As `ssh` would be asked for it.
    pub(crate) forward: String,
    /// The port that was listened on; 0 for a Unix socket.
    pub(crate) port: u16,
    /// Connections that came in, for this session and those that shared the forward.
    pub(crate) connections: u64,
}

/// A command as it is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LoggedCommand {
    #[serde(rename = "command_sha256", skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// Its beginning, where it is long.
    #[serde(rename = "command", skip_serializing_if = "Option::is_none")]
    clear: Option<String>,
}

impl LoggedCommand {
    pub(super) fn new(command: &[u8], commands: Commands) -> LoggedCommand {
        match commands {
            Commands::None => LoggedCommand::default(),
            Commands::Hash => {
                let mut hash = String::with_capacity(64);
                for byte in Sha256::digest(command) {
                    let _ = write!(hash, "{byte:02x}");
                }
                LoggedCommand { hash: Some(hash), clear: None }
            }
            Commands::Clear => {
                let begin = &command[..command.len().min(MAX_COMMAND)];
                LoggedCommand {
                    hash: None,
                    clear: Some(String::from_utf8_lossy(begin).into_owned()),
                }
            }
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// With this status.
    Status(u8),
    /// By this signal.
    Signal(u8),
    /// It was not started, or was lost, for this reason.
    Failed(String),
}

impl Event {
    /// What the ordinary log says of it, if anything.
    pub(super) fn line(&self) -> Option<String> {
        let line = match self {
            Event::Run { .. } | Event::Session(_) | Event::Forward(_) | Event::Dropped { .. } => {
                return None;
            }
            Event::Login { host, address, user, accepted, by } => {
                let accepted = accepted.join(", ");
                format!("{user}@{host} ({address}): logged in with {accepted}{}", shown(by))
            }
            Event::Context { context, id, user, by } => {
                format!("{context} ({id}): ready, as {user}{}", shown(by))
            }
            Event::Refused { what, why, by } => format!("{what}: refused: {why}{}", shown(by)),
            Event::Closed { context, id, why } => format!("{context} ({id}): closed: {why}"),
        };
        Some(escaped(&line))
    }
}

/// Who it was for, at the end of a line.
fn shown(by: &Option<Who>) -> String {
    by.as_ref()
        .map(|who| format!(" (for process {} of uid {})", who.pid, who.uid))
        .unwrap_or_default()
}

/// One line of JSON.
pub(super) fn record(event: &Event, now: SystemTime) -> String {
    #[derive(Serialize)]
    struct Record<'a> {
        time: String,
        #[serde(flatten)]
        event: &'a Event,
    }
    let record = Record { time: rfc3339(now), event };
    let mut line = escaped(&serde_json::to_string(&record).unwrap_or_default());
    line.push('\n');
    line
}

/// Text with everything but printable ASCII escaped as JSON does it: hosts and tools have chosen
/// some of it, and somebody may look at it on a terminal.
fn escaped(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if matches!(char, ' '..='~') {
            escaped.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn session(command: LoggedCommand, end: End) -> Event {
        Event::Session(Box::new(SessionEvent {
            ms: 12,
            run: 3,
            by: Some(Who { uid: 1000, pid: 77, at: None }),
            host: "remote".into(),
            context: "web1+sudo".into(),
            id: "@2".into(),
            user: "root".into(),
            program: "command".into(),
            command,
            input: 1,
            output: 2,
            errors: 3,
            agent: None,
            end,
        }))
    }

    #[test]
    fn a_session_is_one_line_of_json() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let line = record(&session(LoggedCommand::new(b"id", Commands::Hash), End::Status(0)), now);
        assert_eq!(
            line,
            "{\"time\":\"2023-11-14T22:13:20.000Z\",\"event\":\"session\",\"ms\":12,\"run\":3,\
             \"by\":{\"uid\":1000,\"pid\":77},\"host\":\"remote\",\"context\":\"web1+sudo\",\
             \"id\":\"@2\",\"user\":\"root\",\"program\":\"command\",\"command_sha256\":\
             \"a56145270ce6b3bebd1dd012b73948677dd618d496488bc608a3cb43ce3547dd\",\
             \"in\":1,\"out\":2,\"err\":3,\"status\":0}\n"
        );
    }

    #[test]
    fn what_a_terminal_acts_on_is_escaped_and_read_again() {
        let odd = "a\u{1b}]0;x\u{7}\u{9b}1m\u{202e}b\u{7f}\u{1f600}\n\"\\";
        let event =
            session(LoggedCommand::new(odd.as_bytes(), Commands::Clear), End::Failed(odd.into()));
        let line = record(&event, UNIX_EPOCH);
        assert!(
            line.trim_end_matches('\n').bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{line}"
        );
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["command"], &read["failed"]), (&odd.into(), &odd.into()));
        let none =
            record(&session(LoggedCommand::new(b"id", Commands::None), End::Signal(9)), UNIX_EPOCH);
        assert!(!none.contains("command_") && none.contains("\"signal\":9"), "{none}");
        let refused = Event::Refused { what: odd.into(), why: "x".into(), by: None };
        assert!(refused.line().unwrap().is_ascii());
    }

    #[test]
    fn a_long_command_is_noted_in_part() {
        let command = LoggedCommand::new(&[b'x'; 3 * MAX_COMMAND], Commands::Clear);
        assert_eq!(command.clear.unwrap().len(), MAX_COMMAND);
    }
}
