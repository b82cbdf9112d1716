//! The value of `-o`: one line as in `ssh_config(5)`.

use fakessh_protocol::forward::{BadForward, Forward, ForwardSide};
use fakessh_protocol::invocation::ForwardAgent;
use fakessh_protocol::terminal::RequestTty;

use super::keyword::{Keyword, Meaning, meaning};
use super::letter::escape_character;
use super::settings::{Demand, SessionType, Settings, Variables};
use super::{Level, UsageError, destination};

mod words;

use words::{matches_any, split_keyword, split_words, trim_start, white};

impl Settings {
    /// Applies one line.
    pub(super) fn config_line(&mut self, line: &[u8]) -> Result<(), UsageError> {
        let Some((written, rest)) = split_keyword(line) else { return Ok(()) };
        let keyword = String::from_utf8_lossy(&written).to_ascii_lowercase();
        if rest.is_empty() {
            let message = format!("no argument after keyword \"{keyword}\"");
            return Err(UsageError::new(message));
        }
        let Some(meaning) = meaning(&keyword) else {
            let ignored = self.ignore_unknown.as_deref().unwrap_or_default();
            if matches_any(keyword.as_bytes(), ignored) {
                return Ok(());
            }
            return Err(UsageError::new(format!("Bad configuration option: {keyword}")));
        };
        // Quotes are held against the rules whatever the keyword.
        let words = split_words(rest).ok_or_else(|| bad(&keyword, "invalid quotes"))?;
        match meaning {
            Meaning::Honoured(honoured) => {
                Value { keyword: &keyword, words, rest }.apply(honoured, self)
            }
            Meaning::Way => {
                self.connect_by(&written, rest);
                Ok(())
            }
            Meaning::WayTime => {
                time(Value { keyword: &keyword, words, rest }.single()?, &keyword)?;
                self.connect_by(&written, rest);
                Ok(())
            }
            Meaning::Ignored => Ok(()),
            Meaning::FilesOnly => {
                Err(bad(&keyword, "directive not supported as a command-line option"))
            }
        }
    }
}

/// What stands behind a keyword.
struct Value<'a> {
    keyword: &'a str,
    words: Vec<Vec<u8>>,
    rest: &'a [u8],
}

