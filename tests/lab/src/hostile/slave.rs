//! The hostile slave itself.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{ProgramKind, Spawn, ToMaster, ToSlave};
use fakessh_protocol::mux::{INITIAL_WINDOW, MAX_WINDOW};
use fakessh_protocol::start::preamble;
use fakessh_protocol::wire::{self, HEADER_LEN, Handle, Header, Kind, MAX_DATA};

use super::mode::Mode;
use super::speech::{self, UNOPENED, frame, many, message};

/// Bytes of output that are made before what the master has said is looked at.
const AT_ONCE: usize = 64 * 1024;

/// Runs until the master hangs up.
pub(super) fn run(mode: Mode) -> ExitCode {
    let command = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    let Some(marker) = marker(&command) else {
        eprintln!("hostile-slave: nothing else runs here");
        return ExitCode::FAILURE;
    };
    // It is killed, or its output is closed.
    let _ = Slave { out: io::stdout().lock() }.speak(mode, marker);
    ExitCode::FAILURE
}

/// The marker in the command that starts a slave.
fn marker(command: &str) -> Option<&str> {
    let (_, rest) = command.split_once(".fakessh-")?;
    let end = rest.find(|digit: char| !digit.is_ascii_hexdigit())?;
    (end == 32).then(|| &rest[..end])
}

/// What the master says, as far as it is of use.
enum Heard {
    Opened(Box<Spawn>),
    /// On the handle of a request to listen.
    Listen(Handle),
    Credit(Handle, usize),
}

struct Slave {
    out: io::StdoutLock<'static>,
}

