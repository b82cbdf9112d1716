//! What is said at a ControlPath: version 4 of OpenSSH's mux protocol (PROTOCOL.mux of OpenSSH).
//!
//! No I/O. A packet is a length and a payload; numbers are big-endian and of 32 bits, and so are
//! truth values. What a client says is bounded by the length of its packet.

use fakessh_protocol::forward::{Forward, ForwardSide, ListenAddress};
use fakessh_protocol::message::Peer;

/// Most bytes of a packet, as for ssh.
pub(super) const MAX_PACKET: usize = 256 * 1024;

/// The version of the protocol.
const VERSION: u32 = 4;

const HELLO: u32 = 0x0000_0001;
const NEW_SESSION: u32 = 0x1000_0002;
const ALIVE_CHECK: u32 = 0x1000_0004;
const TERMINATE: u32 = 0x1000_0005;
const OPEN_FORWARD: u32 = 0x1000_0006;
const CLOSE_FORWARD: u32 = 0x1000_0007;
const NEW_STDIO_FORWARD: u32 = 0x1000_0008;
const STOP_LISTENING: u32 = 0x1000_0009;

const OK: u32 = 0x8000_0001;
const FAILURE: u32 = 0x8000_0003;
const EXIT_MESSAGE: u32 = 0x8000_0004;
const ALIVE: u32 = 0x8000_0005;
const SESSION_OPENED: u32 = 0x8000_0006;
const REMOTE_PORT: u32 = 0x8000_0007;

/// Kinds of forwards.
const LOCAL: u32 = 1;
const REMOTE: u32 = 2;
const DYNAMIC: u32 = 3;

/// The port that says that the host is the path of a Unix socket.
const UNIX: u32 = 0xffff_fffe;

/// A packet that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a client says first.
pub(super) fn hello(packet: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader(packet);
    // Extensions may follow, of which we know none.
    match (reader.number()?, reader.number()?) {
        (HELLO, VERSION) => Ok(()),
        _ => Err(Malformed),
    }
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A session. Its three descriptors follow.
    Session(Session),
    /// A connection. Two descriptors follow.
    Stdio(Peer),
    Alive,
    Terminate,
    StopListening,
    Open(Forward),
    Close(Forward),
    /// Something that we do not know.
    Unknown,
}

/// A session as a client wants it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) wants_terminal: bool,
    pub(super) is_subsystem: bool,
    /// Whether the client wants X11 or an agent to be forwarded.
    pub(super) wants_more: bool,
    pub(super) term: Vec<u8>,
    pub(super) command: Vec<u8>,
    /// `NAME=value`.
    pub(super) environment: Vec<Vec<u8>>,
}

/// Reads a request, which has a number that its answer repeats.
pub(super) fn request(packet: &[u8]) -> Result<(u32, Request), Malformed> {
    let mut reader = Reader(packet);
    let (kind, number) = (reader.number()?, reader.number()?);
    let request = match kind {
        NEW_SESSION => Request::Session(session(&mut reader)?),
        NEW_STDIO_FORWARD => {
            reader.text()?;
            Request::Stdio(peer(&mut reader)?)
        }
        ALIVE_CHECK => Request::Alive,
        TERMINATE => Request::Terminate,
        STOP_LISTENING => Request::StopListening,
        OPEN_FORWARD => Request::Open(forward(&mut reader)?),
        CLOSE_FORWARD => Request::Close(forward(&mut reader)?),
        _ => Request::Unknown,
    };
    Ok((number, request))
}

fn session(reader: &mut Reader<'_>) -> Result<Session, Malformed> {
    reader.text()?;
    let wants_terminal = reader.number()? != 0;
    let wants_x11 = reader.number()? != 0;
    let wants_agent = reader.number()? != 0;
    let is_subsystem = reader.number()? != 0;
    let _escape = reader.number()?;
    let (term, command) = (reader.text()?.to_vec(), reader.text()?.to_vec());
    let mut environment = Vec::new();
    while !reader.0.is_empty() {
        environment.push(reader.text()?.to_vec());
    }
    let wants_more = wants_x11 || wants_agent;
    Ok(Session { wants_terminal, is_subsystem, wants_more, term, command, environment })
}

fn forward(reader: &mut Reader<'_>) -> Result<Forward, Malformed> {
    let kind = reader.number()?;
    let host = reader.words()?;
    let listen = match reader.number()? {
        UNIX => ListenAddress::Unix(host.into_bytes()),
        port => {
            let port = u16::try_from(port).map_err(|_| Malformed)?;
            ListenAddress::Tcp { host: (!host.is_empty()).then_some(host), port }
        }
    };
    let (side, to) = match kind {
        DYNAMIC => (ForwardSide::Local, None),
        LOCAL => (ForwardSide::Local, Some(peer(reader)?)),
        REMOTE => (ForwardSide::Remote, remote_peer(reader)?),
        _ => return Err(Malformed),
    };
    Ok(Forward { side, listen, to })
}

fn peer(reader: &mut Reader<'_>) -> Result<Peer, Malformed> {
    let host = reader.words()?;
    match reader.number()? {
        UNIX => Ok(Peer::Unix(host.into_bytes())),
        port => Ok(Peer::Tcp { host, port: u16::try_from(port).map_err(|_| Malformed)? }),
    }
}

