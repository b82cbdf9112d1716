//! The SSH hop: one connection to one server, over TCP, a `ProxyCommand`, or a stream through
//! another context. Beyond the first hop it is end to end: who carries the stream sees ciphertext.

mod algorithms;
mod channel;
mod client;
mod error;
mod forwarded;
mod host_key_rotation;
mod open;
mod proof;
mod proxy_command;
mod quote;
mod read_ahead;
mod session;
mod socket;
mod stream;
mod transport;
mod worth;

pub use channel::{ProgramEnd, RemoteProgram};
pub use error::{ChannelError, ConnectError, ConnectionLost};
pub(crate) use session::{Deferred, Fallbacks};
pub use transport::Addresses;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use russh::Disconnect;
use russh::client::Handle;
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use tokio::sync::{oneshot, watch};

use crate::auth::{IdleTimeout, Proof, authenticate, earlier};
use crate::caller::Caller;
use crate::known_hosts::{HostKeyError, KnownHosts, decide, fingerprint};
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::{Method, Resolved, UpdateHostKeys};
use crate::stream::ByteStream;
use crate::sys::scrub::SecretAbout;

use algorithms::no_common_algorithm;
use client::{AttemptCaller, ClientHandler, HandlerError, LastRefusal};
use error::describe;
use forwarded::Forwarded;
use host_key_rotation::Announcement;
use proof::Exchange;
use proxy_command::ProxyCommand;
use read_ahead::ReadAhead;
use stream::StreamIo;
use transport::{Banner, BannerCapture, CONNECT_TIMEOUT, Duplex, ShutdownOnDrop};
use worth::{Weighed, Worth};

/// Longest that the server may be silent during a login. Its own limit (LoginGraceTime) is two
/// minutes by default, and some wait that long for somebody to press a button on a telephone.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(130);

/// How long a connection that is closed waits for its goodbye to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a connection has ended that we have closed.
const CLOSED_HERE: &str = "it was closed on this side";

/// Why one has ended that has not answered.
const NO_ANSWER: &str = "no answer to a probe: the connection is dead";

/// What a connection is made over.
pub enum Via<'a> {
    /// TCP, to the host and port of the configuration.
    Tcp,
    /// A command whose stdin and stdout are the connection, with its tokens (`ProxyCommand`).
    Command(&'a str),
    /// A TCP connection that the server of another connection opens. That connection is kept as
    /// long as the new one.
    Through(&'a SshConnection),
    /// A stream that somebody else has opened.
    Stream(ByteStream),
}

impl Via<'_> {
    /// The end of a line that says what a connection is made over.
    fn detail(&self) -> String {
        match self {
            Via::Tcp => String::new(),
            Via::Command(command) => format!(" by ProxyCommand {command}"),
            Via::Through(jump) => format!(" through {}", jump.host()),
            Via::Stream(_) => " from the place before it".to_owned(),
        }
    }
}

/// A connection that is logged in. Clones are the same connection; it ends when the last is
/// dropped, and with it everything that runs on it.
#[derive(Clone)]
pub struct SshConnection(Arc<Inner>);

/// A connection that is not kept alive by who holds this.
#[derive(Clone)]
pub struct WeakConnection(Weak<Inner>);

impl WeakConnection {
    /// The connection, if somebody else still keeps it.
    pub fn upgrade(&self) -> Option<SshConnection> {
        self.0.upgrade().map(SshConnection)
    }
}

impl fmt::Debug for WeakConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakConnection")
    }
}

struct Inner {
    host: String,
    handle: Handle<ClientHandler>,
    ended: watch::Receiver<Option<String>>,
    refusal: LastRefusal,
    /// Why, where it is we who end it.
    closing: OnceLock<&'static str>,
    server_id: String,
    addresses: Option<Addresses>,
    proof: Proof,
    /// What of it was worth reading.
    worth: Worth,
    /// Who takes channels that the server opens.
    forwarded: Forwarded,
    /// Sessions whose readers are behind: what comes for others waits with them.
    held_up: AtomicUsize,
    /// Dropped before the carrier: it ends the tasks of the channels.
    _alive: watch::Sender<()>,
    _carrier: Carrier,
}

/// What carries a connection: it is kept as long as the connection, and ended with it.
#[derive(Default)]
struct Carrier {
    _shutdown: Option<ShutdownOnDrop>,
    command: Option<ProxyCommand>,
    _through: Option<SshConnection>,
}

