//! The forwards that are open in this process, whoever has asked for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use fakessh_protocol::forward::{Forward, Listen};
use fakessh_protocol::message::Peer;
use fakessh_unix::listen::SocketFile;
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio::task::JoinHandle;

use crate::pump::{Aside, Foreign};

/// Makes sockets where whoever asked for a forward lives: this process has no right to listen, or to
/// connect, that its caller may not have.
#[async_trait]
pub(crate) trait Sockets: Send + Sync {
    /// Listens. An error is one line in the words of `ssh`.
    async fn listen(&self, listen: Listen) -> Result<LocalListener, String>;

    /// Connects. An error is one line in the words of the system.
    async fn connect(&self, peer: Peer) -> Result<Foreign, String>;
}

/// Sockets that listen here.
#[derive(Debug)]
pub(crate) struct LocalListener {
    pub(crate) sockets: Vec<Foreign>,
    /// Removed with the sockets.
    pub(crate) file: Option<Aside<SocketFile>>,
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
        let one = Arc::downgrade(sockets);
        all.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&one));
        all.push(one);
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

    /// How many there are now, and were.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (*self.open.borrow(), self.all.load(Ordering::Relaxed))
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
    pub(crate) serving: Serving,
    /// How many use it ([`UsedForward`]).
    pub(crate) users: Arc<AtomicUsize>,
}

/// A task that takes connections, and serves them. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Serving {
    task: JoinHandle<()>,
    stop: Arc<Notify>,
    /// Its sender is gone when nothing is listened on any more.
    listening: watch::Receiver<()>,
    /// Its sender is gone when the task and its sockets are.
    serving: watch::Receiver<()>,
}

/// Held by such a task as long as it listens.
#[derive(Debug)]
pub(crate) struct Listening {
    stop: Arc<Notify>,
    _until: watch::Sender<()>,
}

impl Listening {
    /// Waits until nothing is to be listened on any more. Cancel safe.
    pub(crate) async fn stopped(&mut self) {
        self.stop.notified().await;
    }
}

impl Serving {
    /// Starts the task.
    pub(crate) fn spawn<T>(serve: impl FnOnce(Listening) -> T) -> Serving
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let (until, listening) = watch::channel(());
        let (alive, serving) = watch::channel(());
        let stop = Arc::new(Notify::new());
        let serve = serve(Listening { stop: stop.clone(), _until: until });
        let task = tokio::spawn(async move {
            // Dropped after all that is served.
            let _alive = alive;
            serve.await;
        });
        Serving { task, stop, listening, serving }
    }

    /// Listens no more, and waits until that is so. Connections go on. Cancelled, it stops all the same.
    pub(crate) async fn stop(&self) {
        self.stop.notify_one();
        gone(&self.listening).await;
    }
}

/// Waits until the sender is gone.
fn gone(of: &watch::Receiver<()>) -> impl Future<Output = ()> + use<> {
    let mut of = of.clone();
    async move { while of.changed().await.is_ok() {} }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenForward {
    /// A new number.
    pub(crate) fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends it and its connections, whoever holds it, and waits until nothing is listened on any more.
    pub(crate) async fn cancel(&self) {
        self.serving.stop().await;
        self.serving.task.abort();
        gone(&self.serving.serving).await;
    }

    /// Whether it listens no more: it was ended, or its context was.
    pub(crate) fn is_over(&self) -> bool {
        self.serving.listening.has_changed().is_err()
    }
}

/// How long a session's end waits for somebody who is opening the same forward: its `ssh` may be
/// stopped.
const OPENING: Duration = Duration::from_secs(1);

/// A forward that a session uses: it stays open as long as this.
#[derive(Debug)]
pub(crate) struct UsedForward {
    forward: Arc<OpenForward>,
    usage: Usage,
}

/// Counts a session as a user of a forward until this is dropped.
#[derive(Debug)]
struct Usage(Arc<AtomicUsize>);

impl Drop for Usage {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UsedForward {
    pub(crate) fn of(forward: Arc<OpenForward>) -> UsedForward {
        forward.users.fetch_add(1, Ordering::Relaxed);
        let usage = Usage(forward.users.clone());
        UsedForward { forward, usage }
    }

    pub(crate) fn forward(&self) -> &Arc<OpenForward> {
        &self.forward
    }

    /// Whether somebody else uses it as well.
    pub(crate) fn is_shared(&self) -> bool {
        self.usage.0.load(Ordering::Relaxed) > 1
    }

    /// Whether it listens no more, and its connections have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.forward.serving.task.is_finished()
    }

    /// As [`UsedForward::close`], after the end of the forward's connections.
    pub(crate) async fn close_after_connections(self, table: &OpenForwards) {
        let UsedForward { forward, usage } = self;
        let users = usage.0.clone();
        drop(usage);
        // Of sessions that end at the same time, the last one waits.
        if users.load(Ordering::Relaxed) == 0 {
            // The sender lives as long as the forward.
            let _ = forward.connections.open.subscribe().wait_for(|open| *open == 0).await;
        }
        close(forward, table).await;
    }

    /// Closes the forward, if nobody else uses it. Cancelled, it is closed all the same.
    pub(crate) async fn close(self, table: &OpenForwards) {
        let UsedForward { forward, usage } = self;
        drop(usage);
        close(forward, table).await;
    }
}

async fn close(forward: Arc<OpenForward>, table: &OpenForwards) {
    // Whoever opens the same one meanwhile finds it, or finds it closed.
    let turn = table.turn(forward.context.0, &forward.forward);
    let _turn = tokio::time::timeout(OPENING, turn).await;
    if let Some(forward) = Arc::into_inner(forward) {
        // Whoever starts the next session may want the same port.
        forward.cancel().await;
    }
}

/// All forwards. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenForwards {
    all: Arc<Mutex<Vec<Weak<OpenForward>>>>,
    /// Whose turn it is to open a forward through a context.
    turns: Arc<Mutex<Turns>>,
}

type Turns = HashMap<(u64, Forward), Weak<tokio::sync::Mutex<()>>>;

impl OpenForwards {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<OpenForward>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else is opening the same forward: who comes second is to find the first
    /// one's. Cancel safe.
    pub(crate) async fn turn(&self, context: u64, forward: &Forward) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let key = (context, forward.clone());
            turns.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(key, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
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
