//! Why something of the library failed.

use std::fmt;
use std::io;

use fakessh_protocol::failure::FailureKind;
use fakessh_protocol::message::{Refusal, RefusalReason};

use crate::context::ContextError;
use crate::route::Route;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A route, an option, a configuration file or an argument can't be understood.
    Config,
    /// No address is known for a host's name.
    Resolve,
    /// A host can't be reached, or does not speak SSH.
    Connect,
    /// A host's key is not known, has changed, or is revoked.
    HostKey,
    /// A login was refused.
    Auth,
    /// Somebody has to answer a question, and there is nobody to ask.
    NeedsAnswer,
    /// A hop did not get there: `sudo`, a container.
    Hop,
    /// A hop or a stream needs a slave where none can run.
    NoSlave,
    /// The program or the subsystem does not exist.
    NotFound,
    /// A limit is reached, of this machine or the other: descriptors, processes, the length of a
    /// command.
    Limit,
    /// The connection was lost or closed. What became of a program is unknown.
    ConnectionLost,
    /// A program has ended, and output of it is missing.
    OutputCut,
    /// The master is of another version.
    Version,
    /// Anything else.
    Other,
}

/// Why something failed. Its text is one line that says what was tried, on what, and what to do.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    /// The route, as it was asked for; empty if there was none.
    route: String,
    message: String,
}

impl Error {
    fn new(kind: ErrorKind, route: &str, message: impl fmt::Display) -> Error {
        Error { kind, route: route.to_owned(), message: message.to_string() }
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The route that it is about, as it was asked for; `None` if it is about none.
    pub fn route(&self) -> Option<&str> {
        Some(&*self.route).filter(|route| !route.is_empty())
    }

    /// Whether the same call may succeed a little later: a connection was lost, a limit was reached.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Connect | ErrorKind::ConnectionLost | ErrorKind::Limit)
    }

    pub(crate) fn config(route: &str, error: &(impl fmt::Display + ?Sized)) -> Error {
        Error::new(ErrorKind::Config, route, error)
    }

    pub(crate) fn lost(route: &str, lost: &(impl fmt::Display + ?Sized)) -> Error {
        Error::new(ErrorKind::ConnectionLost, route, lost)
    }

    pub(crate) fn output_cut(route: &str) -> Error {
        Error::new(ErrorKind::OutputCut, route, "the program's output was cut short")
    }

    pub(crate) fn refused(route: &str, refusal: &Refusal) -> Error {
        let kind = match refusal.reason {
            RefusalReason::NotFound => ErrorKind::NotFound,
            RefusalReason::Limit => ErrorKind::Limit,
            RefusalReason::Other => ErrorKind::Other,
        };
        Error::new(kind, route, &refusal.message)
    }

    pub(crate) fn of_stream(route: &str, error: &io::Error) -> Error {
        let is_limit = crate::fd_limit::is_reached(error);
        let kind = if is_limit { ErrorKind::Limit } else { ErrorKind::Other };
        Error::new(kind, route, format_args!("a standard stream: {error}"))
    }

    pub(crate) fn of_context(route: &Route, error: &ContextError) -> Error {
        Error::new(error.kind().into(), &route.to_string(), error)
    }
}

impl From<FailureKind> for ErrorKind {
    fn from(kind: FailureKind) -> ErrorKind {
        match kind {
            FailureKind::Config => ErrorKind::Config,
            FailureKind::Resolve => ErrorKind::Resolve,
            FailureKind::Connect => ErrorKind::Connect,
            FailureKind::HostKey => ErrorKind::HostKey,
            FailureKind::Auth => ErrorKind::Auth,
            FailureKind::NeedsAnswer => ErrorKind::NeedsAnswer,
            FailureKind::Hop => ErrorKind::Hop,
            FailureKind::NoSlave => ErrorKind::NoSlave,
            FailureKind::NotFound => ErrorKind::NotFound,
            FailureKind::Limit => ErrorKind::Limit,
            FailureKind::ConnectionLost => ErrorKind::ConnectionLost,
            FailureKind::OutputCut => ErrorKind::OutputCut,
            FailureKind::Version => ErrorKind::Version,
            _ => ErrorKind::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.route() {
            Some(route) => write!(f, "{route}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
