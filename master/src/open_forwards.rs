//! The forwards that are open in this process, whoever has asked for them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use fakessh_protocol::forward::{Forward, Listen};
use fakessh_protocol::message::Peer;
use fakessh_unix::listen::SocketFile;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Makes sockets where whoever asked for a forward lives: this process has no right to listen, or to
/// connect, that its caller may not have.
#[async_trait]
pub(crate) trait Sockets: Send + Sync {
    /// Listens. An error is one line in the words of `ssh`.
    async fn listen(&self, listen: Listen) -> Result<LocalListener, String>;

    /// Connects. An error is one line in the words of the system.
    async fn connect(&self, peer: Peer) -> Result<OwnedFd, String>;
}

/// Sockets that listen here.
#[derive(Debug)]
pub(crate) struct LocalListener {
    pub(crate) sockets: Vec<OwnedFd>,
    /// Removed with the sockets.
    pub(crate) file: Option<SocketFile>,
}

/// Whoever may be asked to connect. The first one that is still there is.
#[derive(Clone, Default)]
pub(crate) struct Connectors(Arc<Mutex<Vec<Weak<dyn Sockets>>>>);

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connectors")
    }
}

impl Connectors {
    /// Adds somebody.
    pub(crate) fn add(&self, sockets: &Arc<dyn Sockets>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|sockets| sockets.strong_count() > 0);
        all.push(Arc::downgrade(sockets));
    }

    /// Somebody who is still there.
    pub(crate) fn first(&self) -> Option<Arc<dyn Sockets>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find_map(Weak::upgrade)
    }
}

/// The connections of a forward.
#[derive(Debug)]
pub(crate) struct Connections {
    /// How many there are now.
    open: watch::Sender<usize>,
    /// How many there were.
    all: AtomicU64,
}

/// Counts a connection as open until it is dropped.
pub(crate) struct OpenConnection(Arc<Connections>);

impl Connections {
    pub(crate) fn new() -> Arc<Connections> {
        Arc::new(Connections { open: watch::Sender::new(0), all: AtomicU64::new(0) })
    }

    /// Counts one more.
    pub(crate) fn begin(self: &Arc<Connections>) -> OpenConnection {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.open.send_modify(|open| *open += 1);
        OpenConnection(self.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// A forward that is open, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenForward {
    /// Its number in this process, from 1.
    pub(crate) id: u64,
    /// The context that it leads through, by its number and its name.
    pub(crate) context: (u64, String),
    pub(crate) forward: Forward,
    /// The port that is listened on, if it is a TCP port.
    pub(crate) port: u16,
    pub(crate) connections: Arc<Connections>,
    pub(crate) connectors: Connectors,
    /// Ends it, whoever holds it.
    pub(crate) cancelled: watch::Sender<bool>,
    /// Takes the connections, and serves them.
    pub(crate) task: JoinHandle<()>,
}

impl Drop for OpenForward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenForward {
    /// A new number.
    pub(crate) fn next_id() -> u64 {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed) as u64
    }

    /// How many connections it has now, and has had.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (*self.connections.open.borrow(), self.connections.all.load(Ordering::Relaxed))
    }

    /// Waits until it has no connections. Cancel safe.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as this.
        let _ = self.connections.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Ends it. Connections end as well.
    pub(crate) fn cancel(&self) {
        self.cancelled.send_replace(true);
        self.task.abort();
    }

    /// Whether it was ended, or has ended with its context.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished() || *self.cancelled.borrow()
    }
}

/// All forwards. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenForwards(Arc<Mutex<Vec<Weak<OpenForward>>>>);

impl OpenForwards {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<OpenForward>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a forward, as long as somebody holds it.
    pub(crate) fn add(&self, forward: &Arc<OpenForward>) {
        let mut all = self.lock();
        all.retain(|forward| forward.strong_count() > 0);
        all.push(Arc::downgrade(forward));
    }

    /// All that are open, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<OpenForward>> {
        let all = self.lock();
        all.iter().filter_map(Weak::upgrade).filter(|forward| !forward.is_over()).collect()
    }

    /// The same forward through this context, if it is open already.
    pub(crate) fn find(&self, context: u64, forward: &Forward) -> Option<Arc<OpenForward>> {
        self.all().into_iter().find(|open| open.context.0 == context && open.forward == *forward)
    }
}
