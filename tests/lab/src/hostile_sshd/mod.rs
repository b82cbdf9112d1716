//! An SSH server that lies about its host key.
//!
//! It exchanges keys, lets everybody in and answers each command with [`SERVED`]: what a client
//! prints of that says whether it trusted the server. A [`Face`] says what the server shows and
//! how it signs. No real server can be made to do that.

mod face;
mod wire;

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;

pub use face::{Face, Signs};
use wire::{Out, Wire, take_number, take_string};

/// What every command prints.
pub const SERVED: &str = "served by a stranger\n";

const GREETING: &str = "SSH-2.0-Hostile";

/// What the client is granted on a channel: more than it ever sends.
const WINDOW: u32 = 1 << 30;

const DISCONNECT: u8 = 1;
const SERVICE_REQUEST: u8 = 5;
const SERVICE_ACCEPT: u8 = 6;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const ECDH_INIT: u8 = 30;
const ECDH_REPLY: u8 = 31;
const USERAUTH_REQUEST: u8 = 50;
const USERAUTH_SUCCESS: u8 = 52;
const USERAUTH_BANNER: u8 = 53;
const GLOBAL_REQUEST: u8 = 80;
const REQUEST_SUCCESS: u8 = 81;
const REQUEST_FAILURE: u8 = 82;
const CHANNEL_OPEN: u8 = 90;
const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
const CHANNEL_DATA: u8 = 94;
const CHANNEL_EOF: u8 = 96;
const CHANNEL_CLOSE: u8 = 97;
const CHANNEL_REQUEST: u8 = 98;
const CHANNEL_SUCCESS: u8 = 99;
const CHANNEL_FAILURE: u8 = 100;

/// How a server tells of its host keys, and how it is asked to prove them (PROTOCOL of OpenSSH).
const HOST_KEYS: &str = "hostkeys-00@openssh.com";
const PROVE: &str = "hostkeys-prove-00@openssh.com";

/// The server, on a port of 127.0.0.1. Dropped, it cuts its connections and stops.
#[derive(Debug)]
pub struct HostileSshd {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    face: Face,
    stopping: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

impl HostileSshd {
    /// Starts a server with this face.
    ///
    /// # Panics
    /// If no port is to be had.
    pub fn start(face: Face) -> HostileSshd {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding a port on loopback");
        let port = listener.local_addr().expect("the port that was bound").port();
        let (stopping, sockets) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { face, stopping, sockets });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        HostileSshd { port, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for HostileSshd {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes who accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving = Vec::new();
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let mut sockets = shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.extend(stream.try_clone());
        drop(sockets);
        let shared = shared.clone();
        serving.push(std::thread::spawn(move || {
            // A client that has seen enough hangs up: what it makes of us is what it prints.
            let _ = Connection::new(stream, &shared.face).serve();
        }));
    }
    for socket in shared.sockets.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = socket.shutdown(Shutdown::Both);
    }
    for thread in serving {
        let _ = thread.join();
    }
}

/// One client.
struct Connection<'a> {
    wire: Wire,
    face: &'a Face,
    client_greeting: Vec<u8>,
    session: Option<Vec<u8>>,
    /// Keys are to be renewed before the next command.
    renew: bool,
    /// It has told of host keys, and was not asked for a proof yet.
    is_to_prove: bool,
}