/// Where a remote forward leads; `None` if each connection says so by SOCKS.
fn remote_peer(reader: &mut Reader<'_>) -> Result<Option<Peer>, Malformed> {
    Ok(Some(peer(reader)?).filter(|peer| !matches!(peer, Peer::Tcp { port: 0, .. })))
}

/// What is left of a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u32, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(text)
    }

    fn words(&mut self) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.text()?).map_err(|_| Malformed)?;
        if text.contains('\0') { Err(Malformed) } else { Ok(text.to_owned()) }
    }
}

/// What a client is told. The first number is that of its request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Hello,
    Ok(u32),
    Failure(u32, &'a str),
    /// With the master's process id.
    Alive(u32, u32),
    /// With the session's number.
    Opened(u32, u32),
    Port(u32, u16),
    /// The session of this number has ended, with this status.
    Exit(u32, u32),
}

impl Answer<'_> {
    /// The packet.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (numbers, text) = match *self {
            Answer::Hello => (vec![HELLO, VERSION], None),
            Answer::Ok(number) => (vec![OK, number], None),
            Answer::Failure(number, why) => (vec![FAILURE, number], Some(why)),
            Answer::Alive(number, pid) => (vec![ALIVE, number, pid], None),
            Answer::Opened(number, session) => (vec![SESSION_OPENED, number, session], None),
            Answer::Port(number, port) => (vec![REMOTE_PORT, number, port.into()], None),
            Answer::Exit(session, status) => (vec![EXIT_MESSAGE, session, status], None),
        };
        let mut payload: Vec<u8> = numbers.into_iter().flat_map(u32::to_be_bytes).collect();
        if let Some(text) = text {
            payload.extend((text.len() as u32).to_be_bytes());
            payload.extend(text.as_bytes());
        }
        [&(payload.len() as u32).to_be_bytes()[..], &payload].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet of numbers and texts.
    fn packet(parts: &[Result<u32, &str>]) -> Vec<u8> {
        let part = |part: &Result<u32, &str>| match *part {
            Ok(number) => number.to_be_bytes().to_vec(),
            Err(text) => [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat(),
        };
        parts.iter().flat_map(part).collect()
    }

    #[test]
    fn requests_are_read() {
        let session = [
            Ok(NEW_SESSION),
            Ok(7),
            Err(""),
            Ok(1),
            Ok(0),
            Ok(0),
            Ok(0),
            Ok(126),
            Err("xterm"),
            Err("id"),
            Err("A=b"),
            Err("C=d"),
        ];
        let expected = Session {
            wants_terminal: true,
            term: b"xterm".to_vec(),
            command: b"id".to_vec(),
            environment: vec![b"A=b".to_vec(), b"C=d".to_vec()],
            ..Session::default()
        };
        assert_eq!(request(&packet(&session)), Ok((7, Request::Session(expected))));
        let shown = |parts: &[Result<u32, &str>]| match request(&packet(parts)) {
            Ok((1, Request::Open(forward))) => forward.to_string(),
            other => panic!("{other:?}"),
        };
        let open = |kind, listen, port| [Ok(OPEN_FORWARD), Ok(1), Ok(kind), Err(listen), Ok(port)];
        for (kind, listen, port, host, to, expected) in [
            (LOCAL, "", 80, "a", 81, "-L localhost:80:a:81"),
            (LOCAL, "*", 80, "a", 81, "-L *:80:a:81"),
            (LOCAL, "/s", UNIX, "/t", UNIX, "-L /s:/t"),
            (REMOTE, "", 0, "a", 81, "-R localhost:0:a:81"),
            (REMOTE, "", 80, "socks", 0, "-R localhost:80"),
            (DYNAMIC, "::1", 80, "", 0, "-D [::1]:80"),
        ] {
            let parts = [&open(kind, listen, port)[..], &[Err(host), Ok(to)]].concat();
            assert_eq!(shown(&parts), expected);
        }
        assert_eq!(request(&packet(&[Ok(0x1000_000f), Ok(1)])), Ok((1, Request::Unknown)));
        assert_eq!(hello(&packet(&[Ok(HELLO), Ok(VERSION), Err("x"), Err("y")])), Ok(()));
        assert_eq!(hello(&packet(&[Ok(HELLO), Ok(3)])), Err(Malformed));
    }

    #[test]
    fn answers_are_packets() {
        let answer = Answer::Failure(7, "no").encode();
        assert_eq!(
            answer,
            [&[0, 0, 0, 14][..], &packet(&[Ok(FAILURE), Ok(7), Err("no")])].concat()
        );
        assert_eq!(Answer::Exit(1, 255).encode()[4..], packet(&[Ok(EXIT_MESSAGE), Ok(1), Ok(255)]));
    }

    proptest! {
        #[test]
        fn no_packet_is_too_much_for_it(
            kind in 0x1000_0000u32..0x1000_000a,
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let packet = [&kind.to_be_bytes()[..], &[0; 4], &rest].concat();
            let _ = (request(&packet), hello(&packet));
        }
    }
}
