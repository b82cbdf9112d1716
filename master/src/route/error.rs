//! What is wrong with a route, shown where it is wrong.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fakessh_protocol::printable;

use crate::hop::KINDS;
use crate::ssh_config::DestinationError;

/// Columns of the lines that list the hops.
const WIDTH: usize = 78;

/// A text that is no route. Its message is several lines: what is wrong, the route, carets under
/// the place, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    text: String,
    at: Range<usize>,
    what: String,
    hints: Vec<String>,
    /// The file and the line that the text is from, where it is from one.
    origin: Option<(PathBuf, usize)>,
}

impl RouteError {
    pub(super) fn new(text: &str, at: Range<usize>, what: impl Into<String>) -> RouteError {
        let (text, what) = (text.to_owned(), what.into());
        RouteError { text, at, what, hints: Vec::new(), origin: None }
    }

    /// For a text that was to be a destination and nothing else.
    pub(super) fn of_destination(text: &str, error: &DestinationError) -> RouteError {
        RouteError::new(text, error.place_in(text), error.to_string())
    }

    /// One line more about what is expected.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> RouteError {
        self.hints.push(hint.into());
        self
    }

    /// With the list of all hops.
    pub(super) fn with_hops(self) -> RouteError {
        self.with_hint(hops())
    }

    /// From this line of a file.
    pub(super) fn of_file(mut self, path: &Path, line: usize) -> RouteError {
        self.origin = Some((path.to_owned(), line));
        self
    }

    /// The route as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of [`RouteError::text`] that are wrong; empty at its end where something is
    /// missing there.
    pub fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// What is wrong, on one line and without the place.
    pub fn reason(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.origin {
            write!(f, "{}, line {line}: ", path.display())?;
        }
        f.write_str(&printable(&self.what))?;
        write!(f, "\n{}", marked(&self.text, &self.at))?;
        let mut hints = self.hints.iter().flat_map(|hint| hint.lines());
        hints.try_for_each(|line| write!(f, "\n{}", printable(line)))
    }
}

impl std::error::Error for RouteError {}

/// A line with carets under these bytes of it, both indented.
pub(super) fn marked(line: &str, at: &Range<usize>) -> String {
    let columns = |bytes: Range<usize>| line.get(bytes).unwrap_or_default().chars().count();
    let before = " ".repeat(columns(0..at.start));
    let carets = "^".repeat(columns(at.clone()).max(1));
    format!("  {}\n  {before}{carets}", printable(line))
}

/// As wide as before: the carets count on it.
fn printable(line: &str) -> String {
    printable::word(line, usize::MAX)
}

/// The list of all hops, folded.
fn hops() -> String {
    let mut text = String::from("hops are");
    let mut column = text.len();
    for (at, kind) in KINDS.iter().enumerate() {
        let word = if at + 1 < KINDS.len() {
            format!("{},", kind.syntax())
        } else {
            format!("{};", kind.syntax())
        };
        if column + 1 + word.len() > WIDTH {
            text.push_str("\n ");
            column = 1;
        }
        let _ = write!(text, " {word}");
        column += 1 + word.len();
    }
    text + "\n  everything else is a host: [user@]host[:port], or ssh:HOST for one named like a hop"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_the_place() {
        assert_eq!(marked("ab+cd", &(3..5)), "  ab+cd\n     ^^");
        assert_eq!(marked("\u{e4}\u{f6}+cd", &(5..7)), "  \u{e4}\u{f6}+cd\n     ^^");
        assert_eq!(marked("ab+", &(3..3)), "  ab+\n     ^");
        assert_eq!(marked("a\tb\u{1b}c", &(3..4)), "  a b\u{fffd}c\n     ^");
    }

    #[test]
    fn the_list_of_hops_is_folded_and_holds_all() {
        let text = hops();
        assert!(text.lines().all(|line| line.len() <= 90), "{text}");
        assert!(KINDS.iter().all(|kind| text.contains(kind.syntax())), "{text}");
    }
}
