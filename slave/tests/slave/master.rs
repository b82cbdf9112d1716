//! Plays the master: starts the slave, drives a mux over its pipes, and keeps what comes.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use fakessh_lab::process::{Process, state};
use fakessh_lab::{GUARD, KillOnDrop, Watchdog, files, wait_until};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::{HandleAllocator, SessionHandles, Side};
use fakessh_protocol::message::{
    Accepted, FromShim, Hello, LinkSettings, ProgramKind, ProgramSetup, Refusal, Spawn,
    StartReverse, ToMaster, ToSlave,
};
use fakessh_protocol::mux::{Event, Expecting, Mux, Transmit};
use fakessh_protocol::start::{Found, Scanner};
use fakessh_protocol::wire::{self, Handle};
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

use crate::account::directory;

pub(crate) const MARKER: &str = "0123456789abcdef0123456789abcdef";

/// What came for one handle.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    /// All that came, also where it is not kept.
    pub(crate) len: usize,
    pub(crate) sum: u64,
    pub(crate) ended: bool,
    pub(crate) reset: bool,
    /// Only sum up.
    forget: bool,
    /// Never give credit back.
    hold: bool,
}

impl Received {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Gives credit back from here on.
    pub(crate) fn release(&mut self) {
        self.hold = false;
    }
}

/// Continues a sum over a stream; the order of bytes counts.
pub(crate) fn sum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

pub(crate) struct Master {
    pub(crate) child: KillOnDrop,
    pub(crate) hello: Option<Hello>,
    pub(crate) mux: Mux,
    pub(crate) to_slave: Option<OwnedFd>,
    from_slave: OwnedFd,
    out: VecDeque<u8>,
    inbox: Vec<u8>,
    sources: HashMap<Handle, VecDeque<u8>>,
    pub(crate) received: HashMap<Handle, Received>,
    pub(crate) exits: HashMap<Handle, ExitStatus>,
    pub(crate) refusals: HashMap<Handle, Refusal>,
    pub(crate) stopped: Vec<Handle>,
    /// Reverse sessions that the slave has started, and that no test has looked at.
    pub(crate) reverse: VecDeque<StartReverse>,
    /// What their shims said.
    pub(crate) said: Vec<(Handle, FromShim)>,
    /// Those whose shim has gone.
    pub(crate) gone: Vec<Handle>,
    /// The ports that are listened on, by the handle of the request.
    pub(crate) listening: HashMap<Handle, u16>,
    /// Connections that came in there.
    pub(crate) accepted: VecDeque<Accepted>,
    /// The slave closed the link.
    pub(crate) closed: bool,
    /// Something else that ends a wait when it can be read.
    pub(crate) also: Option<OwnedFd>,
    handles: HandleAllocator,
    _watchdog: Watchdog,
}

/// The command that starts a slave with this environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fakessh-slave"));
    command.args([MARKER, "022", "-"]).stderr(Stdio::null());
    command
}

/// Copies the slave's program, to be run from there.
pub(crate) fn copy_slave(to: &std::path::Path) {
    files::copy_program(env!("CARGO_BIN_EXE_fakessh-slave").as_ref(), to);
}

impl Master {
    pub(crate) fn start() -> Master {
        Master::start_with(command())
    }

    /// Starts a slave and waits for its hello.
    pub(crate) fn start_with(mut command: Command) -> Master {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let to_slave: OwnedFd = child.stdin.take().unwrap().into();
        let from_slave: OwnedFd = child.stdout.take().unwrap().into();
        Master::over(child, to_slave, from_slave)
    }

