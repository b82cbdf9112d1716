//! What may stand behind a hop's name: checks that the kinds share.
//!
//! An argument becomes a word of a command line, often that of a program which runs as root. So
//! none may look like an option there, wherever it stands.

use super::{Plan, Start};

/// Most bytes of an argument. Container names and paths are shorter, and so is what fits on a
/// command line beside the start of a slave.
pub(super) const MAX_ARGUMENT: usize = 4096;

/// What is wrong with the argument of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    /// Byte of the argument where it is wrong; its length where something is missing at the end.
    pub at: usize,
    /// One line that says what is expected.
    pub message: String,
}

impl ArgumentError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> ArgumentError {
        ArgumentError { at, message: message.into() }
    }

    /// The same, in a text that has so many bytes before this part.
    pub(super) fn behind(self, bytes: usize) -> ArgumentError {
        ArgumentError { at: self.at + bytes, ..self }
    }
}

/// A part of an argument that becomes a word: `what` names it in messages.
pub(super) fn check_word(text: &str, what: &str) -> Result<(), ArgumentError> {
    if text.is_empty() {
        return Err(ArgumentError::new(0, format!("{what} is missing here")));
    }
    if text.starts_with('-') {
        let message = format!("{what} begins with '-', which would make it an option");
        return Err(ArgumentError::new(0, message));
    }
    if text.len() > MAX_ARGUMENT {
        let message = format!("{what} is longer than {MAX_ARGUMENT} bytes");
        return Err(ArgumentError::new(0, message));
    }
    match text.find(char::is_control) {
        Some(at) => Err(ArgumentError::new(at, format!("{what} holds a control character"))),
        None => Ok(()),
    }
}

/// A name: a word without blanks and slashes.
pub(super) fn check_name(text: &str, what: &str) -> Result<(), ArgumentError> {
    check_word(text, what)?;
    if let Some(at) = text.find(char::is_whitespace) {
        return Err(ArgumentError::new(at, format!("{what} holds a blank")));
    }
    match text.find('/') {
        Some(at) => Err(ArgumentError::new(at, format!("{what} holds a slash"))),
        None => Ok(()),
    }
}

/// A user of another account, or nothing for root.
pub(super) fn check_user(argument: &str) -> Result<(), ArgumentError> {
    if argument.is_empty() { Ok(()) } else { check_name(argument, "the user's name") }
}

/// That user.
pub(super) fn user(argument: &str) -> &str {
    if argument.is_empty() { ROOT } else { argument }
}

/// Who is meant where no user is named.
pub(super) const ROOT: &str = "root";

/// `[USER@]CONTAINER`, parted.
fn user_and_container(argument: &str) -> (Option<&str>, &str) {
    match argument.rsplit_once('@') {
        Some((user, container)) => (Some(user), container),
        None => (None, argument),
    }
}

/// The container of `[USER@]CONTAINER`.
pub(super) fn container(argument: &str) -> &str {
    user_and_container(argument).1
}

/// `[USER@]CONTAINER`; the user may be `UID:GID`, as the engines take it.
pub(super) fn check_user_and_container(argument: &str) -> Result<(), ArgumentError> {
    let (user, container) = user_and_container(argument);
    if let Some(user) = user {
        check_name(user, "the user's name")?;
    }
    let before = argument.len() - container.len();
    check_name(container, "the container's name").map_err(|error| error.behind(before))
}

/// The plan of an engine's `exec` with these words: `[-u USER] CONTAINER COMMAND` behind them.
pub(super) fn in_container(words: &[&str], argument: &str, start: &Start) -> Plan {
    let (user, container) = user_and_container(argument);
    let user = user.map(|user| ["-u", user]);
    let words = [words, user.as_ref().map_or(&[][..], |user| &user[..]), &[container]].concat();
    Plan::of(start.words_behind(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_in_the_argument_it_is_wrong() {
        let at = |argument| check_user_and_container(argument).unwrap_err().at;
        assert_eq!(at(""), 0);
        assert_eq!(at("app@"), 4);
        assert_eq!(at("@app"), 0);
        assert_eq!(at("-u@app"), 0);
        assert_eq!(at("bob@-app"), 4);
        assert_eq!(at("bob@app/web"), 7);
        assert_eq!(at("b\u{f6}b@a pp"), 6);
        assert_eq!(check_user_and_container("1000:1000@app_1.web-2"), Ok(()));
    }

    #[test]
    fn nobody_named_is_root() {
        assert_eq!((user(""), user("bob")), ("root", "bob"));
        assert_eq!(check_user(""), Ok(()));
        assert_eq!(check_user("#1000"), Ok(()));
        assert_eq!(check_user("DOMAIN\\bob"), Ok(()));
        assert_eq!(check_user(" bob").unwrap_err().at, 0);
    }
}