impl SshConnection {
    /// Connects, checks the host's key, and logs in. Questions go to the caller.
    ///
    /// `ConnectTimeout` (30 seconds where it is not set) is for each of: an address to answer, and
    /// keys to be exchanged. A person is asked after that, and may take as long as it takes.
    ///
    /// # Errors
    /// [`ConnectError`]. Nothing is tried again. Cancel safe: nothing is left behind.
    pub async fn connect(
        resolved: &Resolved,
        via: Via<'_>,
        caller: &Caller,
    ) -> Result<SshConnection, ConnectError> {
        let _secret = SecretAbout::new();
        let limit = resolved.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let unreadable = |(file, error)| Box::new(HostKeyError::Unreadable { file, error });
        let mut records = KnownHosts::read(resolved).await.map_err(unreadable)?;
        records.ask_before(resolved, caller).await.map_err(Box::new)?;
        let config = Arc::new(algorithms::config(resolved, &records)?);
        let idle_timeout = IdleTimeout::new(limit);
        let attempt_caller = AttemptCaller::new(caller.clone());
        caller.detail(1, || format!("connecting to {}{}", place(resolved), via.detail())).await;
        let opened = open(resolved, via, caller, &attempt_caller, limit).await?;
        let Opened { stream, addresses, mut carrier } = opened;
        if let Some(Addresses { local, peer }) = addresses {
            caller.detail(1, || format!("TCP connection from {local} to {peer}")).await;
        }
        let worth = Worth::default();
        let outer = carrier._through.as_ref().map(|through| through.0.worth.clone());
        let stream = Weighed::new(stream, worth.clone(), outer);

        let (ended_sender, ended) = watch::channel(None);
        let refusal = LastRefusal::default();
        let exchange = Exchange::default();
        let forwarded = Forwarded::default();
        let relay = Arc::new(NoticeRelay::new(&*resolved.host));
        let wants_keys = resolved.update_host_keys != UpdateHostKeys::No;
        let (announcement, told) = Announcement::new(wants_keys);
        let client = ClientHandler {
            resolved: Arc::new(resolved.clone()),
            attempt_caller: attempt_caller.clone(),
            exchange: exchange.clone(),
            ended: ended_sender,
            refusal: refusal.clone(),
            relay: relay.clone(),
            worth: worth.clone(),
            forwarded: forwarded.clone(),
            announcement,
        };
        let banner = Banner::default();
        let stream = BannerCapture::new(Box::new(stream), banner.clone());
        let handshake = russh::client::connect_stream(config, stream, client);
        let mut handle = match idle_timeout.wait(handshake).await {
            Some(Ok(handle)) => handle,
            Some(Err(error)) => return Err(refused(error, resolved, &banner, &mut carrier).await),
            None => {
                let what = match banner.server_id() {
                    Some(_) => {
                        let (hostname, port) = (&resolved.hostname, resolved.port);
                        format!("Connection to {hostname} port {port} timed out")
                    }
                    None => "Connection timed out during banner exchange".to_owned(),
                };
                return Err(ConnectError::TimedOut { host: place(resolved), what, limit });
            }
        };
        let signature = handle.agent_session_binding().map(|binding| binding.signature());
        let shown = exchange.proved(signature.unwrap_or_default());
        let shown = shown.map_err(|error| ConnectError::KeyExchange {
            host: place(resolved),
            message: error.to_string(),
        })?;
        records.ask_about(&shown, resolved, caller).await.map_err(Box::new)?;
        let address = addresses.map(|addresses| addresses.peer.ip().to_string());
        let address = address.filter(|address| *address != resolved.hostname);
        decide(&records, resolved, &shown, address, caller).await.map_err(Box::new)?;
        let text = || {
            let server = banner.server_id().unwrap_or_default();
            format!("the host key is believed: {}; the server is {server}", fingerprint(&shown))
        };
        caller.detail(1, text).await;
        let idle_timeout = IdleTimeout::new(LOGIN_TIMEOUT.max(limit));
        let reason = async || reason(ended.clone()).await;
        // What was asked and read is in this box, which is wiped when it is freed, and not in the memory
        // of a larger future, which may be too large for that.
        let login = authenticate(&mut handle, resolved, (caller, &relay), idle_timeout, reason);
        let login = Box::pin(login).await;
        attempt_caller.forget();
        let mut proof = login.map_err(Box::new)?;
        if let Some(through) = &carrier._through {
            proof.certificate_end = earlier(proof.certificate_end, through.certificate_end());
        }
        let connection = SshConnection(Arc::new(Inner {
            host: resolved.host.clone(),
            handle,
            ended,
            refusal,
            closing: OnceLock::new(),
            server_id: banner.server_id().unwrap_or_default(),
            addresses,
            proof,
            worth,
            forwarded,
            held_up: AtomicUsize::new(0),
            _alive: watch::Sender::new(()),
            _carrier: carrier,
        }));
        if let PublicKeyOrCertificate::PublicKey { key, .. } = shown {
            connection.update_host_keys(resolved, key, told, caller).await;
        }
        Ok(connection)
    }

