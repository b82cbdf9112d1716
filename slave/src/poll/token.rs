//! Names each watched descriptor: its owner, and what it is for that owner.
//!
//! The kernel keeps a number for each descriptor and gives it back with each event. A number that
//! no descriptor has is an error of ours, and is never taken for another descriptor.

use fakessh_protocol::handles::Stream;
use fakessh_protocol::wire::Handle;

/// A watched descriptor. A session goes by its control handle, a run by that of its tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    LinkIn,
    LinkOut,
    /// The pipe that says that some child has ended. Only kernels without pidfds need it.
    Children,
    /// The watchdog's pidfd.
    Watchdog,
    Session(Handle, SessionPart),
    Reverse(Handle, ReversePart),
    Run(Handle, RunPart),
    /// A connection that has not handed over yet, by a number of its own.
    PendingShim(u32),
    /// A socket that is listened on for a forward, by the control handle of that.
    Listener(Handle),
}

/// A descriptor of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionPart {
    /// Our end of one of the program's pipes.
    Stream(Stream),
    /// The program's pidfd.
    Exit,
    /// A helper's terminal, and the pipe that its output goes into.
    Terminal,
}

/// A descriptor of a reverse session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReversePart {
    /// What stands for one of the shim's standard descriptors.
    Stream(Stream),
    /// The pidfd of the copier of that stream.
    Copier(Stream),
    /// The shim's socket.
    Shim,
}

/// A descriptor of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunPart {
    /// Our end of the socket that the tool inherits.
    Inherited,
    /// The socket in the run's directory.
    Listener,
}

/// The low bits of an encoded token say what it is, the bits above have its number.
const KIND_BITS: u32 = 8;

impl Token {
    /// The number that the kernel keeps.
    pub(super) fn encode(self) -> u64 {
        let (kind, number) = match self {
            Token::LinkIn => (0x00, 0),
            Token::LinkOut => (0x01, 0),
            Token::Children => (0x02, 0),
            Token::Watchdog => (0x03, 0),
            Token::Session(Handle(number), part) => (
                match part {
                    SessionPart::Stream(stream) => 0x10 + stream as u8,
                    SessionPart::Exit => 0x18,
                    SessionPart::Terminal => 0x19,
                },
                number,
            ),
            Token::Reverse(Handle(number), part) => (
                match part {
                    ReversePart::Stream(stream) => 0x20 + stream as u8,
                    ReversePart::Copier(stream) => 0x24 + stream as u8,
                    ReversePart::Shim => 0x28,
                },
                number,
            ),
            Token::Run(Handle(number), RunPart::Inherited) => (0x30, number),
            Token::Run(Handle(number), RunPart::Listener) => (0x31, number),
            Token::PendingShim(number) => (0x40, number),
            Token::Listener(Handle(number)) => (0x50, number),
        };
        u64::from(number) << KIND_BITS | u64::from(kind)
    }

    /// The token of a number, or `None` if no token has it.
    pub(super) fn decode(data: u64) -> Option<Token> {
        let number = u32::try_from(data >> KIND_BITS).ok()?;
        let kind = (data & ((1 << KIND_BITS) - 1)) as u8;
        let handle = Handle(number);
        let session = |part| Some(Token::Session(handle, part));
        let reverse = |part| Some(Token::Reverse(handle, part));
        match kind {
            0x00..=0x03 if number != 0 => None,
            0x00 => Some(Token::LinkIn),
            0x01 => Some(Token::LinkOut),
            0x02 => Some(Token::Children),
            0x03 => Some(Token::Watchdog),
            0x10..=0x12 => session(SessionPart::Stream(stream(kind - 0x10)?)),
            0x18 => session(SessionPart::Exit),
            0x19 => session(SessionPart::Terminal),
            0x20..=0x22 => reverse(ReversePart::Stream(stream(kind - 0x20)?)),
            0x24..=0x26 => reverse(ReversePart::Copier(stream(kind - 0x24)?)),
            0x28 => reverse(ReversePart::Shim),
            0x30 => Some(Token::Run(handle, RunPart::Inherited)),
            0x31 => Some(Token::Run(handle, RunPart::Listener)),
            0x40 => Some(Token::PendingShim(number)),
            0x50 => Some(Token::Listener(handle)),
            _ => None,
        }
    }
}

fn stream(number: u8) -> Option<Stream> {
    Stream::ALL.into_iter().find(|stream| *stream as u8 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let handle = Handle(u32::MAX);
        let streams = Stream::ALL.into_iter().flat_map(|stream| {
            [
                Token::Session(handle, SessionPart::Stream(stream)),
                Token::Reverse(handle, ReversePart::Stream(stream)),
                Token::Reverse(handle, ReversePart::Copier(stream)),
            ]
        });
        let others = [
            Token::LinkIn,
            Token::LinkOut,
            Token::Children,
            Token::Watchdog,
            Token::Session(Handle(4), SessionPart::Exit),
            Token::Session(handle, SessionPart::Terminal),
            Token::Reverse(handle, ReversePart::Shim),
            Token::Run(handle, RunPart::Inherited),
            Token::Run(handle, RunPart::Listener),
            Token::PendingShim(u32::MAX),
            Token::Listener(handle),
        ];
        for token in streams.chain(others) {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }

    #[test]
    fn a_number_that_no_token_has_is_none() {
        let mut found = 0;
        for data in 0..1 << (KIND_BITS + 2) {
            if let Some(token) = Token::decode(data) {
                assert_eq!(token.encode(), data);
                found += 1;
            }
        }
        assert_eq!(found, 4 + 4 * (5 + 7 + 2 + 1 + 1));
        assert_eq!(Token::decode(u64::MAX), None);
        assert_eq!(Token::decode(1 << 40 | 0x10), None);
    }
}
