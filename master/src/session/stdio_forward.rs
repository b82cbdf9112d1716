//! `-W`: a connection whose bytes are those of standard input and output.

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::report::Report;

use super::ServedSession;
use super::stdio::Streams;
use crate::child::ChildStderr;
use crate::link::SessionIo;
use crate::pump::{self, Received, Sent};
use crate::report_reader::{ReportReader, UNORDERED};

impl ServedSession {
    /// Moves the bytes of a connection until both directions have ended.
    pub(super) async fn join_stdio(
        &self,
        io: SessionIo,
        Streams { stdin, outputs: [stdout, stderr] }: &mut Streams,
    ) -> Result<ExitStatus, Failure> {
        let SessionIo { stdin: sender, stdout: receiver, stderr: report, mut control } = io;
        let mut report = ReportReader::new(ChildStderr::of_link(report));
        let output = async {
            let received = pump::receive(receiver, stdout).await;
            if let Received::Failed(error) = &received {
                return Err(Failure::other(format!("writing standard output: {error}")));
            }
            if !matches!(received, Received::Unwanted) {
                ended(&mut report).await?;
            }
            stdout.close(&received);
            // What was read may still be on its way to the peer.
            control.outcome().await;
            Ok(())
        };
        // Input goes on as long as there is output, and ends with it.
        let input = async {
            match pump::send(stdin, sender).await {
                Sent::Whole | Sent::Unwanted | Sent::Over => std::future::pending().await,
                Sent::Failed(error) => error,
            }
        };
        tokio::select! {
            biased;
            ended = output => ended?,
            error = input => {
                return Err(Failure::other(format!("reading standard input: {error}")));
            }
        }
        stderr.close(&Received::Whole);
        Ok(ExitStatus::Code(0))
    }
}

/// The peer's bytes have ended.
///
/// # Errors
/// Why that is no good end.
async fn ended(report: &mut ReportReader) -> Result<(), Failure> {
    let cut = |why: String| Failure::new(FailureKind::ConnectionLost, why);
    match report.next().await {
        Some(Report::Connected) => {}
        Some(Report::Failed(Failure { kind, message })) => {
            let message = format!("open failed: connect failed: {message}");
            return Err(Failure::new(kind, format!("{message}; stdio forwarding failed")));
        }
        _ => return Err(cut(UNORDERED.to_owned())),
    }
    match report.next().await {
        Some(Report::End) => Ok(()),
        Some(Report::Reset(why) | Report::Cut(why)) => Err(cut(why)),
        _ => Err(cut("the connection was lost".to_owned())),
    }
}