    /// Has the host's further keys recorded that it tells of, as the user wants it.
    async fn update_host_keys(
        &self,
        resolved: &Resolved,
        used: PublicKey,
        told: oneshot::Receiver<Vec<PublicKey>>,
        caller: &Caller,
    ) {
        match resolved.update_host_keys {
            UpdateHostKeys::No => {}
            UpdateHostKeys::Yes => host_key_rotation::learn(self, resolved, used, told),
            UpdateHostKeys::Ask if resolved.batch_mode || !caller.ask.may_answer() => {}
            UpdateHostKeys::Ask => {
                host_key_rotation::learn_asking(self, resolved, used, told, caller).await;
            }
        }
    }

    /// Waits until the connection has ended, and says why. Cancel safe.
    pub async fn closed(&self) -> ConnectionLost {
        let mut message = reason(self.0.ended.clone()).await;
        if let Some(why) = self.0.closing.get() {
            message = (*why).to_owned();
        }
        ConnectionLost { host: self.0.host.clone(), message }
    }

    /// The same connection, not kept alive.
    pub fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.handle.is_closed()
    }

    /// Says goodbye and ends the connection, with everything that runs on it. Waits no more than
    /// two seconds for a server that does not take it; what is stuck then ends with the last
    /// clone.
    pub async fn close(&self) {
        self.end(CLOSED_HERE).await;
    }

    /// Asks the server for a sign of life, and ends the connection where none comes in this time.
    ///
    /// One whose reader has stopped takes nothing in, and so has no answer either. Cancel safe.
    pub async fn probe(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.0.handle.send_ping()).await.is_err() {
            self.end(NO_ANSWER).await;
        }
    }

    /// Waits for an answer of the server; false if the connection is lost. Cancel safe.
    pub(crate) async fn answers(&self) -> bool {
        self.0.handle.send_ping().await.is_ok() && !self.is_closed()
    }

    async fn end(&self, why: &'static str) {
        let _ = self.0.closing.set(why);
        let goodbye = async {
            let sent = self.0.handle.disconnect(Disconnect::ByApplication, "", "").await;
            if sent.is_ok() {
                self.closed().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    /// The host as it was named.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// What the server calls itself: `SSH-2.0-OpenSSH_9.2p1`.
    pub fn server_id(&self) -> &str {
        &self.0.server_id
    }

    /// Both ends of the TCP connection; `None` where another process or host makes it.
    pub fn addresses(&self) -> Option<Addresses> {
        self.0.addresses
    }

    /// What the server accepted at the login, in order: `password`, or which key.
    pub fn accepted(&self) -> &[String] {
        &self.0.proof.accepted
    }

    /// The methods by which the server accepted the login.
    pub(crate) fn methods(&self) -> &[Method] {
        &self.0.proof.methods
    }

    /// Whether a person had to answer something for this login, or for that of a connection that carries it.
    pub fn was_asked(&self) -> bool {
        let through = self.0._carrier._through.as_ref();
        self.0.proof.was_asked || through.is_some_and(SshConnection::was_asked)
    }

    /// When the first certificate ends of this login, or of that of a connection that carries it.
    pub fn certificate_end(&self) -> Option<SystemTime> {
        self.0.proof.certificate_end
    }

    /// Waits until we end the connection; for ever where it ends otherwise. Cancel safe.
    pub(crate) async fn ended_here(&self) {
        self.closed().await;
        if self.0.closing.get().is_none() {
            std::future::pending().await
        }
    }

    fn alive(&self) -> watch::Receiver<()> {
        self.0._alive.subscribe()
    }
}

impl fmt::Debug for SshConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshConnection")
            .field("host", &self.0.host)
            .field("server_id", &self.0.server_id)
            .field("addresses", &self.0.addresses)
            .finish_non_exhaustive()
    }
}