    pub(crate) fn over(child: Child, to_slave: OwnedFd, from_slave: OwnedFd) -> Master {
        for fd in [&to_slave, &from_slave] {
            rustix::io::ioctl_fionbio(fd, true).unwrap();
        }
        let mut master = Master {
            child: KillOnDrop(child),
            hello: None,
            mux: Mux::new(),
            to_slave: Some(to_slave),
            from_slave,
            out: VecDeque::new(),
            inbox: Vec::new(),
            sources: HashMap::new(),
            received: HashMap::new(),
            exits: HashMap::new(),
            refusals: HashMap::new(),
            stopped: Vec::new(),
            reverse: VecDeque::new(),
            said: Vec::new(),
            gone: Vec::new(),
            listening: HashMap::new(),
            accepted: VecDeque::new(),
            closed: false,
            also: None,
            handles: HandleAllocator::new(Side::Master),
            _watchdog: Watchdog::new(),
        };
        let mut scanner = Scanner::new(MARKER);
        let deadline = Instant::now() + GUARD;
        let rest = loop {
            master.wait_for(deadline, false);
            let mut bytes = [0; 4096];
            let len = rustix::io::read(&master.from_slave, &mut bytes).unwrap();
            assert!(len > 0, "the slave ended before its preamble");
            if let Found::Started(rest) = scanner.scan(&bytes[..len]) {
                break rest;
            }
        };
        master.inbox = rest;
        master.take_apart();
        master.until("a hello", |master| master.hello.is_some());
        master
    }

    pub(crate) fn settings(&mut self, keepalive_ms: u32, silence_ms: u32) {
        let settings = ToSlave::Settings(LinkSettings { keepalive_ms, silence_ms });
        self.mux.message(Handle::LINK, &settings).unwrap();
    }

    /// Starts a program, and says which handles it has.
    pub(crate) fn spawn(
        &mut self,
        program: ProgramKind,
        variables: &[(&str, &str)],
    ) -> SessionHandles {
        let environment: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        self.spawn_with(program, environment.into())
    }

    /// Starts a program with all that it gets, and says which handles it has.
    pub(crate) fn spawn_with(
        &mut self,
        program: ProgramKind,
        setup: ProgramSetup,
    ) -> SessionHandles {
        let handles = self.handles.pick();
        let SessionHandles { control, stdin, stdout, stderr } = handles;
        self.mux.open_sending(stdin).unwrap();
        self.mux.open_receiving(stdout).unwrap();
        self.mux.open_receiving(stderr).unwrap();
        let spawn = Spawn { handles, program, setup };
        self.mux.message(control, &ToSlave::Spawn(spawn)).unwrap();
        handles
    }

    pub(crate) fn shell(&mut self, line: &str) -> SessionHandles {
        self.spawn(ProgramKind::Shell(line.as_bytes().to_vec()), &[])
    }

    /// Runs a command line with this input to its end.
    pub(crate) fn run(&mut self, line: &str, input: &[u8]) -> (ExitStatus, String, String) {
        let handles = self.shell(line);
        self.send(handles.stdin, input);
        self.mux.finish(handles.stdin);
        let status = self.exit(handles);
        (status, self.text(handles.stdout), self.text(handles.stderr))
    }

    pub(crate) fn exit(&mut self, handles: SessionHandles) -> ExitStatus {
        self.until("an exit status", |master| {
            assert!(!master.refusals.contains_key(&handles.control), "{:?}", master.refusals);
            master.exits.contains_key(&handles.control)
        });
        self.exits[&handles.control]
    }

    pub(crate) fn send(&mut self, handle: Handle, bytes: &[u8]) {
        self.sources.entry(handle).or_default().extend(bytes);
        self.mux.offer(handle, bytes.len());
    }

    /// How much of what was sent on a handle is still here.
    pub(crate) fn unsent(&self, handle: Handle) -> usize {
        self.sources.get(&handle).map_or(0, VecDeque::len)
    }

    pub(crate) fn message(&mut self, handles: SessionHandles, message: &ToSlave) {
        self.mux.message(handles.control, message).unwrap();
    }

