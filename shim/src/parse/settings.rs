//! What the options seen so far amount to.

use std::path::PathBuf;

use fakessh_protocol::forward::{Forward, ForwardOptions, MAX_FORWARDS};
use fakessh_protocol::invocation::ForwardAgent;
use fakessh_protocol::message::Peer;
use fakessh_protocol::terminal::RequestTty;

use super::{Level, UsageError};

/// What a session is for (`SessionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionType {
    /// A command or a shell.
    Default,
    /// `-N`.
    Nothing,
    /// `-s`.
    Subsystem,
}

/// What an option that can't be honoured yet asks for, which a later option may take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// X11, unless `-x` follows.
    X11,
    /// Anything that nothing takes back.
    Other,
}

/// Variables, as name and value.
pub(super) type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// The settings. `None` is "not said yet", as the first value of a keyword counts.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    /// Words for `ssh -G`.
    pub(super) connection: Vec<Vec<u8>>,
    pub(super) jump: bool,
    /// `-G`: nothing is run.
    pub(super) configuration: bool,
    pub(super) tty: Option<RequestTty>,
    /// `-e`, `EscapeChar`: `None` inside is none.
    pub(super) escape: Option<Option<u8>>,
    pub(super) session_type: Option<SessionType>,
    pub(super) null_stdin: Option<bool>,
    pub(super) background: Option<bool>,
    pub(super) batch: Option<bool>,
    pub(super) x11: Option<bool>,
    pub(super) agent: Option<ForwardAgent>,
    pub(super) tunnel: Option<bool>,
    pub(super) delegate_credentials: Option<bool>,
    /// What was asked for and can't be honoured yet, with the option's name.
    pub(super) demands: Vec<(Demand, String)>,
    pub(super) level: Option<Level>,
    pub(super) verbosity: u8,
    /// How often `-v` would have to be given for what `LogLevel` says.
    pub(super) debug: Option<u8>,
    pub(super) log_file: Option<PathBuf>,
    pub(super) syslog: bool,
    pub(super) permit_local_command: Option<bool>,
    pub(super) local_command: Option<Vec<u8>>,
    pub(super) remote_command: Option<Vec<u8>>,
    pub(super) send_env: Vec<String>,
    pub(super) set_env: Option<Variables>,
    pub(super) ignore_unknown: Option<Vec<u8>>,
    /// `-M`, `ControlMaster yes`.
    pub(super) master: Option<bool>,
    /// `-W`: where standard input and output lead.
    pub(super) stdio_forward: Option<Peer>,
    pub(super) forwards: Vec<Forward>,
    pub(super) forward_options: ForwardOptions,
}

impl Settings {
    /// Notes something that can't be honoured yet, under the name that the user gave it.
    pub(super) fn demand(&mut self, demand: Demand, name: impl Into<String>) {
        self.demands.push((demand, name.into()));
    }

    /// The first demand that no option took back.
    pub(super) fn unserved(&self) -> Option<&str> {
        let stands = |demand: &Demand| match demand {
            Demand::X11 => self.x11 == Some(true),
            Demand::Other => true,
        };
        let first = self.demands.iter().find(|(demand, _)| stands(demand));
        first.map(|(_, name)| name.as_str())
    }

    /// Adds a forward.
    pub(super) fn add_forward(&mut self, forward: Forward) -> Result<(), UsageError> {
        if self.forwards.len() >= MAX_FORWARDS {
            return Err(UsageError::new(format!("more than {MAX_FORWARDS} forwards")));
        }
        self.forwards.push(forward);
        Ok(())
    }

    /// Adds an option that says how to get to the host, in the form of `-o`.
    pub(super) fn connect_by(&mut self, keyword: &[u8], value: &[u8]) {
        self.connection.push(b"-o".to_vec());
        self.connection.push([keyword, b"=", value].concat());
    }
}
