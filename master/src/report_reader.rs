//! Reads the report of a connection from its standard error.

use fakessh_protocol::report::{MAX_LINE, Report, ReportLines};
use tokio::io::AsyncReadExt as _;

use crate::child::ChildStderr;

/// What a report says that comes out of its order.
pub(crate) const UNORDERED: &str = "its report can't be understood";

/// Reads the report of a connection.
pub(crate) struct ReportReader {
    stderr: ChildStderr,
    lines: ReportLines,
    /// What was read.
    buffer: Box<[u8]>,
    /// The part of it that is not used up.
    unused: std::ops::Range<usize>,
}

impl ReportReader {
    pub(crate) fn new(stderr: ChildStderr) -> ReportReader {
        let buffer = vec![0; MAX_LINE].into();
        ReportReader { stderr, lines: ReportLines::default(), buffer, unused: 0..0 }
    }

    /// The next line; `None` if there is no more, also if standard error was cut. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        loop {
            let mut bytes = &self.buffer[self.unused.clone()];
            let report = self.lines.take(&mut bytes);
            self.unused.start = self.unused.end - bytes.len();
            if report.is_some() {
                return report;
            }
            match self.stderr.read(&mut self.buffer).await {
                Ok(0) => return self.lines.rest(),
                Ok(len) => self.unused = 0..len,
                Err(_) => return None,
            }
        }
    }
}
