//! A connection to a port or a Unix socket, opened at the far end.
//!
//! A connection is a program whose standard output is the peer's bytes and whose standard error is
//! its [report]. So whatever carries a [`Child`] carries a [`Stream`].
//!
//! [report]: fakessh_protocol::report

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{MAX_SOCKET_PATH, Peer};
use fakessh_protocol::printable;
use fakessh_protocol::report::Report;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::child::{Child, ChildStdin, ChildStdout};
use crate::command::Command;
use crate::error::Error;
use crate::holder::Held;
use crate::report_reader::{ReportReader, UNORDERED};

/// How long the bytes of a stream that was dropped may take on their way to the peer. Then the
/// connection is cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes of a host's name (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 255;

/// A connection that was opened at the far end: see [`Context::tcp`](crate::Context::tcp) and
/// [`Context::unix`](crate::Context::unix).
///
/// Shutdown is the end of what is sent: the peer reads it at once, and its own bytes still come.
/// `tokio::io::split` makes two halves of it. Dropped, it ends both directions. What was written
/// until then has two seconds to arrive, if the runtime runs on.
///
/// Reading and writing are cancel safe.
pub struct Stream {
    outgoing: ChildStdin,
    incoming: ChildStdout,
    ending: Ending,
    /// Dropped, it tells the task that holds the connection.
    _open: oneshot::Sender<()>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("ending", &self.ending).finish_non_exhaustive()
    }
}

/// How the peer's bytes have come to their end.
#[derive(Clone, Debug)]
enum Verdict {
    Clean,
    Failed(io::ErrorKind, String),
}

impl Verdict {
    fn cut(reason: impl Into<String>) -> Verdict {
        Verdict::Failed(io::ErrorKind::UnexpectedEof, reason.into())
    }
}

/// Whether the end of the peer's bytes was reported yet.
#[derive(Debug)]
enum Ending {
    Awaited(oneshot::Receiver<Verdict>),
    Known(Verdict),
}

impl Ending {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Verdict> {
        if let Ending::Awaited(verdict) = self {
            let verdict = ready!(Pin::new(verdict).poll(cx));
            let ended = |_| Verdict::cut("the runtime of the connection has ended");
            *self = Ending::Known(verdict.unwrap_or_else(ended));
        }
        match self {
            Ending::Known(verdict) => Poll::Ready(verdict.clone()),
            Ending::Awaited(_) => Poll::Pending,
        }
    }
}

impl Stream {
    /// Connects, and waits until the connection is there. Cancelled, it leaves nothing.
    pub(crate) async fn connect(context: &Held, peer: Peer) -> Result<Stream, Error> {
        let name = context.name();
        check(&peer).map_err(|text| Error::config(name, &text))?;
        let shown = printable::word(&peer.to_string(), MAX_HOST);
        let failed = |failure: &Failure| Error::connection(name, &shown, failure);
        let cut = |reason: &str| failed(&Failure::new(FailureKind::Connect, reason));
        let mut child = Command::connection(context, peer).spawn()?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(outgoing), Some(incoming), Some(stderr)) = streams else {
            return Err(cut("the session has no streams"));
        };
        let mut report = ReportReader::new(stderr);
        match report.next().await {
            Some(Report::Connected) => {}
            Some(Report::Failed(failure)) => return Err(failed(&failure)),
            Some(Report::Reset(reason) | Report::Cut(reason)) => return Err(cut(&reason)),
            Some(Report::End) => return Err(cut(UNORDERED)),
            None => {
                let status = child.wait().await?;
                return Err(cut(&format!("what connects has ended ({status})")));
            }
        }
        let (verdict_sender, verdict) = oneshot::channel();
        let (open, closed) = oneshot::channel();
        tokio::spawn(hold(child, report, verdict_sender, closed));
        Ok(Stream { outgoing, incoming, ending: Ending::Awaited(verdict), _open: open })
    }

    /// The peer's bytes have ended, perhaps `cut` on their way.
    fn poll_end(&mut self, cx: &mut TaskContext<'_>, cut: bool) -> Poll<io::Result<()>> {
        let error = match ready!(self.ending.poll(cx)) {
            Verdict::Clean if cut => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "bytes of the peer are missing")
            }
            Verdict::Clean => return Poll::Ready(Ok(())),
            Verdict::Failed(kind, reason) => io::Error::new(kind, reason),
        };
        Poll::Ready(Err(error))
    }
}

