//! An SSH server inside this process, on the loopback address, for this account.
//!
//! It accepts one key and runs commands, and nothing else: no terminals, no subsystems, no
//! forwarding. A program that does not read its input makes its whole connection wait.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session};
use russh::server::{VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, Disconnect, MethodKind, MethodSet, Preferred, SshId, cipher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use zeroize::Zeroizing;

use super::program;

/// Bytes that a client may send on one channel before more is granted.
const WINDOW: u32 = 16 * 1024 * 1024;

/// How long a connection may take to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// A throwaway key for the client's side.
pub struct ClientKey(PrivateKey);

impl ClientKey {
    /// A new Ed25519 key.
    ///
    /// # Errors
    /// Where the key can't be made.
    pub fn generate() -> io::Result<ClientKey> {
        generate().map(ClientKey)
    }

    /// The private key as the text of a file, in the form of OpenSSH.
    ///
    /// # Errors
    /// Where the key can't be encoded.
    pub fn private_text(&self) -> io::Result<Zeroizing<String>> {
        self.0.to_openssh(LineEnding::LF).map_err(io::Error::other)
    }
}

/// A running server. Dropping it ends it as [`DemoServer::stop`] does, without waiting.
pub struct DemoServer {
    address: SocketAddr,
    host_key: PublicKey,
    logins: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl DemoServer {
    /// Starts a server with a new host key on a free port of 127.0.0.1. Whoever has this key may
    /// log in, under any user name.
    ///
    /// # Errors
    /// Where no port or no key is to be had.
    pub async fn start(client_key: &ClientKey) -> io::Result<DemoServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let private = generate()?;
        let host_key = private.public_key().clone();
        let mut preferred = Preferred::default();
        preferred.cipher.to_mut().insert(0, cipher::AES_128_GCM);
        let config = Config {
            server_id: SshId::Standard(
                concat!("SSH-2.0-fakessh-demo_", env!("CARGO_PKG_VERSION")).into(),
            ),
            methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
            // It hides from guessers of passwords whether a user exists; there are none.
            auth_rejection_time: Duration::ZERO,
            keys: vec![private],
            window_size: WINDOW,
            maximum_packet_size: 65535,
            preferred,
            inactivity_timeout: None,
            ..Config::default()
        };
        let logins = Arc::new(AtomicUsize::new(0));
        let (stop, stopping) = watch::channel(false);
        let server = Server {
            config: Arc::new(config),
            client_key: client_key.0.public_key().clone(),
            logins: logins.clone(),
            stopping,
        };
        let task = tokio::spawn(server.run(listener));
        Ok(DemoServer { address, host_key, logins, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line of a `known_hosts` file that makes it known.
    ///
    /// # Errors
    /// Where the key can't be encoded.
    pub fn known_hosts_line(&self) -> io::Result<String> {
        let key = self.host_key.to_openssh().map_err(io::Error::other)?;
        Ok(format!("[{}]:{} {}\n", self.address.ip(), self.address.port(), key.trim()))
    }

    /// How many logins there were.
    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }

    /// Ends all connections and all programs that were started, and waits for them. Programs get
    /// an end of file and a moment first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::debug!(%error, "the demo server failed");
        }
    }
}

fn generate() -> io::Result<PrivateKey> {
    let mut random = russh::keys::key::safe_rng();
    PrivateKey::random(&mut random, Algorithm::Ed25519).map_err(io::Error::other)
}

struct Server {
    config: Arc<Config>,
    client_key: PublicKey,
    logins: Arc<AtomicUsize>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut stopping = self.stopping.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.changed() => break,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(self.serve(stream));
                }
                Err(error) => {
                    tracing::debug!(%error, "the demo server could not accept");
                    // Descriptors are short; the next try would fail at once.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }

    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let programs = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
        let connection = Connection {
            client_key: self.client_key.clone(),
            logins: self.logins.clone(),
            channels: HashMap::new(),
            programs: programs.clone(),
            peer: [stream.peer_addr().ok(), stream.local_addr().ok()],
        };
        let config = self.config.clone();
        let mut stopping = self.stopping.clone();
        async move {
            let served = async {
                stream.set_nodelay(true)?;
                let mut session = run_stream(config, stream, connection).await?;
                let handle = session.handle();
                tokio::select! {
                    ended = &mut session => return ended,
                    _ = stopping.changed() => {}
                }
                let reason = "the demo is over".to_owned();
                let goodbye = handle.disconnect(Disconnect::ByApplication, reason, String::new());
                let _ = tokio::time::timeout(GOODBYE, goodbye).await;
                match tokio::time::timeout(GOODBYE, session).await {
                    Ok(ended) => ended,
                    Err(_) => Ok(()),
                }
            };
            if let Err(error) = served.await {
                tracing::debug!(%error, "a connection of the demo server ended");
            }
            // Their channels are closed: each ends its program now.
            let mut programs = programs.lock().await;
            while programs.join_next().await.is_some() {}
        }
    }
}

/// One connection.
struct Connection {
    client_key: PublicKey,
    logins: Arc<AtomicUsize>,
    /// Channels that were opened, and have no program yet.
    channels: HashMap<ChannelId, Channel<Msg>>,
    programs: Arc<tokio::sync::Mutex<JoinSet<()>>>,
    /// The client's address and ours.
    peer: [Option<SocketAddr>; 2],
}

impl Connection {
    fn accepts(&self, key: &PublicKey) -> Auth {
        let known = key.key_data() == self.client_key.key_data();
        if known { Auth::Accept } else { Auth::reject() }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.accepts(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.accepts(key.public_key))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), russh::Error> {
        self.logins.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        id: ChannelId,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.remove(&id) else { return session.channel_failure(id) };
        match program::start(command, self.peer) {
            Ok(child) => {
                session.channel_success(id)?;
                let mut programs = self.programs.lock().await;
                while programs.try_join_next().is_some() {}
                programs.spawn(program::run(child, channel, session.handle()));
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "the demo server could not start a program");
                session.channel_failure(id)
            }
        }
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }
}
