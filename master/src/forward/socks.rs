//! SOCKS 4, 4a and 5, as far as `-D` needs them: a connection, and no password (RFC 1928).
//!
//! No I/O: the caller reads as many bytes as are needed, and no more, so that what follows belongs
//! to the connection.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use fakessh_protocol::failure::FailureKind;
use fakessh_protocol::message::Peer;

/// Most bytes of a name, or of the user that a client of version 4 names.
const MAX_TEXT: usize = 255;

/// What a client said, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    state: State,
    /// What has come of the part that is read now.
    bytes: Vec<u8>,
}

/// Which part of the handshake is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// The version, and the byte after it.
    #[default]
    Version,
    /// Port and address.
    Four,
    /// The user, to the zero byte. The destination is known, unless its name follows.
    FourUser {
        port: u16,
        address: Ipv4Addr,
    },
    /// The destination's name, to the zero byte.
    FourName {
        port: u16,
    },
    /// So many methods.
    Methods(u8),
    /// Version, command, a zero, the kind of address, and the first byte of the address.
    FiveHead,
    /// The rest of the address, and the port.
    FiveTail {
        kind: u8,
        first: u8,
    },
    Over,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To read on.
    Read,
    /// To write this, and to read on.
    Write(&'static [u8]),
    /// To write this, if there is anything, and to end the connection.
    Refuse(&'static [u8]),
    /// To connect, and to write a [`Reply`].
    Connect(Peer, Reply),
}

/// How a client is told what came of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Four,
    Five,
}

impl Reply {
    /// There is a connection.
    pub(super) fn connected(self) -> &'static [u8] {
        match self {
            Reply::Four => &[0, 90, 0, 0, 0, 0, 0, 0],
            Reply::Five => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }

    /// There is none.
    pub(super) fn failed(self, kind: FailureKind) -> &'static [u8] {
        match (self, kind) {
            (Reply::Four, _) => &[0, 91, 0, 0, 0, 0, 0, 0],
            (Reply::Five, FailureKind::Refused) => &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
            (Reply::Five, FailureKind::Resolve) => &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0],
            (Reply::Five, FailureKind::Connect) => &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
            (Reply::Five, _) => &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// The command to connect, in both versions.
const CONNECT: u8 = 1;

/// Kinds of addresses (RFC 1928 section 5).
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

impl Handshake {
    /// How many bytes are to be read next; at least 1.
    pub(super) fn needs(&self) -> usize {
        let whole = match self.state {
            State::Version => 2,
            State::Four => 6,
            State::FourUser { .. } | State::FourName { .. } | State::Over => return 1,
            State::Methods(count) => count.into(),
            State::FiveHead => 5,
            State::FiveTail { kind: IPV4, .. } => 3 + 2,
            State::FiveTail { kind: IPV6, .. } => 15 + 2,
            State::FiveTail { first, .. } => usize::from(first) + 2,
        };
        whole - self.bytes.len()
    }

    /// Takes what was read: at least one byte, and no more than were needed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Step {
        self.bytes.extend_from_slice(bytes);
        let is_text = matches!(self.state, State::FourUser { .. } | State::FourName { .. });
        if is_text {
            if self.bytes.last() != Some(&0) {
                return if self.bytes.len() > MAX_TEXT { self.refuse(&[]) } else { Step::Read };
            }
            self.bytes.pop();
        } else if self.needs() > 0 {
            return Step::Read;
        }
        let bytes = std::mem::take(&mut self.bytes);
        match (self.state.clone(), bytes.as_slice()) {
            (State::Version, [4, CONNECT]) => self.read(State::Four),
            (State::Version, [4, _]) => self.refuse(Reply::Four.failed(FailureKind::Other)),
            (State::Version, [5, count]) if *count > 0 => self.read(State::Methods(*count)),
            (State::Four, &[high, low, a, b, c, d]) => {
                let port = u16::from_be_bytes([high, low]);
                self.read(State::FourUser { port, address: Ipv4Addr::new(a, b, c, d) })
            }
            // An address of this form says that a name follows (SOCKS 4A).
            (State::FourUser { port, address }, _) => match address.octets() {
                [0, 0, 0, last] if last > 0 => self.read(State::FourName { port }),
                _ => self.connect(address.to_string(), port, Reply::Four),
            },
            (State::FourName { port }, name) => match std::str::from_utf8(name) {
                Ok(name) if !name.is_empty() => self.connect(name.to_owned(), port, Reply::Four),
                _ => self.refuse(Reply::Four.failed(FailureKind::Other)),
            },
            (State::Methods(_), methods) if methods.contains(&0) => {
                self.state = State::FiveHead;
                Step::Write(&[5, 0])
            }
            (State::Methods(_), _) => self.refuse(&[5, 0xff]),
            (State::FiveHead, &[5, CONNECT, _, kind @ (IPV4 | NAME | IPV6), first]) => {
                self.read(State::FiveTail { kind, first })
            }
            (State::FiveHead, [5, CONNECT, ..]) => self.refuse(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]),
            (State::FiveHead, [5, ..]) => self.refuse(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
            (State::FiveTail { kind, first }, bytes) => match requested(kind, first, bytes) {
                Some((host, port)) => self.connect(host, port, Reply::Five),
                None => self.refuse(Reply::Five.failed(FailureKind::Other)),
            },
            _ => self.refuse(&[]),
        }
    }

