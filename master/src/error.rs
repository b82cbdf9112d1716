//! Why something of the library failed.

use std::fmt;
use std::io;

use fakessh_protocol::failure::Failure;
pub use fakessh_protocol::failure::FailureKind as ErrorKind;
use fakessh_protocol::message::Refusal;

use crate::context::ContextError;
use crate::route::Route;

/// Why something failed. Its text says what was tried, on what, and what to do. It is one line, but for
/// a mistake in a route, which has lines that point at the place.
///
/// `Debug` shows the same text and the kind, since that is what a `main` prints that returns it.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    /// The route, as it was asked for; empty if there was none.
    route: String,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, route: &str, message: impl fmt::Display) -> Error {
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

    /// Whether the same may succeed a little later: nobody answered, a connection was lost, a limit was
    /// reached. After a loss that means to connect anew: the [`Context`](crate::Context) stays lost.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Connect | ErrorKind::ConnectionLost | ErrorKind::Limit)
    }

    pub(crate) fn config(route: &str, error: &(impl fmt::Display + ?Sized)) -> Error {
        Error::new(ErrorKind::Config, route, error)
    }

    pub(crate) fn other(route: &str, error: &(impl fmt::Display + ?Sized)) -> Error {
        Error::new(ErrorKind::Other, route, error)
    }

    /// A failure that the user's master tells of, whose message may begin with the route.
    pub(crate) fn of_failure(route: &str, failure: Failure) -> Error {
        let rest = failure.message.strip_prefix(route).and_then(|rest| rest.strip_prefix(": "));
        Error::new(failure.kind, route, rest.unwrap_or(&failure.message))
    }

    pub(crate) fn lost(route: &str, lost: &(impl fmt::Display + ?Sized)) -> Error {
        Error::new(ErrorKind::ConnectionLost, route, lost)
    }

    pub(crate) fn output_cut(route: &str) -> Error {
        Error::new(ErrorKind::OutputCut, route, "the program's output was cut short")
    }

    pub(crate) fn refused(route: &str, refusal: &Refusal) -> Error {
        Error::new(refusal.reason.into(), route, &refusal.message)
    }

    /// There is no connection to this peer.
    pub(crate) fn connection(route: &str, peer: &str, failure: &Failure) -> Error {
        let hint = match failure.kind {
            ErrorKind::Resolve => "; check the name",
            ErrorKind::Connect => "; check that something listens there",
            ErrorKind::NotFound => "; check the path",
            ErrorKind::Refused => "; check what the account may do there",
            _ => "",
        };
        let text = format_args!("can't connect to {peer} there: {failure}{hint}");
        Error::new(failure.kind, route, text)
    }

    pub(crate) fn of_stream(route: &str, error: &io::Error) -> Error {
        let is_limit = crate::fd_limit::is_reached(error);
        let kind = if is_limit { ErrorKind::Limit } else { ErrorKind::Other };
        Error::new(kind, route, format_args!("a standard stream: {error}"))
    }

    pub(crate) fn of_context(route: &Route, error: &ContextError) -> Error {
        Error::new(error.kind(), &route.to_string(), error)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.kind)
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
