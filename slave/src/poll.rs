//! One epoll descriptor for everything: waiting costs what is ready, not what is open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fakessh_protocol::handles::Stream;
use fakessh_protocol::wire::Handle;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Most events taken at once: enough that a burst of a hundred sessions is one call.
const EVENTS: usize = 256;

/// What of a session a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Stdin,
    Stdout,
    Stderr,
    /// The program itself: its pidfd.
    Exit,
    /// The terminal of a helper, and the pipe that what it shows goes into.
    Terminal,
    /// Of a raised session: the socket of its shim.
    Shim,
    /// Of a raised session: what carries its standard input, output or error.
    StdinCopier,
    StdoutCopier,
    StderrCopier,
    /// Of a tool's session: the run's socket, which the tool inherits.
    Run,
    /// Of a tool's session: the socket in the run's directory.
    Listener,
    /// A connection that came through that listener; it has a number of its own.
    PendingShim,
}

impl From<Stream> for Part {
    fn from(stream: Stream) -> Part {
        match stream {
            Stream::Stdin => Part::Stdin,
            Stream::Stdout => Part::Stdout,
            Stream::Stderr => Part::Stderr,
        }
    }
}

impl Part {
    /// All of them, each at the place of its number.
    const ALL: [Part; 12] = [
        Part::Stdin,
        Part::Stdout,
        Part::Stderr,
        Part::Exit,
        Part::Terminal,
        Part::Shim,
        Part::StdinCopier,
        Part::StdoutCopier,
        Part::StderrCopier,
        Part::Run,
        Part::Listener,
        Part::PendingShim,
    ];

    /// Bits that hold the number of a part.
    const BITS: u32 = 4;
}

/// Whose descriptor is ready. A session goes by its control handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    LinkIn,
    LinkOut,
    /// Some program has ended; only where there are no pidfds.
    Children,
    /// The watchdog has ended.
    Watchdog,
    Session(Handle, Part),
}

impl Token {
    const LINK_IN: u64 = u64::MAX;
    const LINK_OUT: u64 = u64::MAX - 1;
    const CHILDREN: u64 = u64::MAX - 2;
    const WATCHDOG: u64 = u64::MAX - 3;

    fn encode(self) -> u64 {
        match self {
            Token::LinkIn => Token::LINK_IN,
            Token::LinkOut => Token::LINK_OUT,
            Token::Children => Token::CHILDREN,
            Token::Watchdog => Token::WATCHDOG,
            Token::Session(Handle(number), part) => (u64::from(number) << Part::BITS) | part as u64,
        }
    }

    fn decode(data: u64) -> Token {
        let part = match data {
            Token::LINK_IN => return Token::LinkIn,
            Token::LINK_OUT => return Token::LinkOut,
            Token::CHILDREN => return Token::Children,
            Token::WATCHDOG => return Token::Watchdog,
            _ => {
                let number = data & ((1 << Part::BITS) - 1);
                Part::ALL.into_iter().find(|part| *part as u64 == number).unwrap_or(Part::Exit)
            }
        };
        Token::Session(Handle((data >> Part::BITS) as u32), part)
    }
}

/// What to be told about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Nothing, not even its end.
    Nothing,
    /// That the other end is gone.
    End,
    /// That, and that there is something to read.
    Read,
    /// That the other end is gone, and that there is room to write.
    Write,
    /// All of it.
    Both,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) writable: bool,
    /// The other end is gone. There may be bytes left to read.
    pub(crate) ended: bool,
}

/// The epoll descriptor.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Poll { epoll, events: Vec::with_capacity(EVENTS) })
    }

    /// Waits for something to be ready, at most `timeout`; without an end where there is none.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Ready>> {
        let mut timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.events.clear();
        if timeout.is_some_and(|timeout| timeout.tv_sec == 0 && timeout.tv_nsec > 0) {
            // epoll_wait(2) counts in milliseconds.
            let mut asked = [PollFd::new(&self.epoll, PollFlags::IN)];
            match rustix::event::poll(&mut asked, timeout.as_ref()) {
                Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
                Ok(_) => timeout = Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
                Err(error) => return Err(error.into()),
            }
        }
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                token: Token::decode(event.data.u64()),
                writable: flags.contains(EventFlags::OUT),
                ended: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            }
        });
        Ok(ready.collect())
    }
}

/// A descriptor with what the epoll descriptor was told about it. Closing it withdraws it.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: OwnedFd,
    token: Token,
    interest: Interest,
}

impl Watched {
    /// Nothing is watched until [`Watched::watch`].
    pub(crate) fn new(fd: OwnedFd, token: Token) -> Watched {
        Watched { fd, token, interest: Interest::Nothing }
    }

    /// Changes what to be told. Costs a system call where it is a change.
    pub(crate) fn watch(&mut self, poll: &Poll, interest: Interest) -> io::Result<()> {
        if self.interest == interest {
            return Ok(());
        }
        let flags = match interest {
            // The end of a descriptor is reported whatever the flags: it has to be taken out.
            Interest::Nothing => {
                epoll::delete(&poll.epoll, &self.fd)?;
                self.interest = interest;
                return Ok(());
            }
            Interest::End => EventFlags::empty(),
            Interest::Read => EventFlags::IN,
            Interest::Write => EventFlags::OUT,
            Interest::Both => EventFlags::IN | EventFlags::OUT,
        };
        let data = EventData::new_u64(self.token.encode());
        if self.interest == Interest::Nothing {
            epoll::add(&poll.epoll, &self.fd, data, flags)?;
        } else {
            epoll::modify(&poll.epoll, &self.fd, data, flags)?;
        }
        self.interest = interest;
        Ok(())
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::LinkIn,
            Token::LinkOut,
            Token::Children,
            Token::Session(Handle(1), Part::Stdin),
            Token::Session(Handle(u32::MAX), Part::Exit),
            Token::Session(Handle(7), Part::Stdout),
            Token::Session(Handle(7), Part::Stderr),
            Token::Session(Handle(u32::MAX), Part::PendingShim),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