impl Connection<'_> {
    fn new(stream: TcpStream, face: &Face) -> Connection<'_> {
        let renew = face.renewed.is_some();
        let wire = Wire::new(stream);
        Connection {
            wire,
            face,
            client_greeting: Vec::new(),
            session: None,
            renew,
            is_to_prove: false,
        }
    }

    fn serve(mut self) -> io::Result<()> {
        self.wire.write_all(format!("{GREETING}\r\n").as_bytes())?;
        self.client_greeting = self.wire.read_line()?;
        self.exchange(&self.face.signs, None)?;
        loop {
            let packet = self.wire.receive()?;
            let (number, body) = packet.split_first().ok_or(io::ErrorKind::InvalidData)?;
            match *number {
                DISCONNECT => return Ok(()),
                KEXINIT => self.exchange(&self.face.signs, Some(packet.clone()))?,
                SERVICE_REQUEST => {
                    let name = take_string(&mut &body[..]).unwrap_or_default();
                    self.wire.send(&Out::message(SERVICE_ACCEPT).string(name))?;
                }
                USERAUTH_REQUEST => {
                    for _ in 0..self.face.banners {
                        let banner = Out::message(USERAUTH_BANNER).string(&self.face.banner);
                        self.wire.send(&banner.string(""))?;
                    }
                    self.wire.send(&Out::message(USERAUTH_SUCCESS))?;
                    if !self.face.announced.is_empty() {
                        let told = self.face.announced.iter().map(|signs| &signs.shown);
                        let request = Out::message(GLOBAL_REQUEST).string(HOST_KEYS).byte(0);
                        self.wire.send(&told.fold(request, |request, key| request.string(key)))?;
                        self.is_to_prove = true;
                    }
                }
                GLOBAL_REQUEST => self.global_request(body)?,
                CHANNEL_OPEN => {
                    let mut rest = body;
                    take_string(&mut rest);
                    let channel = take_number(&mut rest).unwrap_or_default();
                    let confirmation = Out::message(CHANNEL_OPEN_CONFIRMATION);
                    let numbers = confirmation.number(channel).number(channel);
                    self.wire.send(&numbers.number(WINDOW).number(32 * 1024))?;
                }
                CHANNEL_REQUEST => self.channel_request(body)?,
                _ => {}
            }
        }
    }

    fn global_request(&mut self, mut body: &[u8]) -> io::Result<()> {
        if take_string(&mut body) == Some(PROVE.as_bytes()) {
            return self.prove(body.get(1..).unwrap_or_default());
        }
        match body.first() {
            Some(0) | None => Ok(()),
            Some(_) => self.wire.send(&Out::message(REQUEST_FAILURE)),
        }
    }

    /// Signs for the keys of a request, with whatever is to sign for them.
    fn prove(&mut self, mut keys: &[u8]) -> io::Result<()> {
        let session = self.session.clone().unwrap_or_default();
        let mut reply = Out::message(REQUEST_SUCCESS);
        while let Some(key) = take_string(&mut keys) {
            if let Some(signs) = self.face.announced.iter().find(|signs| signs.shown == key) {
                let signed = Out::default().string(PROVE).string(&session).string(key);
                reply = reply.string(signs.sign(&signed.0));
            }
        }
        self.is_to_prove = false;
        self.wire.send(&reply)
    }

    fn channel_request(&mut self, mut body: &[u8]) -> io::Result<()> {
        let channel = take_number(&mut body).unwrap_or_default();
        let request = take_string(&mut body).unwrap_or_default().to_vec();
        let wants_reply = body.first() != Some(&0);
        let message = |number| Out::message(number).number(channel);
        if !["exec", "shell", "subsystem"].iter().any(|kind| kind.as_bytes() == request) {
            return if wants_reply { self.wire.send(&message(CHANNEL_FAILURE)) } else { Ok(()) };
        }
        while self.is_to_prove {
            let request = self.wait_for(GLOBAL_REQUEST)?;
            self.global_request(&request[1..])?;
        }
        if std::mem::take(&mut self.renew)
            && let Some(signs) = &self.face.renewed
        {
            self.exchange(signs, None)?;
        }
        if wants_reply {
            self.wire.send(&message(CHANNEL_SUCCESS))?;
        }
        self.wire.send(&message(CHANNEL_DATA).string(SERVED))?;
        self.wire.send(&message(CHANNEL_REQUEST).string("exit-status").byte(0).number(0))?;
        self.wire.send(&message(CHANNEL_EOF))?;
        self.wire.send(&message(CHANNEL_CLOSE))
    }

    /// Exchanges keys by curve25519-sha256 (RFC 8731). The client's KEXINIT may be here already.
    fn exchange(&mut self, signs: &Signs, init: Option<Vec<u8>>) -> io::Result<()> {
        let ours = self.face.init(signs);
        self.wire.send(&ours)?;
        let theirs = match init {
            Some(init) => init,
            None => self.wait_for(KEXINIT)?,
        };
        let request = self.wait_for(ECDH_INIT)?;
        let client_key = take_string(&mut &request[1..]).unwrap_or_default();
        let secret = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new());
        let secret = secret.map_err(|_| io::ErrorKind::Other)?;
        let our_key = secret.compute_public_key().map_err(|_| io::ErrorKind::Other)?;
        let peer = UnparsedPublicKey::new(&X25519, client_key);
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let shared = agree_ephemeral(secret, peer, invalid(), |shared| Ok(shared.to_vec()))?;
        let shared = Out::default().mpint(&shared);
        let mut hashed = Out::default()
            .string(&self.client_greeting)
            .string(GREETING)
            .string(&theirs)
            .string(&ours.0)
            .string(&signs.shown)
            .string(client_key)
            .string(&our_key);
        hashed.0.extend(&shared.0);
        let hash = digest(&SHA256, &hashed.0).as_ref().to_vec();
        let reply = Out::message(ECDH_REPLY).string(&signs.shown).string(&our_key);
        self.wire.send(&reply.string(signs.sign(&hash)))?;
        self.wire.send(&Out::message(NEWKEYS))?;
        self.wait_for(NEWKEYS)?;
        let session = self.session.get_or_insert_with(|| hash.clone());
        self.wire.seal(&shared, &hash, session);
        Ok(())
    }

    /// The next packet of a kind. Others are passed over: while keys are exchanged none of them
    /// matters.
    fn wait_for(&mut self, number: u8) -> io::Result<Vec<u8>> {
        loop {
            let packet = self.wire.receive()?;
            match packet.first() {
                Some(first) if *first == number => return Ok(packet),
                Some(&DISCONNECT) => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }
}