/// What can't be connected to, said before anything is sent.
fn check(peer: &Peer) -> Result<(), String> {
    match peer {
        Peer::Tcp { host, .. } => {
            if host.is_empty() || host.len() > MAX_HOST || host.contains('\0') {
                return Err(format!("{host:.80?} is no name and no address of a host"));
            }
        }
        Peer::Unix(path) => {
            let shown = String::from_utf8_lossy(path);
            if path.len() > MAX_SOCKET_PATH {
                return Err(format!(
                    "the path {shown:.200?} has {} bytes, and that of a socket can have \
                     {MAX_SOCKET_PATH}; name a shorter one, such as a symbolic link",
                    path.len()
                ));
            }
            if !path.starts_with(b"/") || path.contains(&0) {
                return Err(format!(
                    "{shown:?} is no absolute path of a socket; names without a file (@NAME) can't \
                     be connected to, as with ssh -L"
                ));
            }
        }
    }
    Ok(())
}

/// Holds a connection until it has ended, or until its stream was dropped.
async fn hold(
    mut child: Child,
    mut report: ReportReader,
    verdict: oneshot::Sender<Verdict>,
    mut closed: oneshot::Receiver<()>,
) {
    let ends = async {
        let _ = verdict.send(ending(&mut child, &mut report).await);
        // What is sent to the peer may go on.
        let _ = child.wait().await;
    };
    tokio::pin!(ends);
    tokio::select! {
        () = &mut ends => return,
        _ = &mut closed => {}
    }
    // A connection that is not over by then is hung up.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, ends).await;
}

/// How the peer's bytes come to their end. The end of standard output is clean only if this says so.
async fn ending(child: &mut Child, report: &mut ReportReader) -> Verdict {
    match report.next().await {
        Some(Report::End) => Verdict::Clean,
        Some(Report::Reset(reason)) => Verdict::Failed(io::ErrorKind::ConnectionReset, reason),
        Some(Report::Cut(reason)) => Verdict::cut(reason),
        Some(Report::Failed(failure)) => Verdict::cut(failure.message),
        Some(Report::Connected) => Verdict::cut(UNORDERED),
        None => Verdict::cut(match child.wait().await {
            Ok(status) => format!("what carries the connection has ended ({status})"),
            Err(error) => error.to_string(),
        }),
    }
}

impl AsyncRead for Stream {
    /// Reads the peer's bytes. Their end is `Ok(0)`, and only if the peer has ended them.
    ///
    /// # Errors
    /// `ConnectionReset` if the peer has reset the connection, `UnexpectedEof` if bytes are missing
    /// for another reason, such as the loss of the connection to the host.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = target.filled().len();
        match ready!(Pin::new(&mut self.incoming).poll_read(cx, target)) {
            Ok(()) if target.filled().len() == before && target.remaining() > 0 => {
                self.poll_end(cx, false)
            }
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => self.poll_end(cx, true),
        }
    }
}

impl AsyncWrite for Stream {
    /// Gives bytes to the connection as fast as the peer takes them.
    ///
    /// # Errors
    /// As for reading, if the reason is known by then; otherwise `BrokenPipe`, if the peer takes no
    /// more or the connection is gone. Reading tells which.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let error = match ready!(Pin::new(&mut self.outgoing).poll_write(cx, bytes)) {
            Ok(len) => return Poll::Ready(Ok(len)),
            Err(error) => error,
        };
        Poll::Ready(Err(match self.ending.poll(cx) {
            Poll::Ready(Verdict::Failed(kind, reason)) => io::Error::new(kind, reason),
            Poll::Ready(Verdict::Clean) | Poll::Pending => {
                io::Error::new(error.kind(), "the peer takes no more, or the connection is gone")
            }
        }))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_connects_to_is_said_before_anything_is_sent() {
        let tcp = |host: &str| check(&Peer::Tcp { host: host.to_owned(), port: 1 });
        let unix = |path: &[u8]| check(&Peer::Unix(path.to_vec()));
        assert!(tcp("::1").is_ok() && tcp("web1").is_ok());
        assert!(tcp("").is_err() && tcp("a\0b").is_err() && tcp(&"a".repeat(256)).is_err());
        assert!(unix(b"/run/\xff").is_ok() && unix(&[b'/'; MAX_SOCKET_PATH]).is_ok());
        for path in [&b""[..], b"run/socket", b"@abstract", b"\0abstract", b"/a\0b"] {
            assert!(unix(path).is_err(), "{path:?}");
        }
        assert!(unix(&[b'/'; MAX_SOCKET_PATH + 1]).unwrap_err().contains("107"));
    }

    #[test]
    fn a_stream_goes_wherever_a_tokio_stream_goes() {
        fn goes<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static>() {}
        goes::<Stream>();
    }
}