/// What became of a connection.
async fn reason(mut ended: watch::Receiver<Option<String>>) -> String {
    let ended = ended.wait_for(Option::is_some).await.map(|message| message.clone());
    ended.ok().flatten().unwrap_or_else(|| "it was closed".to_owned())
}

/// A stream to speak SSH over.
struct Opened {
    stream: Box<dyn Duplex>,
    addresses: Option<Addresses>,
    carrier: Carrier,
}

async fn open(
    resolved: &Resolved,
    via: Via<'_>,
    caller: &Caller,
    attempt_caller: &AttemptCaller,
    limit: Duration,
) -> Result<Opened, ConnectError> {
    let mut carrier = Carrier::default();
    let mut addresses = None;
    let stream: Box<dyn Duplex> = match via {
        Via::Tcp => {
            let tcp = transport::tcp(resolved, limit).await?;
            addresses = Some(tcp.addresses);
            carrier._shutdown = Some(tcp.shutdown);
            Box::new(tcp.stream)
        }
        Via::Command(command) => {
            let (stream, command) =
                proxy_command::start(command, resolved, caller, attempt_caller.clone())?;
            carrier.command = Some(command);
            Box::new(ReadAhead::new(Box::new(stream)))
        }
        Via::Through(jump) => {
            let (hostname, port) = (resolved.hostname.clone(), resolved.port);
            let open = jump.direct_channel(&hostname, port);
            let failed = |message, forbidden| {
                let (jump, hostname) = (jump.host().to_owned(), hostname.clone());
                ConnectError::Jump { jump, hostname, port, message, forbidden }
            };
            let channel = match tokio::time::timeout(limit, open).await {
                Ok(opened) => opened.map_err(|error| match error {
                    ChannelError::Refused { message, forbidden, .. } => failed(message, forbidden),
                    ChannelError::Lost(lost) => failed(lost.message, false),
                })?,
                Err(_) => {
                    return Err(failed(format!("no answer in {} s", limit.as_secs()), false));
                }
            };
            carrier._through = Some(jump.clone());
            Box::new(ReadAhead::new(Box::new(channel.into_stream())))
        }
        Via::Stream(stream) => Box::new(ReadAhead::new(Box::new(StreamIo::new(stream)))),
    };
    Ok(Opened { stream, addresses, carrier })
}

/// `host:port`, as it is shown in errors.
fn place(resolved: &Resolved) -> String {
    format!("{}:{}", resolved.hostname, resolved.port)
}

/// The error of a connection that ended before keys were exchanged.
async fn refused(
    error: HandlerError,
    resolved: &Resolved,
    banner: &Banner,
    carrier: &mut Carrier,
) -> ConnectError {
    let host = place(resolved);
    let error = match error {
        HandlerError::Proof(error) => {
            return ConnectError::KeyExchange { host, message: error.to_string() };
        }
        HandlerError::Protocol(error) => error,
    };
    let has_banner = banner.server_id().is_some();
    if !has_banner
        && let Some(command) = &mut carrier.command
        && let Some(blame) = command.blame().await
    {
        return blame;
    }
    let message = describe(&error);
    let (hostname, port) = (resolved.hostname.clone(), resolved.port);
    match (has_banner, banner.first_line()) {
        (true, _) => match &error {
            russh::Error::NoCommonAlgo { kind, ours, theirs } => {
                no_common_algorithm((hostname, port), kind, (ours, theirs))
            }
            russh::Error::WrongServerSig
            | russh::Error::UnknownKey
            | russh::Error::Kex
            | russh::Error::KexInit
            | russh::Error::PacketAuth
            | russh::Error::DecryptionError => ConnectError::KeyExchange { host, message },
            _ => ConnectError::Disconnected { hostname, port, message },
        },
        (false, Some(seen)) => ConnectError::NotSsh { host, seen },
        (false, None) => ConnectError::Disconnected { hostname, port, message },
    }
}
