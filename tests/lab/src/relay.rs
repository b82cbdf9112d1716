//! A TCP relay that makes a bad network: late, silent, cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Most chunks that are under way in one direction: 16 MiB, more than any window of a test.
const UNDER_WAY: usize = 256;

/// A relay on loopback in front of a port. Dropped, it cuts what it carries and stops.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    delay: Duration,
    /// No byte goes this way while this holds, up and down; they wait.
    held: Mutex<[bool; 2]>,
    spoken: Condvar,
    stopping: AtomicBool,
    connections: AtomicUsize,
    bytes: [AtomicU64; 2],
    sockets: Mutex<Vec<TcpStream>>,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Relay {
    /// Relays to this port of 127.0.0.1, each byte later by `delay` in each direction: a round
    /// trip takes twice that.
    pub fn start(target: u16, delay: Duration) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding the relay's port");
        let port = listener.local_addr().expect("the relay's port").port();
        let shared = Arc::new(Shared {
            target,
            delay,
            held: Mutex::new([false; 2]),
            spoken: Condvar::new(),
            stopping: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            bytes: Default::default(),
            sockets: Mutex::new(Vec::new()),
        });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Relay { port, shared, accepting: Some(accepting) }
    }

    /// The port of 127.0.0.1 that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes that went from clients to the target so far.
    pub fn bytes_up(&self) -> u64 {
        self.shared.bytes[Way::Up as usize].load(Ordering::Relaxed)
    }

    /// Bytes that went from the target to clients so far.
    pub fn bytes_down(&self) -> u64 {
        self.shared.bytes[Way::Down as usize].load(Ordering::Relaxed)
    }

    /// Goes silent, or speaks again with what came meanwhile. Connections stay open: this is a
    /// network that drops everything.
    pub fn set_silent(&self, silent: bool) {
        self.hold(silent, silent);
    }

    /// Holds back what goes up, to the target, and what comes down from it, or lets it go.
    pub fn hold(&self, up: bool, down: bool) {
        *self.shared.held.lock().unwrap_or_else(PoisonError::into_inner) = [up, down];
        self.shared.spoken.notify_all();
    }

    /// Closes all connections on both sides; new ones are accepted.
    pub fn cut(&self) {
        let mut sockets = self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.drain(..) {
            _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.set_silent(false);
        // Wakes the thread that accepts.
        _ = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
        if let Some(accepting) = self.accepting.take() {
            _ = accepting.join();
        }
        self.cut();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], shared.target)))
        else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        for socket in [&client, &server] {
            _ = socket.set_nodelay(true);
            let kept = socket.try_clone().expect("a second descriptor of a socket");
            shared.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        let clone = |socket: &TcpStream| socket.try_clone().expect("a second descriptor");
        relay(clone(&client), clone(&server), shared.clone(), Way::Up);
        relay(server, client, shared.clone(), Way::Down);
    }
}

/// Carries one direction of a connection on two threads: one notes when bytes came, the other
/// lets them go when their time has come.
fn relay(mut from: TcpStream, mut to: TcpStream, shared: Arc<Shared>, way: Way) {
    let (sender, receiver): (SyncSender<(Instant, Vec<u8>)>, Receiver<_>) = sync_channel(UNDER_WAY);
    let delay = shared.delay;
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(len) = from.read(&mut buffer) {
            let due = Instant::now() + delay;
            if len == 0 || sender.send((due, buffer[..len].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let held = shared.held.lock().unwrap_or_else(PoisonError::into_inner);
            drop(shared.spoken.wait_while(held, |held| held[way as usize]));
            if to.write_all(&bytes).is_err() {
                break;
            }
            shared.bytes[way as usize].fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        _ = to.shutdown(Shutdown::Write);
    });
}