    /// Sends bytes as they are, whatever the mux thinks of them.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
    }

    pub(crate) fn of(&mut self, handle: Handle) -> &mut Received {
        self.received.entry(handle).or_default()
    }

    pub(crate) fn forget(&mut self, handle: Handle) {
        self.of(handle).forget = true;
    }

    pub(crate) fn hold(&mut self, handle: Handle) {
        self.of(handle).hold = true;
    }

    pub(crate) fn text(&self, handle: Handle) -> String {
        self.received.get(&handle).map(Received::text).unwrap_or_default()
    }

    /// Drives the link until something is the case.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Master) -> bool) {
        let deadline = Instant::now() + GUARD;
        while !done(self) {
            assert!(!self.closed, "the link ended while waiting for {what}");
            self.step(deadline);
        }
    }

    /// Drives the link until the slave has closed it, and waits for its exit status.
    pub(crate) fn until_closed(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + GUARD;
        while !self.closed {
            self.step(deadline);
        }
        self.child.wait().unwrap()
    }

    /// Drives only what comes, never what goes, until the slave has closed the link.
    pub(crate) fn until_silent(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + GUARD;
        while !self.closed {
            self.wait_for(deadline, false);
            let mut bytes = vec![0; 4096];
            self.closed = rustix::io::read(&self.from_slave, &mut bytes).unwrap() == 0;
        }
        self.child.wait().unwrap()
    }

    /// Whether all that was to be sent is sent, but for what has no credit.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.mux.wants_transmit()
    }

    /// Gives up reading what the slave sends.
    pub(crate) fn replace_from_slave(&mut self, other: OwnedFd) {
        self.from_slave = other;
    }

    /// Drives the link by one event.
    pub(crate) fn step_on(&mut self) {
        self.step(Instant::now() + GUARD);
    }

    fn step(&mut self, deadline: Instant) {
        self.fill();
        let (readable, writable) = self.wait_for(deadline, !self.out.is_empty());
        if writable && let Some(fd) = &self.to_slave {
            match rustix::io::write(fd, self.out.as_slices().0) {
                Ok(len) => drop(self.out.drain(..len)),
                Err(error) if error == rustix::io::Errno::AGAIN => {}
                Err(_) => self.to_slave = None,
            }
        }
        if readable {
            let mut bytes = vec![0; 256 * 1024];
            match rustix::io::read(&self.from_slave, &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => self.closed = true,
                Ok(len) => {
                    self.inbox.extend(&bytes[..len]);
                    self.take_apart();
                }
                Err(error) => assert_eq!(error, rustix::io::Errno::AGAIN),
            }
        }
    }

    fn fill(&mut self) {
        if self.to_slave.is_none() {
            self.out.clear();
            return;
        }
        while self.out.len() < 128 * 1024 {
            match self.mux.transmit() {
                None => return,
                Some(Transmit::Control(frame)) => self.out.extend(frame.iter()),
                Some(Transmit::Data { header, handle, len }) => {
                    self.out.extend(header);
                    self.out.extend(self.sources.get_mut(&handle).unwrap().drain(..len));
                }
            }
        }
    }

    fn wait_for(&self, deadline: Instant, write: bool) -> (bool, bool) {
        let mut fds = vec![PollFd::new(&self.from_slave, PollFlags::IN)];
        if write && let Some(fd) = &self.to_slave {
            fds.push(PollFd::new(fd, PollFlags::OUT));
        }
        let asked = fds.len();
        fds.extend(self.also.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "hangs");
        let left = rustix::time::Timespec::try_from(left).unwrap();
        assert!(poll(&mut fds, Some(&left)).unwrap() > 0, "hangs");
        (!fds[0].revents().is_empty(), asked > 1 && !fds[1].revents().is_empty())
    }

    fn take_apart(&mut self) {
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while !rest.is_empty() {
            if let Expecting::Data(handle, len) = self.mux.expecting() {
                let len = len.min(rest.len());
                let received = self.received.entry(handle).or_default();
                received.len += len;
                received.sum = sum(received.sum, &rest[..len]);
                if !received.forget {
                    received.bytes.extend(&rest[..len]);
                }
                let hold = received.hold;
                self.mux.took(len);
                if !hold {
                    self.mux.consumed(handle, len);
                }
                rest = &rest[len..];
                continue;
            }
            let (used, event) = self.mux.receive(rest).unwrap();
            rest = &rest[used..];
            match event {
                None => {}
                Some(Event::Eof(handle)) => self.of(handle).ended = true,
                Some(Event::Reset(handle)) => self.of(handle).reset = true,
                Some(Event::Stopped(handle)) => {
                    self.sources.remove(&handle);
                    self.stopped.push(handle);
                }
                Some(Event::Message(handle, payload)) => match wire::decode(&payload).unwrap() {
                    ToMaster::Hello(hello) => self.hello = Some(hello),
                    ToMaster::Exited(status) => {
                        assert_eq!(self.exits.insert(handle, status), None);
                    }
                    ToMaster::Refused(refusal) => {
                        self.refusals.insert(handle, refusal);
                    }
                    ToMaster::StartReverse(start) => {
                        assert_eq!(start.handles.control, handle);
                        self.mux.open_receiving(start.handles.stdin).unwrap();
                        self.mux.open_sending(start.handles.stdout).unwrap();
                        self.mux.open_sending(start.handles.stderr).unwrap();
                        self.reverse.push_back(*start);
                    }
                    ToMaster::FromShim(message) => self.said.push((handle, message)),
                    ToMaster::Gone => self.gone.push(handle),
                    ToMaster::Listening(port) => {
                        self.listening.insert(handle, port);
                    }
                    ToMaster::Accepted(accepted) => {
                        assert_eq!(accepted.handles.control, handle);
                        self.mux.open_receiving(accepted.handles.stdin).unwrap();
                        self.mux.open_sending(accepted.handles.stdout).unwrap();
                        self.mux.open_sending(accepted.handles.stderr).unwrap();
                        self.accepted.push_back(accepted);
                    }
                },
            }
        }
    }

    /// Waits until the slave waits. A slave that looks again and again is never seen to.
    pub(crate) fn until_the_slave_sleeps(&self) {
        let sleeps = || state(self.child.id()) == Some('S');
        wait_until(sleeps, "the slave is busy while nothing moves");
    }

    /// The slave's children, its guardian included, and those that it has not yet reaped.
    pub(crate) fn children(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Lets the shell of this session, which says its number on its standard error and stops
    /// itself, do so.
    pub(crate) fn until_stopped(&mut self, handles: SessionHandles) {
        self.until("a number", |master| master.text(handles.stderr).ends_with('\n'));
        let pid = self.text(handles.stderr).trim().parse().unwrap();
        wait_until(|| state(pid) == Some('T'), "it does not stop");
    }

    /// A size in the slave's `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, name: &str) -> usize {
        let slave = Process::open(self.child.id()).unwrap();
        slave.memory(name) as usize * 1024
    }
}

