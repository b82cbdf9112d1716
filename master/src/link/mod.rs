//! Links: drive the mux over any byte stream. One task owns the state; sessions send it requests.
//!
//! A session is four handles of the link, seen from here as a [`Sender`] for the program's
//! standard input, two [`Receiver`]s for its output and a [`Control`]. Each is dropped
//! independently, and dropping one says what ssh would say: a dropped sender cuts the stream, a
//! dropped receiver wants no more, a dropped control hangs up.

mod driver;
pub(crate) mod ends;
mod excess;
mod inbox;
mod incoming;
mod listen;
mod piece;
mod request;
mod reverse;
mod reverse_table;
mod share;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::handles::{HandleAllocator, Side};
use fakessh_protocol::message::{Hello, LinkSettings, ProgramKind, ProgramSetup, Spawn, Tool};
use tokio::sync::{mpsc, oneshot, watch};

use crate::stream::ByteStream;

pub(crate) use ends::Traffic;
pub use ends::{Control, LinkLost, Outcome, Receiver, SendError, Sender, SessionIo, Signaller};
pub use inbox::Chunk;
pub(crate) use incoming::{Incoming, IncomingEnd, ListenFor, Listener};
pub(crate) use piece::Piece;
pub use reverse::{ReverseSession, ReverseShim};

use request::{LinkCarrier, LinkRequest, Open};

/// Time between two looks at a link, if the user's configuration names none. Below the shortest
/// idle timeout of common firewalls and of sshd's `ChannelTimeout` in the field.
pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(15);

/// Questions without an answer that a link survives, as `ServerAliveCountMax` 3. Each look at a
/// silent link asks one; with [`DEFAULT_KEEPALIVE`] it is dead after 60 to 75 seconds.
pub const DEFAULT_SILENT_LOOKS: u32 = 3;

/// How long a slave waits for a silent master before it ends itself and all that it started. The
/// master asks twice a minute at least, and has given up by then: a program must not run on for
/// long beside the one that its user starts in its place.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(2 * 60);

/// How long an answer to a probe may take.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// When a link counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Between two looks; zero for never.
    pub interval: Duration,
    /// Questions without an answer that the link survives; at least 1.
    pub silent_looks: u32,
    /// How long the slave waits for a silent master; zero for ever.
    pub silence: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            interval: DEFAULT_KEEPALIVE,
            silent_looks: DEFAULT_SILENT_LOOKS,
            silence: DEFAULT_SILENCE,
        }
    }
}

impl Keepalive {
    fn settings(self) -> LinkSettings {
        let milliseconds = |duration: Duration| duration.as_millis().min(u32::MAX.into()) as u32;
        LinkSettings {
            keepalive_ms: milliseconds(self.interval),
            silence_ms: milliseconds(self.silence),
        }
    }
}

/// A link to one slave. Clones are the same link; it ends when it is closed or lost.
#[derive(Clone, Debug)]
pub struct Link {
    requests: mpsc::UnboundedSender<LinkRequest>,
    lost: watch::Receiver<Option<LinkLost>>,
    handles: Arc<HandleAllocator>,
    hello: Arc<Hello>,
}

impl Link {
    /// Starts to drive a stream at whose far end a slave has said hello. `early` are the bytes
    /// that came after its hello.
    pub(crate) fn start(
        stream: ByteStream,
        mux: fakessh_protocol::mux::Mux,
        early: bytes::Bytes,
        hello: Hello,
        keepalive: Keepalive,
    ) -> Link {
        let (requests, receiver) = mpsc::unbounded_channel();
        let (lost_sender, lost) = watch::channel(None);
        let driver = driver::Driver::new(stream, mux, requests.downgrade(), receiver, keepalive);
        tokio::spawn(async move {
            let reason = driver.run(early).await;
            tracing::debug!(%reason, "link ended");
            let _ = lost_sender.send(Some(reason));
        });
        Link {
            requests,
            lost,
            handles: Arc::new(HandleAllocator::new(Side::Master)),
            hello: Arc::new(hello),
        }
    }

    /// What the slave said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Starts a session. The request is on its way when this returns, and standard input may
    /// follow at once: nothing is waited for.
    pub fn open(&self, program: ProgramKind, setup: ProgramSetup) -> Result<SessionIo, LinkLost> {
        self.open_with(program, setup, None)
    }

    /// Starts a tool whose own `ssh` comes back as a [`ReverseSession`], until the tool's session is
    /// over.
    pub fn open_tool(
        &self,
        tool: Tool,
        setup: ProgramSetup,
    ) -> Result<(SessionIo, mpsc::UnboundedReceiver<ReverseSession>), LinkLost> {
        let (sender, reverse) = mpsc::unbounded_channel();
        let session = self.open_with(ProgramKind::Tool(tool), setup, Some(sender))?;
        Ok((session, reverse))
    }

    fn open_with(
        &self,
        program: ProgramKind,
        setup: ProgramSetup,
        reverse: Option<mpsc::UnboundedSender<ReverseSession>>,
    ) -> Result<SessionIo, LinkLost> {
        let handles = self.handles.pick();
        let spawn = Spawn { handles, program, setup };
        let (session, io) = ends::session(LinkCarrier::new(handles, self.requests.clone()));
        let open = LinkRequest::Open(Box::new(Open { spawn, io, reverse }));
        self.requests.send(open).map_err(|_| self.why_lost())?;
        Ok(session)
    }

    /// Whether the link is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.borrow().is_some() || self.requests.is_closed()
    }

    /// Waits until the link is gone, and says why. Cancel safe.
    pub async fn lost(&self) -> LinkLost {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| LinkLost("the link ended".into())),
            Err(_) => LinkLost("the link's task ended".into()),
        }
    }

    /// Asks the slave for a sign of life; if none comes in ten seconds, the link is dead. For use
    /// when there is a reason to doubt it: the machine has slept.
    pub fn probe(&self) {
        let _ = self.requests.send(LinkRequest::Probe);
    }

    /// Waits for a sign of life that comes after this was called; false if the link is lost. Cancel
    /// safe.
    pub(crate) async fn answers(&self) -> bool {
        let (sender, answered) = oneshot::channel();
        self.requests.send(LinkRequest::Ask(sender)).is_ok() && answered.await.is_ok()
    }

    /// Ends the link and every session on it.
    pub fn close(&self) {
        let _ = self.requests.send(LinkRequest::Close);
    }

    fn why_lost(&self) -> LinkLost {
        self.lost.borrow().clone().unwrap_or_else(|| LinkLost("the link ended".into()))
    }
}
