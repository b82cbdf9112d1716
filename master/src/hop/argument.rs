//! Checks of a hop's argument that several kinds share.
//!
//! An argument becomes a word of a command line, often of a program that runs as root. So no
//! argument may look like an option there.

/// Most bytes of an argument. Container names and paths are shorter, and a command line has room
/// for so much beside the start of a slave.
pub(super) const MAX_ARGUMENT: usize = 4096;

/// Says what is wrong with the argument of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    /// The byte at which the argument is wrong; its length if something is missing at the end.
    pub at: usize,
    /// One line that says what is expected.
    pub message: String,
}

impl ArgumentError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> ArgumentError {
        ArgumentError { at, message: message.into() }
    }

    /// The same error in a text that has so many bytes before this part.
    pub(super) fn after(self, bytes: usize) -> ArgumentError {
        ArgumentError { at: self.at + bytes, ..self }
    }
}

/// Checks a part of an argument that becomes a word. `what` names it in messages.
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

/// Checks a name: a word without blanks and slashes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_part_is_shown_in_the_whole() {
        assert_eq!(check_name("a b", "it").map_err(|error| error.after(4).at), Err(5));
    }
}
