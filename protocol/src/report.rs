//! What a connection reports on its standard error: `connected` when it is there, `end` when the
//! peer's bytes have come to their clean end, and anything else is why it failed.
//!
//! The end of standard output alone says nothing: a process that was killed ends it as well. So a
//! connection reports the end before it closes standard output.

use crate::failure::{Failure, FailureKind};
use crate::printable;

/// Most bytes of a line: `failed`, a kind, and a reason of the system. What is longer is cut when it
/// is read, so that it takes no more memory.
pub const MAX_LINE: usize = 1024;

/// Most characters of a reason. With the words before it and up to four bytes each, it fits in a
/// line.
const MAX_REASON: usize = 240;

const CONNECTED: &str = "connected";
const END: &str = "end";
const FAILED: &str = "failed";
const RESET: &str = "reset";
const CUT: &str = "cut";

/// The kinds of failure that a connection reports, and their words.
const KINDS: [(&str, FailureKind); 5] = [
    ("resolve", FailureKind::Resolve),
    ("connect", FailureKind::Connect),
    ("not_found", FailureKind::NotFound),
    ("limit", FailureKind::Limit),
    ("refused", FailureKind::Refused),
];

/// One line of a connection's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The connection is there.
    Connected,
    /// The peer has sent its last byte, and all of them are on standard output.
    End,
    /// There is no connection.
    Failed(Failure),
    /// The peer has reset the connection, with this reason of the system.
    Reset(String),
    /// Bytes of the peer are missing for another reason.
    Cut(String),
}

impl Report {
    /// The line, with its line feed.
    pub fn line(&self) -> String {
        let reason = |text: &str| printable::word(text, MAX_REASON);
        match self {
            Report::Connected => format!("{CONNECTED}\n"),
            Report::End => format!("{END}\n"),
            Report::Failed(Failure { kind, message }) => {
                let known = KINDS.iter().find(|(_, known)| known == kind);
                let word = known.map_or("other", |(word, _)| *word);
                format!("{FAILED} {word} {}\n", reason(message))
            }
            Report::Reset(text) => format!("{RESET} {}\n", reason(text)),
            Report::Cut(text) => format!("{CUT} {}\n", reason(text)),
        }
    }

    /// Reads a line without its line feed. What is no report is the reason of a cut.
    fn parse(line: &[u8]) -> Report {
        match line {
            line if line == CONNECTED.as_bytes() => return Report::Connected,
            line if line == END.as_bytes() => return Report::End,
            _ => {}
        }
        let text = printable::one_line(&String::from_utf8_lossy(line));
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            FAILED => {
                let (kind, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                let known = KINDS.iter().find(|(word, _)| *word == kind);
                let kind = known.map_or(FailureKind::Other, |(_, kind)| *kind);
                Report::Failed(Failure::new(kind, reason))
            }
            RESET => Report::Reset(rest.to_owned()),
            CUT => Report::Cut(rest.to_owned()),
            _ => Report::Cut(text),
        }
    }
}

/// Cuts standard error into lines, and keeps no more than one line that is not complete.
#[derive(Debug, Default)]
pub struct ReportLines {
    line: Vec<u8>,
}

impl ReportLines {
    /// Takes bytes from the front of `bytes`, up to the end of a line, and gives that line's report;
    /// `None` if no line ends in them, and then all of them are taken.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Option<Report> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let room = MAX_LINE - self.line.len();
        self.line.extend_from_slice(&line[..line.len().min(room)]);
        *bytes = rest.get(1..).unwrap_or_default();
        end.map(|_| Report::parse(&std::mem::take(&mut self.line)))
    }

    /// The report of a last line without a line feed, if there is one.
    pub fn rest(&mut self) -> Option<Report> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| Report::parse(&line))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reports(pieces: &[&[u8]]) -> Vec<Report> {
        let mut lines = ReportLines::default();
        let mut reports = Vec::new();
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                reports.extend(lines.take(&mut piece));
            }
        }
        reports.extend(lines.rest());
        reports
    }

    fn failed(kind: FailureKind, reason: &str) -> Report {
        Report::Failed(Failure::new(kind, reason))
    }

    #[test]
    fn what_is_written_is_read() {
        let mut all = vec![
            Report::Connected,
            Report::End,
            Report::Reset("Connection reset by peer".into()),
            Report::Cut("No route to host".into()),
            failed(FailureKind::Other, "no luck"),
        ];
        all.extend(KINDS.map(|(_, kind)| failed(kind, "a reason")));
        let text: String = all.iter().map(Report::line).collect();
        assert_eq!(reports(&[text.as_bytes()]), all);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(reports(&bytes), all);
    }

    #[test]
    fn anything_else_is_a_reason_and_never_an_end() {
        for text in [
            "end of it",
            "END",
            " end",
            "end ",
            "\rend",
            "connected to nobody",
            "sh: not found",
            "",
        ] {
            let reason = text.trim().to_owned();
            assert_eq!(reports(&[text.as_bytes(), b"\n"]), [Report::Cut(reason)], "{text:?}");
        }
        assert_eq!(reports(&[b"en", b"d"]), [Report::End]);
        assert_eq!(reports(&[b"failed"]), [failed(FailureKind::Other, "")]);
        let hidden = Report::Reset("a \u{fffd}[2Jb".into());
        assert_eq!(reports(&[b"reset a \x1b[2Jb\n"]), [hidden]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut lines = ReportLines::default();
        for _ in 0..100 {
            assert_eq!(lines.take(&mut &[b'x'; MAX_LINE][..]), None);
        }
        assert!(lines.line.len() <= MAX_LINE && lines.line.capacity() <= 2 * MAX_LINE);
        let Some(Report::Cut(reason)) = lines.take(&mut &b"\nend\n"[..]) else { panic!() };
        assert!(reason.len() <= MAX_LINE);
        let longest = Report::Reset("\u{10ffff}".repeat(MAX_LINE)).line();
        assert!(longest.len() <= MAX_LINE && reports(&[longest.as_bytes()]).len() == 1);
        let long = failed(FailureKind::NotFound, &"\u{1f600}".repeat(MAX_LINE)).line();
        assert!(long.len() <= MAX_LINE, "{}", long.len());
    }
}
