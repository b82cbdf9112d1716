//! `-M`: serves OpenSSH's mux protocol at a ControlPath, as an `ssh` would whose session keeps the
//! context. Its clients are the user's own, such as `/usr/bin/ssh -S PATH`.

mod socket;
mod wire;

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fakessh_protocol::forward::{Forward, ForwardOptions, ForwardSide, Listen, ListenAddress};
use fakessh_protocol::invocation::{Invocation, Multiplex, Request as Wanted};
use fakessh_protocol::message::Handoff;
use fakessh_protocol::terminal::{RequestTty, TerminalRequest, WindowSize};
use fakessh_unix::{peer, terminal_modes};
use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::{Invoker, Messages, ServedSession, Stdio};
use crate::caller::AskNobody;
use crate::context::Context;
use crate::open_forwards::{LocalListener, OpenForward, OpenForwards, Sockets};
use crate::run::Run;
use crate::{fd_limit, forward, sys};

use socket::ClientSocket;
use wire::{Answer, Request, Session};

/// How long a target may take to answer whether it is there.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a connection could not be accepted for want of descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// The rights of the socket: the user's alone.
const MASK: u16 = 0o177;

/// A socket that is served, until this is dropped.
pub(super) struct Served {
    shared: Arc<Master>,
    task: JoinHandle<()>,
}

/// What all clients of a socket share.
struct Master {
    /// Leads to the one context.
    run: Arc<Run>,
    context: Arc<Context>,
    sockets: Arc<dyn Sockets>,
    forward_options: ForwardOptions,
    /// The forwards that clients have opened.
    forwards: Mutex<Vec<Arc<OpenForward>>>,
    /// The process that clients tell of other window sizes.
    pid: AtomicU32,
    /// Changes when terminals may have other sizes.
    windows: watch::Sender<()>,
    /// The session that this belongs to is to end.
    terminate: Notify,
    /// No more connections are taken.
    stop: Notify,
    /// How many sessions there are.
    sessions: watch::Sender<usize>,
    next: AtomicU32,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// Serves the socket of an invocation, whose shim is `pid`.
    ///
    /// # Errors
    /// One line that says why it can't be listened there.
    pub(super) async fn start(
        multiplex: &Multiplex,
        (run, context): (Arc<Run>, Arc<Context>),
        sockets: Arc<dyn Sockets>,
        forward_options: ForwardOptions,
        pid: u32,
    ) -> Result<Served, String> {
        let address = ListenAddress::Unix(multiplex.path.clone());
        let listener = sockets.listen(Listen { address, unlink: false, mask: MASK }).await?;
        let shared = Arc::new(Master {
            run,
            context,
            sockets,
            forward_options,
            forwards: Mutex::default(),
            pid: AtomicU32::new(pid),
            windows: watch::Sender::new(()),
            terminate: Notify::new(),
            stop: Notify::new(),
            sessions: watch::Sender::new(0),
            next: AtomicU32::new(1),
        });
        let task = tokio::spawn(serve(shared.clone(), listener));
        Ok(Served { shared, task })
    }

