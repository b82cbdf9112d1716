//! From the options, the host and the words of the command to an invocation.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use fakessh_protocol::invocation::{
    Destination, Invocation, Request, SessionKeywords, join_command,
};

use super::expand::{Expanded, Tokens};
use super::settings::{Demand, SessionType, Settings};
use super::{Local, Surroundings, UsageError};

impl Settings {
    /// The end of parsing: what holds between options, and what they come to.
    pub(super) fn finish(
        mut self,
        host: String,
        words: &[&[u8]],
        surroundings: Surroundings,
    ) -> Result<(Invocation, Local), UsageError> {
        if self.configuration {
            // The real ssh does what the other options say, and finds what is wrong with them.
            self = Settings {
                user: self.user,
                port: self.port,
                connection: self.connection,
                level: self.level,
                verbosity: self.verbosity,
                debug: self.debug,
                configuration: true,
                ..Settings::default()
            };
        }
        if self.syslog && self.log_file.is_some() {
            return Err(UsageError::new("Can't specify both -y and -E"));
        }
        let background = self.background == Some(true);
        let null_stdin = background || self.null_stdin == Some(true);
        let given = SessionKeywords {
            remote_command: self.remote_command.is_some(),
            session_type: self.session_type.is_some(),
            stdin_null: background || self.null_stdin.is_some(),
        };
        let request = self.request(&host, words)?;
        let local_command = self.expanded_local_command(&host)?;
        let unserved = self.unserved().map(str::to_owned);
        let invocation = Invocation {
            destination: Destination { user: self.user, host, port: self.port },
            request,
            connection: self.connection,
            batch: self.batch == Some(true),
            send_env: self.send_env,
            set_env: self.set_env.unwrap_or_default(),
            environment: surroundings.environment,
            directory: surroundings.directory,
            starts_in: Vec::new(),
            terminal: None,
            request_tty: self.tty,
            forwards: self.forwards,
            forward_options: self.forward_options,
            agent: self.agent,
            multiplex: None,
            unserved,
            announce: background || local_command.is_some(),
            given,
            verbosity: self.verbosity.max(self.debug.unwrap_or(0)),
        };
        let local = Local {
            log_file: self.log_file,
            level: self.level.unwrap_or_default(),
            null_stdin,
            background,
            local_command,
            escape: self.escape,
            is_master: self.master == Some(true),
        };
        Ok((invocation, local))
    }

    fn request(&mut self, host: &str, words: &[&[u8]]) -> Result<Request, UsageError> {
        if self.configuration {
            return Ok(Request::Configuration);
        }
        let mut command = join_command(words.iter().copied());
        let session_type = self.session_type.unwrap_or(SessionType::Default);
        if session_type == SessionType::Subsystem && words.is_empty() {
            return Err(UsageError::new("You must specify a subsystem to invoke."));
        }
        let remote_command = self.remote_command.take();
        let remote_command = remote_command.filter(|text| !text.eq_ignore_ascii_case(b"none"));
        if let Some(text) = remote_command {
            if !command.is_empty() {
                return Err(UsageError::new("Cannot execute command-line and remote command."));
            }
            command = self.expand(host, &text, "RemoteCommand")?.unwrap_or(text);
        }
        if self.background == Some(true)
            && command.is_empty()
            && session_type != SessionType::Nothing
        {
            return Err(UsageError::new(
                "Cannot fork into background without a command to execute.",
            ));
        }
        Ok(match session_type {
            SessionType::Nothing => match self.stdio_forward.take() {
                Some(peer) => Request::Stdio(peer),
                None => Request::Nothing,
            },
            SessionType::Subsystem => match String::from_utf8(command) {
                Ok(name) => Request::Subsystem(name),
                Err(_) => return Err(UsageError::new("the subsystem's name is not text")),
            },
            SessionType::Default if command.is_empty() => Request::Login,
            SessionType::Default => Request::Command(command),
        })
    }

    fn expanded_local_command(&mut self, host: &str) -> Result<Option<OsString>, UsageError> {
        let Some(text) = self.local_command.take() else { return Ok(None) };
        if self.permit_local_command != Some(true) || text.eq_ignore_ascii_case(b"none") {
            return Ok(None);
        }
        Ok(self.expand(host, &text, "LocalCommand")?.map(OsString::from_vec))
    }

    /// Replaces tokens; `None`, and a demand, where one is unknown to us.
    fn expand(
        &mut self,
        host: &str,
        text: &[u8],
        keyword: &str,
    ) -> Result<Option<Vec<u8>>, UsageError> {
        let tokens = Tokens { host, user: self.user.as_deref(), port: self.port };
        match tokens.expand(text)? {
            Expanded::Text(text) => Ok(Some(text)),
            Expanded::Unknown(token) => {
                self.demand(Demand::Other, format!("%{token} in {keyword}"));
                Ok(None)
            }
        }
    }
}
