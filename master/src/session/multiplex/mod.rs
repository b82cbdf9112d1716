//! `-M`: serves OpenSSH's mux protocol at a ControlPath, as an `ssh` would whose session keeps the
//! context. Its clients are the user's own, such as `/usr/bin/ssh -S PATH`.

mod socket;
mod wire;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fakessh_protocol::forward::{Forward, ForwardOptions, Listen, ListenAddress};
use fakessh_protocol::invocation::{Invocation, Multiplex, Request as Wanted};
use fakessh_protocol::message::Handoff;
use fakessh_protocol::terminal::{RequestTty, TerminalRequest, WindowSize};
use fakessh_unix::{peer, terminal_modes};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::forwards::{Opener, SessionForwards};
use super::{Invoker, Messages, ServedSession, Stdio};
use crate::accepting::Accepting;
use crate::caller::AskNobodyFor;
use crate::context::Context;
use crate::fd_limit;
use crate::open_forwards::{Listening, LocalListener, Serving, Sockets};
use crate::pump::Foreign;
use crate::run::Run;

use socket::ClientSocket;
use wire::{Answer, Request, Session};

/// How long a target may take to answer whether it is there.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to say hello, and to send the descriptors that it has announced.
const SILENCE: Duration = Duration::from_secs(60);

/// Most clients at a time. Others wait until one of them has left.
const MAX_CLIENTS: usize = 1024;

/// The rights of the socket: the user's alone.
const MASK: u16 = 0o177;

/// A socket that is served, until this is dropped.
pub(super) struct Served {
    shared: Arc<Master>,
    serving: Serving,
}

/// What all clients of a socket share.
struct Master {
    /// Leads to the one context.
    run: Arc<Run>,
    context: Arc<Context>,
    sockets: Arc<dyn Sockets>,
    forward_options: ForwardOptions,
    /// The forwards of the session that this belongs to.
    forwards: SessionForwards,
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

impl Served {
    /// Serves the socket of an invocation, whose shim is `pid`.
    ///
    /// # Errors
    /// One line that says why it can't be listened there.
    pub(super) async fn start(
        multiplex: &Multiplex,
        (run, context): (Arc<Run>, Arc<Context>),
        sockets: Arc<dyn Sockets>,
        (forwards, forward_options): (SessionForwards, ForwardOptions),
        pid: u32,
    ) -> Result<Served, String> {
        let address = ListenAddress::Unix(multiplex.path.clone());
        let listener = sockets.listen(Listen { address, unlink: false, mask: MASK }).await?;
        let shared = Arc::new(Master {
            run,
            context,
            sockets,
            forward_options,
            forwards,
            pid: AtomicU32::new(pid),
            windows: watch::Sender::new(()),
            terminate: Notify::new(),
            stop: Notify::new(),
            sessions: watch::Sender::new(0),
            next: AtomicU32::new(1),
        });
        let serving = Serving::spawn(|listening| serve(shared.clone(), listener, listening));
        Ok(Served { shared, serving })
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

    /// The session is over. Listens no more, and waits until the socket's file is removed: whoever starts
    /// the next master may want the same path.
    pub(super) async fn stop(&self) {
        self.serving.stop().await;
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
async fn serve(master: Arc<Master>, listener: LocalListener, mut listening: Listening) {
    let LocalListener { sockets, file } = listener;
    let mut accepting = Accepting::start(sockets);
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            client = accepting.next(), if clients.len() < MAX_CLIENTS => {
                let Some(client) = client else { break };
                if peer::is_ours(&client) && fd_limit::check().is_ok() {
                    clients.spawn(boxed(master.clone(), client));
                } else {
                    tracing::warn!("a client of a ControlPath was turned away");
                }
            }
            Some(_) = clients.join_next() => {}
            () = master.stop.notified() => break,
            () = listening.stopped() => break,
        }
    }
    drop(accepting);
    if let Some(file) = file {
        file.dropped().await;
    }
    drop(listening);
    while clients.join_next().await.is_some() {}
}

/// As [`serve_client`]. In a box, since the type of a session must not hold itself; a session over the
/// socket is no master.
fn boxed(master: Arc<Master>, socket: Foreign) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(serve_client(master, socket))
}

/// Serves one client to its end. What is no mux protocol ends it.
async fn serve_client(master: Arc<Master>, socket: Foreign) {
    let Ok(client) = ClientSocket::new(socket) else { return };
    let client = Arc::new(client);
    client.answer(&Answer::Hello).await;
    match tokio::time::timeout(SILENCE, client.packet()).await {
        Ok(Ok(Some(packet))) if wire::hello(&packet).is_ok() => {}
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
    /// Opens a forward for a client.
    async fn open(&self, client: &ClientSocket, number: u32, wanted: &Forward) {
        let confirmed = self.run.confirm_forward(&self.context, wanted, client.who()).await;
        let opened = match confirmed {
            Ok(()) => {
                let opener = Opener {
                    run: &self.run,
                    context: &self.context,
                    options: &self.forward_options,
                    sockets: &self.sockets,
                    by: client.who(),
                };
                self.forwards.open(opener, wanted).await
            }
            Err(failure) => Err(failure.message),
        };
        let answer = match &opened {
            Ok(port) if wanted.wants_any_port() => Answer::Port(number, *port),
            Ok(_) => Answer::Ok(number),
            Err(why) => Answer::Failure(number, why),
        };
        client.answer(&answer).await;
    }

    /// Closes a forward that a client has opened, or that the master was started with. One of another
    /// session is left alone.
    async fn close(&self, client: &ClientSocket, number: u32, wanted: &Forward) {
        let answer = if self.forwards.cancel(wanted).await {
            Answer::Ok(number)
        } else {
            Answer::Failure(number, "port not forwarded")
        };
        client.answer(&answer).await;
    }

    /// Serves a session for a client.
    async fn session(&self, client: Arc<ClientSocket>, number: u32, session: Session) {
        let Session { wants_terminal, is_subsystem, wants_more, term, command, environment } =
            session;
        if wants_more {
            let why = "X11 and agents are not forwarded over this socket";
            return client.answer(&Answer::Failure(number, why)).await;
        }
        let request = if !is_subsystem {
            if command.is_empty() { Wanted::Login } else { Wanted::Command(command) }
        } else if let Ok(name) = String::from_utf8(command) {
            Wanted::Subsystem(name)
        } else {
            let why = "the subsystem's name is not text";
            return client.answer(&Answer::Failure(number, why)).await;
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
        let Ok(Ok(stdio)) =
            tokio::time::timeout(SILENCE, client.standard_streams(descriptors)).await
        else {
            return;
        };
        invocation.destination.host = self.context.name().to_owned();
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
        let ask = Arc::new(AskNobodyFor(client.who()));
        let invoker = Invoker::Multiplexed(MultiplexedShim { client: client.clone(), session });
        let messages = Messages::Multiplexed(ShimMessages {
            client,
            windows: self.windows.subscribe(),
            terminal,
        });
        let session = ServedSession::new(self.run.clone(), invoker, ask);
        session.serve(handoff, Stdio::descriptors(stdio), messages, None).await;
    }
}

/// Counts a session until it is dropped.
struct Count<'a>(&'a watch::Sender<usize>);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn size_of(terminal: &Foreign) -> Option<WindowSize> {
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
    terminal: Option<Foreign>,
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