impl Value<'_> {
    /// Applies a keyword that we act upon. The first value of a keyword counts.
    fn apply(&self, keyword: Keyword, settings: &mut Settings) -> Result<(), UsageError> {
        match keyword {
            Keyword::BatchMode => first(&mut settings.batch, self.flag()?),
            Keyword::ClearAllForwardings => {
                first(&mut settings.forward_options.clear_all, self.flag()?);
            }
            // Sharing connections is what we do. Only who insists is a master for others.
            Keyword::ControlMaster => {
                let word = self.single()?.to_ascii_lowercase();
                match &word[..] {
                    b"yes" | b"true" | b"ask" => first(&mut settings.master, true),
                    b"no" | b"false" | b"auto" | b"autoask" => first(&mut settings.master, false),
                    _ => return Err(self.unsupported(&word)),
                }
            }
            Keyword::DynamicForward | Keyword::LocalForward | Keyword::RemoteForward => {
                let forward = self.forward(keyword)?;
                settings.add_forward(forward)?;
            }
            Keyword::EscapeChar => first(&mut settings.escape, escape_character(self.single()?)?),
            Keyword::ExitOnForwardFailure => {
                first(&mut settings.forward_options.exit_on_failure, self.flag()?);
            }
            Keyword::ForkAfterAuthentication => first(&mut settings.background, self.flag()?),
            Keyword::ForwardAgent => {
                let value = String::from_utf8_lossy(self.single()?);
                first(&mut settings.agent, ForwardAgent::read(&value));
            }
            Keyword::ForwardX11 => {
                let wanted = self.flag()?;
                if settings.x11.is_none() {
                    settings.x11 = Some(wanted);
                    settings.demand(Demand::X11, self.option());
                }
            }
            Keyword::GatewayPorts => {
                first(&mut settings.forward_options.gateway_ports, self.flag()?);
            }
            Keyword::GssapiDelegateCredentials => {
                let wanted = self.flag()?;
                if settings.delegate_credentials.is_none() && wanted {
                    settings.demand(Demand::Other, self.option());
                }
                first(&mut settings.delegate_credentials, wanted);
            }
            Keyword::IgnoreUnknown => {
                first(&mut settings.ignore_unknown, self.single()?.to_vec());
                settings.connect_by(self.keyword.as_bytes(), self.rest);
            }
            Keyword::LocalCommand => first(&mut settings.local_command, self.command()),
            Keyword::LogLevel => {
                first(&mut settings.level, self.level()?);
                first(&mut settings.debug, self.debug());
            }
            Keyword::PermitLocalCommand => {
                first(&mut settings.permit_local_command, self.flag()?);
            }
            Keyword::PermitRemoteOpen => {
                let words =
                    self.words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
                if settings.forward_options.permit_remote_open.is_empty() {
                    settings.forward_options.permit_remote_open = words.collect();
                }
            }
            Keyword::Port => first(&mut settings.port, destination::port(self.single()?)?),
            Keyword::RemoteCommand => first(&mut settings.remote_command, self.command()),
            Keyword::RequestTty => first(&mut settings.tty, self.tty()?),
            Keyword::SendEnv => self.send_env(&mut settings.send_env)?,
            Keyword::SessionType => first(&mut settings.session_type, self.session_type()?),
            Keyword::SetEnv => first(&mut settings.set_env, self.set_env()?),
            Keyword::StdinNull => first(&mut settings.null_stdin, self.flag()?),
            Keyword::StreamLocalBindMask => {
                first(&mut settings.forward_options.bind_mask, self.mask()?);
            }
            Keyword::StreamLocalBindUnlink => {
                first(&mut settings.forward_options.bind_unlink, self.flag()?);
            }
            Keyword::Tunnel => {
                let wanted = !matches!(&self.single()?.to_ascii_lowercase()[..], b"no" | b"false");
                if settings.tunnel.is_none() && wanted {
                    settings.demand(Demand::Other, self.option());
                }
                first(&mut settings.tunnel, wanted);
            }
            Keyword::User => settings.default_user(Some(self.single()?))?,
        }
        Ok(())
    }

    /// A forward in the words of a configuration.
    fn forward(&self, keyword: Keyword) -> Result<Forward, UsageError> {
        let side = match keyword {
            Keyword::RemoteForward => ForwardSide::Remote,
            _ => ForwardSide::Local,
        };
        let words: Result<Vec<&str>, _> =
            self.words.iter().map(|word| std::str::from_utf8(word)).collect();
        let read = match words.as_deref() {
            Ok([listen]) if keyword != Keyword::LocalForward => {
                Forward::configured(side, listen, None)
            }
            Ok([_]) => return Err(bad(self.keyword, "Missing target argument.")),
            Ok([listen, to]) if keyword != Keyword::DynamicForward => {
                Forward::configured(side, listen, Some(to))
            }
            _ => Err(BadForward),
        };
        read.map_err(|BadForward| bad(self.keyword, "Bad forwarding specification."))
    }

    /// A umask, in octal.
    fn mask(&self) -> Result<u16, UsageError> {
        let text = std::str::from_utf8(self.single()?).unwrap_or_default();
        let mask = u16::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
        mask.ok_or_else(|| bad(self.keyword, "Bad mask."))
    }

    /// The option as it is named to the user.
    fn option(&self) -> String {
        format!("-o {}", self.keyword)
    }

    fn nonempty(&self) -> Result<&[u8], UsageError> {
        let word = self.words.first().filter(|word| !word.is_empty());
        word.map(Vec::as_slice).ok_or_else(|| bad(self.keyword, "missing argument"))
    }

    /// The only word.
    fn single(&self) -> Result<&[u8], UsageError> {
        if self.words.len() > 1 {
            return Err(bad(self.keyword, "extra arguments at end of line"));
        }
        self.nonempty()
    }

    fn unsupported(&self, word: &[u8]) -> UsageError {
        let word = String::from_utf8_lossy(word);
        bad(self.keyword, &format!("unsupported option \"{word}\""))
    }

    fn flag(&self) -> Result<bool, UsageError> {
        let word = self.single()?;
        match &word.to_ascii_lowercase()[..] {
            b"yes" | b"true" => Ok(true),
            b"no" | b"false" => Ok(false),
            _ => Err(self.unsupported(word)),
        }
    }

    fn tty(&self) -> Result<RequestTty, UsageError> {
        let word = self.single()?;
        match &word.to_ascii_lowercase()[..] {
            b"yes" | b"true" => Ok(RequestTty::Yes),
            b"no" | b"false" => Ok(RequestTty::No),
            b"force" => Ok(RequestTty::Force),
            b"auto" => Ok(RequestTty::Auto),
            _ => Err(self.unsupported(word)),
        }
    }

    fn session_type(&self) -> Result<SessionType, UsageError> {
        let word = self.single()?;
        match &word.to_ascii_lowercase()[..] {
            b"none" => Ok(SessionType::Nothing),
            b"subsystem" => Ok(SessionType::Subsystem),
            b"default" => Ok(SessionType::Default),
            _ => Err(self.unsupported(word)),
        }
    }

    fn level(&self) -> Result<Level, UsageError> {
        let word = self.single()?;
        match &word.to_ascii_lowercase()[..] {
            b"quiet" => Ok(Level::Quiet),
            b"fatal" => Ok(Level::Fatal),
            b"error" => Ok(Level::Error),
            b"info" => Ok(Level::Info),
            b"verbose" => Ok(Level::Verbose),
            b"debug" | b"debug1" | b"debug2" | b"debug3" => Ok(Level::Debug),
            _ => {
                let word = String::from_utf8_lossy(word);
                Err(bad(self.keyword, &format!("unsupported log level '{word}'")))
            }
        }
    }

    /// How often `-v` says as much as this level.
    fn debug(&self) -> u8 {
        match self.words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
            Some(b"debug" | b"debug1") => 1,
            Some(b"debug2") => 2,
            Some(b"debug3") => 3,
            _ => 0,
        }
    }

    /// The rest of the line as it is, for a shell.
    fn command(&self) -> Vec<u8> {
        trim_start(self.rest, |byte| white(byte) || byte == b'=').to_vec()
    }

    /// SendEnv adds to what there is; a leading `-` takes away.
    fn send_env(&self, patterns: &mut Vec<String>) -> Result<(), UsageError> {
        for word in &self.words {
            let name = std::str::from_utf8(word).ok();
            let name = name.filter(|name| !name.is_empty() && !name.contains('='));
            let name = name.ok_or_else(|| bad(self.keyword, "Invalid environment name."))?;
            patterns.push(name.to_owned());
        }
        Ok(())
    }

    /// SetEnv sets several; of a name set twice the first counts.
    fn set_env(&self) -> Result<Variables, UsageError> {
        let mut variables = Variables::new();
        for word in &self.words {
            let equals = word.iter().position(|&byte| byte == b'=');
            let equals = equals.ok_or_else(|| bad(self.keyword, "Invalid SetEnv."))?;
            let (name, value) = (&word[..equals], &word[equals + 1..]);
            if variables.iter().all(|(known, _)| known != name) {
                variables.push((name.to_vec(), value.to_vec()));
            }
        }
        Ok(variables)
    }
}

fn first<T>(setting: &mut Option<T>, value: T) {
    setting.get_or_insert(value);
}

fn bad(keyword: &str, why: &str) -> UsageError {
    UsageError::new(format!("-o {keyword}: {why}"))
}

/// Holds a time against `sshd_config(5)`, "TIME FORMATS": numbers with a suffix each.
fn time(word: &[u8], keyword: &str) -> Result<(), UsageError> {
    let mut digits = 0;
    let mut valid = !word.is_empty();
    for byte in word {
        match byte {
            b'0'..=b'9' => digits += 1,
            b's' | b'S' | b'm' | b'M' | b'h' | b'H' | b'd' | b'D' | b'w' | b'W' if digits > 0 => {
                digits = 0;
            }
            _ => valid = false,
        }
    }
    if valid || word == b"none" { Ok(()) } else { Err(bad(keyword, "invalid time value.")) }
}
