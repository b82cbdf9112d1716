//! Sockets that a shim makes for us: for the forwards of its session.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use fakessh_protocol::forward::Listen;
use fakessh_protocol::message::{ListenAnswer, Peer, ToShim};
use fakessh_unix::listen::SocketFile;
use tokio::sync::{Semaphore, oneshot};

use crate::accepting::is_stream_listener;
use crate::open_forwards::{LocalListener, Sockets};
use crate::pump::{Aside, Foreign};
use crate::socket::Socket;

/// Most connections that a shim makes at a time. Others wait.
const MAX_CONNECTING: usize = 64;

/// What there is to say of a shim that is gone.
const GONE: &str = "the ssh that asked for it has ended";

/// Asks a shim for sockets.
pub(super) struct ShimSockets {
    socket: Arc<Socket>,
    /// One request to listen at a time: the task that holds this waits for the answer.
    turn: tokio::sync::Mutex<()>,
    /// Places for requests to connect: the shim has a process for each.
    connecting: Semaphore,
    waiting: Mutex<Waiting>,
}

/// Who waits for answers.
#[derive(Default)]
struct Waiting {
    listening: Option<oneshot::Sender<Result<LocalListener, String>>>,
    connecting: HashMap<u32, oneshot::Sender<Result<Foreign, String>>>,
    /// The number of the next request to connect.
    next: u32,
}

impl ShimSockets {
    /// Asks over this socket.
    pub(super) fn new(socket: Arc<Socket>) -> Arc<ShimSockets> {
        let (turn, waiting) = Default::default();
        let connecting = Semaphore::new(MAX_CONNECTING);
        Arc::new(ShimSockets { socket, turn, connecting, waiting })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shim has listened, or says why not.
    pub(super) fn listening(&self, answer: ListenAnswer, mut sockets: Vec<Foreign>) {
        let ListenAnswer { why_not, file } = answer;
        // The directory of its file comes last.
        let file = file.and_then(|name| {
            let directory = sockets.pop()?.as_fd().try_clone_to_owned().ok()?;
            SocketFile::named(name, directory).map(Aside::new)
        });
        let answer = if sockets.is_empty() {
            Err(why_not)
        } else if sockets.iter().all(is_stream_listener) {
            Ok(LocalListener { sockets, file })
        } else {
            Err("what came is no socket that listens".to_owned())
        };
        if let Some(waiting) = self.waiting().listening.take() {
            let _ = waiting.send(answer);
        }
    }

    /// The shim has connected, or says why not.
    pub(super) fn connected(&self, number: u32, why_not: String, socket: Option<Foreign>) {
        if let Some(waiting) = self.waiting().connecting.remove(&number) {
            let _ = waiting.send(socket.ok_or(why_not));
        }
    }

    async fn send(&self, message: ToShim) -> Result<(), String> {
        self.socket.send_message(&message, &[]).await.map_err(|_| GONE.to_owned())
    }
}

#[async_trait]
impl Sockets for ShimSockets {
    async fn listen(&self, listen: Listen) -> Result<LocalListener, String> {
        let _turn = self.turn.lock().await;
        let (sender, answer) = oneshot::channel();
        self.waiting().listening = Some(sender);
        self.send(ToShim::Listen(listen)).await?;
        answer.await.unwrap_or_else(|_| Err(GONE.to_owned()))
    }

    async fn connect(&self, peer: Peer) -> Result<Foreign, String> {
        let _place = self.connecting.acquire().await.map_err(|_| GONE)?;
        let (sender, answer) = oneshot::channel();
        let number = {
            let mut waiting = self.waiting();
            let number = waiting.next;
            waiting.next = number.wrapping_add(1);
            waiting.connecting.insert(number, sender);
            number
        };
        self.send(ToShim::Connect(number, peer)).await?;
        answer.await.unwrap_or_else(|_| Err(GONE.to_owned()))
    }
}