    /// Waits until a client wants the session to end, or nobody has had one for so many seconds.
    /// Cancel safe.
    pub(super) async fn over(&self, idle_seconds: Option<u32>) {
        let idle = async {
            let Some(seconds) = idle_seconds else { return std::future::pending().await };
            let mut sessions = self.shared.sessions.subscribe();
            loop {
                let _ = sessions.wait_for(|count| *count == 0).await;
                let busy = sessions.wait_for(|count| *count > 0);
                let idle = Duration::from_secs(seconds.into());
                if tokio::time::timeout(idle, busy).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.shared.terminate.notified() => {}
            () = idle => {}
        }
    }

    /// The shim goes on as this process.
    pub(super) fn set_pid(&self, pid: u32) {
        self.shared.pid.store(pid, Ordering::Relaxed);
    }

    /// Some terminal may have another size.
    pub(super) fn window_changed(&self) {
        self.shared.windows.send_replace(());
    }
}

/// Takes connections until a client says that there are to be no more, and serves them.
async fn serve(master: Arc<Master>, listener: LocalListener) {
    let LocalListener { sockets, file } = listener;
    let Some(Ok(socket)) =
        sockets.into_iter().next().map(|socket| sys::watch(socket, Interest::READABLE))
    else {
        return;
    };
    let mut clients = JoinSet::new();
    loop {
        let accepted = socket.async_io(Interest::READABLE, |socket| {
            Ok(accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
        });
        tokio::select! {
            accepted = accepted => match accepted {
                Ok(client) if peer::is_ours(&client) && fd_limit::check().is_ok() => {
                    clients.spawn(boxed(master.clone(), client));
                }
                Ok(_) => tracing::warn!("a client of a ControlPath was turned away"),
                Err(error) => {
                    tracing::warn!(%error, "can't accept a client of a ControlPath");
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => {}
            () = master.stop.notified() => break,
        }
    }
    drop((socket, file));
    while clients.join_next().await.is_some() {}
}

/// As [`serve_client`]. In a box, since the type of a session must not hold itself; a session over the
/// socket is no master.
fn boxed(master: Arc<Master>, socket: OwnedFd) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(serve_client(master, socket))
}

/// Serves one client to its end. What is no mux protocol ends it.
async fn serve_client(master: Arc<Master>, socket: OwnedFd) {
    let Ok(client) = ClientSocket::new(socket) else { return };
    let client = Arc::new(client);
    client.answer(&Answer::Hello).await;
    match client.packet().await {
        Ok(Some(packet)) if wire::hello(&packet).is_ok() => {}
        _ => return,
    }
    while let Ok(Some(packet)) = client.packet().await {
        let Ok((number, request)) = wire::request(&packet) else { return };
        match request {
            Request::Session(session) => return master.session(client, number, session).await,
            Request::Stdio(peer) => {
                let invocation =
                    Invocation { request: Wanted::Stdio(peer), ..Invocation::default() };
                return master.serve(client, number, invocation, 2).await;
            }
            Request::Alive if master.context.answers(ALIVE_TIMEOUT).await => {
                let pid = master.pid.load(Ordering::Relaxed);
                client.answer(&Answer::Alive(number, pid)).await;
            }
            Request::Alive => {
                client.answer(&Answer::Failure(number, "the host does not answer")).await;
            }
            Request::Terminate => {
                client.answer(&Answer::Ok(number)).await;
                master.terminate.notify_one();
            }
            Request::StopListening => {
                client.answer(&Answer::Ok(number)).await;
                master.stop.notify_one();
            }
            Request::Open(forward) => master.open(&client, number, &forward).await,
            Request::Close(forward) => master.close(&client, number, &forward).await,
            Request::Unknown => {
                client.answer(&Answer::Failure(number, "unsupported request")).await;
            }
        }
    }
}

impl Master {
    fn forwards(&self) -> MutexGuard<'_, Vec<Arc<OpenForward>>> {
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a forward for a client.
    async fn open(&self, client: &ClientSocket, number: u32, wanted: &Forward) {
        let table: &OpenForwards = self.run.forwards();
        let options = &self.forward_options;
        let confirmed = self.run.confirm_forwards(&self.context, std::slice::from_ref(wanted));
        if let Err(failure) = confirmed.await {
            return client.answer(&Answer::Failure(number, &failure.message)).await;
        }
        match forward::open(table, &self.context, wanted, options, &self.sockets).await {
            Ok(open) => {
                let picked = matches!(wanted.listen, ListenAddress::Tcp { port: 0, .. });
                let answer = if wanted.side == ForwardSide::Remote && picked {
                    Answer::Port(number, open.port)
                } else {
                    Answer::Ok(number)
                };
                self.forwards().push(open);
                client.answer(&answer).await;
            }
            Err(why) => client.answer(&Answer::Failure(number, &why)).await,
        }
    }

    /// Ends a forward: one of this context, whoever has opened it over the socket or with the
    /// session.
    async fn close(&self, client: &ClientSocket, number: u32, wanted: &Forward) {
        let found = self.run.forwards().find(self.context.id().number(), wanted);
        match found {
            Some(open) => {
                open.cancel().await;
                self.forwards().retain(|forward| forward.id != open.id);
                client.answer(&Answer::Ok(number)).await;
            }
            None => client.answer(&Answer::Failure(number, "port not forwarded")).await,
        }
    }

    /// Serves a session for a client.
    async fn session(&self, client: Arc<ClientSocket>, number: u32, session: Session) {
        let Session { wants_terminal, is_subsystem, wants_more, term, command, environment } =
            session;
        if wants_more {
            let why = "X11 and agents are not forwarded over this socket";
            return client.answer(&Answer::Failure(number, why)).await;
        }
        let request = match (String::from_utf8(command), is_subsystem) {
            (Ok(name), true) => Wanted::Subsystem(name),
            (Ok(command), false) if command.is_empty() => Wanted::Login,
            (Ok(command), false) => Wanted::Command(command.into_bytes()),
            (Err(command), false) => Wanted::Command(command.into_bytes()),
            (Err(_), true) => {
                let why = "the subsystem's name is not text";
                return client.answer(&Answer::Failure(number, why)).await;
            }
        };
        let variable = |text: Vec<u8>| {
            let equals = text.iter().position(|byte| *byte == b'=')?;
            Some((text[..equals].to_vec(), text[equals + 1..].to_vec()))
        };
        let invocation = Invocation {
            request,
            set_env: environment.into_iter().filter_map(variable).collect(),
            request_tty: Some(if wants_terminal { RequestTty::Force } else { RequestTty::No }),
            terminal: wants_terminal
                .then(|| TerminalRequest { term, ..TerminalRequest::default() }),
            ..Invocation::default()
        };
        self.serve(client, number, invocation, 3).await;
    }

    /// Serves a session whose client sends so many of its standard descriptors.
    async fn serve(
        &self,
        client: Arc<ClientSocket>,
        number: u32,
        mut invocation: Invocation,
        descriptors: usize,
    ) {
        let mut stdio = Vec::new();
        for _ in 0..descriptors {
            match client.descriptor().await {
                Ok(descriptor) => stdio.push(descriptor),
                Err(_) => return,
            }
        }
        if let Ok(null) = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) && stdio.len() < 3
        {
            stdio.push(null);
        }
        let Ok(stdio) = <[OwnedFd; 3]>::try_from(stdio) else { return };
        // The client opens its own.
        invocation.forward_options.clear_all = Some(true);
        let terminal = match &mut invocation.terminal {
            Some(terminal) => {
                if let Ok(modes) = rustix::termios::tcgetattr(&stdio[0]) {
                    terminal.modes = terminal_modes::encode(&modes);
                }
                terminal.size = size_of(&stdio[0]).unwrap_or_default();
                stdio[0].try_clone().ok()
            }
            None => None,
        };
        let handoff = Handoff { version: crate::VERSION.to_owned(), invocation };
        let session = self.next.fetch_add(1, Ordering::Relaxed);
        client.answer(&Answer::Opened(number, session)).await;
        self.sessions.send_modify(|count| *count += 1);
        let _count = Count(&self.sessions);
        let invoker = Invoker::Multiplexed(MultiplexedShim { client: client.clone(), session });
        let messages = Messages::Multiplexed(ShimMessages {
            client,
            windows: self.windows.subscribe(),
            terminal,
        });
        let ask = Arc::new(AskNobody);
        let stdio = Stdio::descriptors(stdio);
        Box::pin(
            ServedSession::new(self.run.clone(), invoker, ask)
                .serve(handoff, stdio, messages, None),
        )
        .await;
    }
}

/// Counts a session until it is dropped.
struct Count<'a>(&'a watch::Sender<usize>);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn size_of(terminal: &OwnedFd) -> Option<WindowSize> {
    rustix::termios::tcgetwinsize(terminal).ok().map(terminal_modes::from_winsize)
}

/// The invoker of a session over the socket.
pub(super) struct MultiplexedShim {
    client: Arc<ClientSocket>,
    session: u32,
}

impl MultiplexedShim {
    /// The session has ended with this status.
    pub(super) async fn ended(&self, status: u8) {
        self.client.answer(&Answer::Exit(self.session, status.into())).await;
    }
}

/// What such an invoker says: that its terminal has another size, and that it is gone.
pub(super) struct ShimMessages {
    client: Arc<ClientSocket>,
    windows: watch::Receiver<()>,
    terminal: Option<OwnedFd>,
}

impl ShimMessages {
    /// The next size of the terminal; `None` when the client is gone. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<WindowSize> {
        loop {
            tokio::select! {
                // It has nothing more to say.
                _ = self.client.packet() => return None,
                changed = self.windows.changed() => {
                    changed.ok()?;
                    if let Some(size) = self.terminal.as_ref().and_then(size_of) {
                        return Some(size);
                    }
                }
            }
        }
    }
}
