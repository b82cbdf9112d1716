//! A program that runs in a context, and its standard streams.
//!
//! The end of a stream, the end of the program and the loss of the connection are three things:
//! the end of a stream is read as `Ok(0)`, the end of the program is [`Child::wait`], and the loss of
//! the connection is an error of both.

mod pumps;
mod status;
mod streams;

use std::task::{Context, Poll, Waker};

use crate::context::SessionCount;
use crate::error::Error;
use crate::link::{Control, Outcome, Signaller};
use crate::shared::SharedSession;

pub(crate) use pumps::Pumps;
pub use status::{ExitStatus, Output, Signal};
pub use streams::{ChildStderr, ChildStdin, ChildStdout};

/// The streams of a program that are fields of its [`Child`].
pub(crate) struct Streams {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

/// A program that runs in a context. Dropped, it hangs the program up: SIGHUP, and after two
/// seconds SIGKILL. [`Child::detach`] leaves it alone.
#[derive(Debug)]
pub struct Child {
    /// Standard input, if it was [`Stdio::piped`](crate::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// Standard output, likewise.
    pub stdout: Option<ChildStdout>,
    /// Standard error, likewise.
    pub stderr: Option<ChildStderr>,
    runner: Runner,
    status: Option<Result<ExitStatus, Error>>,
    name: String,
}

/// Who runs the program.
#[derive(Debug)]
enum Runner {
    /// This process.
    Here { control: Control, signaller: Signaller, pumps: Pumps, _running: SessionCount },
    /// The user's master.
    Shared(SharedSession),
}

impl Runner {
    /// Waits for the end of the program, and of what moves its bytes. Cancel safe.
    async fn outcome(&mut self, name: &str) -> Result<ExitStatus, Error> {
        let (control, pumps) = match self {
            Runner::Here { control, pumps, .. } => (control, pumps),
            Runner::Shared(session) => return session.outcome(name).await.map(ExitStatus::new),
        };
        let outcome = control.outcome().await;
        match (outcome, pumps.end().await) {
            (Outcome::Refused(refusal), _) => Err(Error::refused(name, &refusal)),
            (Outcome::Lost(lost), _) => Err(Error::lost(name, &lost)),
            // The status counts only if the bytes are where they should be.
            (Outcome::Exited(_), Err(error)) => Err(error),
            (Outcome::Exited(status), Ok(())) => Ok(ExitStatus::new(status)),
        }
    }
}

impl Child {
    fn new(name: &str, runner: Runner, streams: Streams) -> Child {
        let Streams { stdin, stdout, stderr } = streams;
        Child { stdin, stdout, stderr, runner, status: None, name: name.to_owned() }
    }

    /// A program that this process runs.
    pub(crate) fn here(
        name: &str,
        control: Control,
        running: SessionCount,
        streams: Streams,
        pumps: Pumps,
    ) -> Child {
        let signaller = control.signaller();
        Child::new(name, Runner::Here { control, signaller, pumps, _running: running }, streams)
    }

    /// A program that the user's master runs.
    pub(crate) fn shared(name: &str, session: SharedSession, streams: Streams) -> Child {
        Child::new(name, Runner::Shared(session), streams)
    }

    /// Sends a signal to the program's process group. Nothing is waited for; a program that has
    /// ended gets none.
    pub fn signal(&self, signal: Signal) {
        match &self.runner {
            Runner::Here { signaller, .. } => signaller.signal(signal.number()),
            Runner::Shared(session) => session.signal(signal.number()),
        }
    }

    /// Kills the program's process group, which it can't prevent: as [`Child::signal`] with
    /// [`Signal::KILL`].
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Closes standard input, if it is still here, and waits for the program's end, which comes after
    /// the last byte of its output. Later calls give the same answer. Read piped
    /// outputs before or meanwhile: a program whose output nobody reads stops, and never ends.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) and others if the program was never
    /// started, [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost) if the connection was
    /// lost: then it is unknown what became of the program.
    /// [`ErrorKind::OutputCut`](crate::ErrorKind::OutputCut) and others if the program ended, and its
    /// output is not whole where it should be.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        match &self.status {
            Some(status) => status.clone(),
            None => {
                let status = self.runner.outcome(&self.name).await;
                self.status.insert(status).clone()
            }
        }
    }

    /// The program's end, if it has come, as [`Child::wait`] would say it; `None` while the program
    /// runs. Standard input stays open. Nothing is waited for.
    ///
    /// Must be called in a tokio runtime, which has to run for news to arrive.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            let mut context = Context::from_waker(Waker::noop());
            let outcome = std::pin::pin!(self.runner.outcome(&self.name));
            if let Poll::Ready(status) = outcome.poll(&mut context) {
                self.status = Some(status);
            }
        }
        self.status.clone().transpose()
    }

    /// Waits for the program's end, and collects what it prints to the streams that are still here.
    ///
    /// Memory grows with the output. Cancelled, it hangs the program up.
    ///
    /// # Errors
    /// As [`Child::wait`], and [`ErrorKind::OutputCut`](crate::ErrorKind::OutputCut) if output is
    /// missing though the program ended.
    pub async fn wait_with_output(mut self) -> Result<Output, Error> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr, status) = tokio::join!(
            async {
                match stdout {
                    Some(stdout) => stdout.0.collect().await,
                    None => Some(Vec::new()),
                }
            },
            async {
                match stderr {
                    Some(stderr) => stderr.0.collect().await,
                    None => Some(Vec::new()),
                }
            },
            self.wait()
        );
        let status = status?;
        match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => Ok(Output { status, stdout, stderr }),
            _ => Err(Error::output_cut(&self.name)),
        }
    }

    /// Lets the program run on without this process: it is not hung up, and its status is not known.
    /// It ends with the connection, which may be the user's master's. Streams of this child end as if they were dropped.
    ///
    /// Must be called in a tokio runtime.
    pub fn detach(mut self) {
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take()));
        if let Runner::Shared(session) = &self.runner {
            return session.detach();
        }
        tokio::spawn(async move {
            let _ = self.wait().await;
        });
    }
}
