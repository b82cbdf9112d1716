//! Says on standard error how a connection stands.

use std::io;

use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::Connection;
use fakessh_protocol::report::Report;
use fakessh_unix::without_number;
use rustix::io::Errno;

/// Writes to standard error, which is a pipe that holds all that is ever written.
pub(super) enum Reporter {
    /// A line for each change, for a program.
    Lines,
    /// Nothing but the reason of a failure, behind the name of the peer, for people.
    Words(String),
}

impl Reporter {
    pub(super) fn new(connection: &Connection) -> Reporter {
        if connection.reports {
            Reporter::Lines
        } else {
            Reporter::Words(connection.peer.to_string())
        }
    }

    /// Whether the connection is that of a stream, and of no hop.
    pub(super) fn is_of_stream(&self) -> bool {
        matches!(self, Reporter::Lines)
    }

    /// The connection is there.
    pub(super) fn connected(&self) {
        self.report(&Report::Connected);
    }

    /// The peer has sent its last byte, and standard output has it.
    pub(super) fn end(&self) {
        self.report(&Report::End);
    }

    /// There is no connection.
    pub(super) fn failed(&self, failure: &Failure) {
        match self {
            Reporter::Lines => self.report(&Report::Failed(failure.clone())),
            Reporter::Words(peer) => write(&format!("{peer}: {failure}\n")),
        }
    }

    /// Bytes of the peer are missing.
    pub(super) fn cut(&self, error: &io::Error) {
        let reason = without_number(error);
        match self {
            Reporter::Words(peer) => write(&format!("{peer}: {reason}\n")),
            Reporter::Lines if Errno::from_io_error(error) == Some(Errno::CONNRESET) => {
                self.report(&Report::Reset(reason));
            }
            Reporter::Lines => self.report(&Report::Cut(reason)),
        }
    }

    fn report(&self, report: &Report) {
        if let Reporter::Lines = self {
            write(&report.line());
        }
    }
}

fn write(line: &str) {
    // A slave that reads no more has nobody to tell.
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}