/// A named pipe of the test's own, to wait for what programs do.
pub(crate) struct Fifo {
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

impl Fifo {
    pub(crate) fn new(name: &str) -> Fifo {
        let directory = directory();
        let path = directory.path().join(name);
        let status = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        Fifo { path, _directory: directory }
    }

    /// Lets those go on who read a line.
    pub(crate) fn release(&self) {
        fs::File::create(&self.path).unwrap().write_all(b"go\n").unwrap();
    }
}

/// A named pipe that programs hold open, to see when the last of them is gone.
pub(crate) struct Witness {
    fifo: Fifo,
    gone: Receiver<()>,
}

impl Witness {
    pub(crate) fn new(name: &str) -> Witness {
        let fifo = Fifo::new(name);
        let (tell, gone) = std::sync::mpsc::channel();
        let path = fifo.path.clone();
        std::thread::spawn(move || {
            let _ = fs::read(path);
            let _ = tell.send(());
        });
        Witness { fifo, gone }
    }

    /// The shell's word that holds it open as descriptor 9.
    pub(crate) fn hold(&self) -> String {
        format!("exec 9>{}", self.fifo.path.display())
    }

    /// Waits until nobody holds it.
    pub(crate) fn wait(&self) {
        assert!(self.gone.recv_timeout(GUARD).is_ok(), "somebody is left");
    }
}