impl Slave {
    fn speak(&mut self, mode: Mode, marker: &str) -> io::Result<()> {
        let link = Handle::LINK;
        if mode == Mode::Noise {
            return self.repeat(&many(b"Welcome, and welcome again!\n"));
        }
        self.say(&preamble(marker))?;
        if mode == Mode::NoHello {
            return self.repeat(&message(Handle(4), &speech::exited()));
        }
        self.say(&message(link, &speech::hello(1)))?;
        if matches!(mode, Mode::PingsUnread | Mode::RaisesUnread | Mode::AcceptsUnread) {
            return self.repeat(&flood(mode));
        }
        let heard = listen();
        match mode {
            Mode::Complaints => {
                let mut errors = io::stderr().lock();
                let block = many(b"I am not happy with this at all\n");
                loop {
                    errors.write_all(&block)?;
                }
            }
            Mode::SmallData | Mode::SmallErrors | Mode::Bulk | Mode::OverCredit => {
                self.output(mode, &heard)
            }
            Mode::ToolRaises | Mode::ToolVariables | Mode::ToolCommands | Mode::ToolSignals => {
                self.raise(mode, &heard)
            }
            Mode::ListenerAccepts | Mode::ListenerAnswers | Mode::ListenerTwice => {
                self.accept(mode, &heard)
            }
            Mode::Hangup => self.say(&frame(Kind::Ping, link, &[0; 8])[..HEADER_LEN + 3]),
            _ => self.repeat(&flood(mode)),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn repeat(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.say(bytes)?;
        }
    }

    /// Sends a session's output, within its credit or beyond.
    fn output(&mut self, mode: Mode, heard: &Receiver<Heard>) -> io::Result<()> {
        let session = wait_for_session(heard);
        let SessionHandles { stdout, stderr, .. } = session.handles;
        let handle = if mode == Mode::SmallErrors { stderr } else { stdout };
        let one = frame(Kind::Data, handle, b"\n");
        let junk = frame(Kind::Credit, UNOPENED, &[0; 4]).repeat(100);
        let (unit, data) = match mode {
            Mode::SmallData => (one, 1),
            Mode::SmallErrors => ([one, junk].concat(), 1),
            _ => (frame(Kind::Data, handle, &vec![b'\n'; MAX_DATA]), MAX_DATA),
        };
        let block = many(&unit);
        let data = data * (block.len() / unit.len());
        if mode == Mode::OverCredit {
            return self.repeat(&block);
        }
        let mut credit: HashMap<Handle, usize> = HashMap::from([(handle, INITIAL_WINDOW as usize)]);
        let mut sent = 0;
        loop {
            let left = credit.get_mut(&handle).expect("the handle is open");
            if *left >= data {
                *left -= data;
                self.say(&block)?;
                sent += block.len();
            }
            let wait = credit[&handle] < data;
            if wait {
                self.say(&frame(Kind::Blocked, handle, &[]))?;
            }
            if wait || sent >= AT_ONCE {
                sent = 0;
                hear(heard, wait, &mut credit)?;
            }
        }
    }

    /// Raises sessions of the tool, or makes noise about one.
    fn raise(&mut self, mode: Mode, heard: &Receiver<Heard>) -> io::Result<()> {
        let tool = wait_for_tool(heard);
        let invocation = match mode {
            Mode::ToolVariables => speech::with_variables(16_000),
            Mode::ToolCommands => speech::with_command(2 * 1024 * 1024),
            _ => speech::invocation(),
        };
        if mode == Mode::ToolSignals {
            self.say(&speech::raise(tool, speech::handles(0), invocation))?;
            return self.repeat(&many(&message(speech::handles(0).control, &speech::said(2))));
        }
        for number in 0.. {
            self.say(&speech::raise(tool, speech::handles(number), invocation.clone()))?;
        }
        Ok(())
    }
}

impl Slave {
    /// Listens, as it was asked to, and lies about what comes in.
    fn accept(&mut self, mode: Mode, heard: &Receiver<Heard>) -> io::Result<()> {
        let listener = loop {
            if let Ok(Heard::Listen(control)) = heard.recv() {
                break control;
            }
        };
        self.say(&message(listener, &ToMaster::Listening(1)))?;
        if mode == Mode::ListenerAnswers {
            return self.repeat(&many(&message(listener, &ToMaster::Listening(2))));
        }
        for number in 0.. {
            let number = if mode == Mode::ListenerTwice { 0 } else { number };
            let accepted = speech::accept(listener, speech::handles(number), 200);
            self.say(&accepted)?;
        }
        Ok(())
    }
}

/// What is said again and again.
fn flood(mode: Mode) -> Vec<u8> {
    let link = Handle::LINK;
    // As long as each kind may be, with its number and its length in front.
    let longest = |kind: u8| ToMaster::limit(kind) - 16;
    match mode {
        Mode::Pings | Mode::PingsUnread => many(&frame(Kind::Ping, link, &[0; 8])),
        Mode::Credit => many(&frame(Kind::Credit, UNOPENED, &[255; 4])),
        Mode::Stops => many(&frame(Kind::Stop, UNOPENED, &[])),
        Mode::Blocked => many(&frame(Kind::Blocked, UNOPENED, &[])),
        Mode::Hellos => many(&message(link, &speech::hello(longest(0)))),
        Mode::Exits => many(&message(UNOPENED, &speech::exited())),
        Mode::Refusals => many(&message(UNOPENED, &speech::refused(longest(2)))),
        Mode::Answers => many(&message(UNOPENED, &speech::said(2))),
        Mode::Raises => many(&speech::raise(Handle(4), speech::handles(0), speech::invocation())),
        Mode::RaisesUnread => {
            speech::raise(Handle(4), speech::handles(0), speech::with_command(2_000_000))
        }
        Mode::Garbage => many(b"GET / HTTP/1.1\r\n"),
        Mode::UnopenedData => frame(Kind::Data, UNOPENED, b"x"),
        Mode::UnopenedEof => frame(Kind::Eof, UNOPENED, &[]),
        Mode::LongMessage => speech::claim((1 << 24) - 1).to_vec(),
        Mode::LongHello => message(link, &speech::hello(3_900_000)),
        Mode::LongExit => {
            let mut payload = vec![0; 100];
            payload[0] = 1;
            frame(Kind::Message, Handle(4), &payload)
        }
        Mode::Listens => many(&message(UNOPENED, &ToMaster::Listening(1))),
        Mode::Accepts | Mode::AcceptsUnread => {
            many(&speech::accept(UNOPENED, speech::handles(0), 200))
        }
        Mode::LongOrigin => speech::accept(UNOPENED, speech::handles(0), 3_900_000),
        Mode::ForeignConnection => speech::accept(UNOPENED, SessionHandles::of(Handle(4)), 1),
        Mode::LongRaise => speech::long_raise(),
        Mode::ForeignHandles => {
            speech::raise(Handle(4), SessionHandles::of(Handle(4)), speech::invocation())
        }
        Mode::Malformed => frame(Kind::Message, Handle(4), &[5, 5, 5]),
        _ => unreachable!("{mode:?} is said elsewhere"),
    }
}

fn wait_for_session(heard: &Receiver<Heard>) -> Spawn {
    loop {
        if let Ok(Heard::Opened(spawn)) = heard.recv() {
            return *spawn;
        }
    }
}

fn wait_for_tool(heard: &Receiver<Heard>) -> Handle {
    loop {
        let spawn = wait_for_session(heard);
        if let ProgramKind::Tool(_) = spawn.program {
            return spawn.handles.control;
        }
    }
}

/// Takes note of credit; waits for it if there is none.
fn hear(
    heard: &Receiver<Heard>,
    mut wait: bool,
    credit: &mut HashMap<Handle, usize>,
) -> io::Result<()> {
    loop {
        let next = if wait {
            heard.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            heard.try_recv()
        };
        match next {
            Ok(Heard::Credit(handle, granted)) => {
                if let Some(credit) = credit.get_mut(&handle) {
                    *credit = (*credit + granted).min(MAX_WINDOW as usize);
                    wait = false;
                }
            }
            Ok(Heard::Opened(_) | Heard::Listen(_)) => {}
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Reads what the master says, for as long as it does.
fn listen() -> Receiver<Heard> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let _ = read_frames(&sender);
        // The link is over, whatever the other thread is doing.
        std::process::exit(1);
    });
    receiver
}

fn read_frames(heard: &Sender<Heard>) -> io::Result<()> {
    let mut input = io::BufReader::new(io::stdin().lock());
    loop {
        let mut header = [0; HEADER_LEN];
        input.read_exact(&mut header)?;
        let header = Header::decode(header).map_err(io::Error::other)?;
        let mut payload = vec![0; header.len];
        input.read_exact(&mut payload)?;
        let news = match header.kind {
            Kind::Message => match wire::decode(&payload) {
                Ok(ToSlave::Spawn(spawn)) => Heard::Opened(Box::new(spawn)),
                Ok(ToSlave::Listen(_)) => Heard::Listen(header.handle),
                _ => continue,
            },
            Kind::Credit => {
                let granted = payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                Heard::Credit(header.handle, granted as usize)
            }
            _ => continue,
        };
        if heard.send(news).is_err() {
            return Ok(());
        }
    }
}