    fn read(&mut self, state: State) -> Step {
        self.state = state;
        Step::Read
    }

    fn refuse(&mut self, answer: &'static [u8]) -> Step {
        self.state = State::Over;
        Step::Refuse(answer)
    }

    fn connect(&mut self, host: String, port: u16, reply: Reply) -> Step {
        self.state = State::Over;
        Step::Connect(Peer::Tcp { host, port }, reply)
    }
}

/// The destination of a request, from the kind of its address, the first byte of that, and the rest.
fn requested(kind: u8, first: u8, rest: &[u8]) -> Option<(String, u16)> {
    let (rest, port) = rest.split_last_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    let host = match kind {
        NAME => {
            let name = std::str::from_utf8(rest).ok()?;
            (!name.is_empty()).then(|| name.to_owned())?
        }
        IPV4 => {
            let &[b, c, d] = rest else { return None };
            Ipv4Addr::new(first, b, c, d).to_string()
        }
        _ => {
            let mut octets = [first; 16];
            octets[1..].copy_from_slice(rest.first_chunk::<15>()?);
            Ipv6Addr::from(octets).to_string()
        }
    };
    Some((host, port))
}

/// Who asks for a destination.
pub(super) trait Client {
    /// Reads up to so many bytes, at least one; `None` if there are no more.
    async fn read(&mut self, most: usize) -> Option<Bytes>;

    /// Writes. If that fails, reading does as well.
    async fn write(&mut self, bytes: &'static [u8]);
}

/// Where a client wants to go; `None` if it does not say so, or is refused.
pub(super) async fn destination(client: &mut impl Client) -> Option<(Peer, Reply)> {
    let mut handshake = Handshake::default();
    loop {
        let bytes = client.read(handshake.needs()).await?;
        match handshake.take(&bytes) {
            Step::Read => {}
            Step::Write(answer) => client.write(answer).await,
            Step::Refuse(answer) => {
                client.write(answer).await;
                return None;
            }
            Step::Connect(peer, reply) => return Some((peer, reply)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the bytes of a client lead to, and how many of them were read.
    fn run(bytes: &[u8]) -> (Vec<Step>, usize) {
        let (mut handshake, mut steps, mut at) = (Handshake::default(), Vec::new(), 0);
        while at < bytes.len() {
            let len = handshake.needs().min(bytes.len() - at);
            assert!(len > 0);
            let step = handshake.take(&bytes[at..at + len]);
            at += len;
            let is_last = matches!(step, Step::Refuse(_) | Step::Connect(..));
            if step != Step::Read {
                steps.push(step);
            }
            if is_last {
                break;
            }
        }
        (steps, at)
    }

    fn to(host: &str, port: u16, reply: Reply) -> Step {
        Step::Connect(Peer::Tcp { host: host.to_owned(), port }, reply)
    }

    #[test]
    fn each_version_says_where_to() {
        let four = b"\x04\x01\x00\x50\x0a\x00\x00\x01me\0";
        assert_eq!(run(four).0, [to("10.0.0.1", 80, Reply::Four)]);
        let named = b"\x04\x01\x00\x50\x00\x00\x00\x01\0web1\0rest";
        assert_eq!(run(named), (vec![to("web1", 80, Reply::Four)], named.len() - 4));
        let hello = Step::Write(&[5, 0]);
        let five = b"\x05\x02\x02\x00\x05\x01\x00\x03\x04web1\x00\x50rest";
        assert_eq!(run(five), (vec![hello, to("web1", 80, Reply::Five)], five.len() - 4));
        let five = b"\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50";
        assert_eq!(run(five).0[1], to("10.0.0.1", 80, Reply::Five));
        let mut six = b"\x05\x01\x00\x05\x01\x00\x04".to_vec();
        six.extend([0; 15]);
        six.extend([1, 0, 80]);
        assert_eq!(run(&six).0[1], to("::1", 80, Reply::Five));
    }

    #[test]
    fn what_is_not_served_is_refused_in_the_words_of_its_version() {
        for (bytes, answer) in [
            (&b"GET / HTTP/1.1\r\n"[..], &b""[..]),
            (b"\x05\x00", b""),
            (b"\x04\x02\0\0\0\0\0\0", b"\0\x5b\0\0\0\0\0\0"),
            (b"\x05\x01\x02", b"\x05\xff"),
            (b"\x04\x01\x00\x50\x00\x00\x00\x01\0\0", b"\0\x5b\0\0\0\0\0\0"),
        ] {
            assert_eq!(run(bytes).0, [Step::Refuse(answer)], "{bytes:?}");
        }
        for (command, kind, code) in [(2, 1, 7), (1, 2, 8)] {
            let steps = run(&[5, 1, 0, 5, command, 0, kind, 0]).0;
            assert!(matches!(steps[1], Step::Refuse([5, found, ..]) if *found == code));
        }
        let endless = [&b"\x04\x01\x00\x50\x0a\x00\x00\x01"[..], &[b'x'; 1000]].concat();
        assert_eq!(run(&endless), (vec![Step::Refuse(b"")], 8 + MAX_TEXT + 1));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much_for_it(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            run(&bytes);
            let mut of_four = vec![4, 1];
            of_four.extend(&bytes);
            run(&of_four);
            let mut of_five = vec![5, 1, 0, 5, 1, 0];
            of_five.extend(&bytes);
            run(&of_five);
        }
    }
}
