//! One epoll descriptor for everything: waiting costs what is ready, not what is open.

mod token;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

pub(crate) use token::{ReversePart, RunPart, SessionPart, Token};

/// Most events taken at once: enough that a burst of a hundred sessions is one call.
const EVENTS: usize = 256;

/// What the kernel is to report about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Nothing, not even its end.
    Nothing,
    /// That the other end is gone.
    End,
    /// That the other end is gone, and that there is something to read.
    Read,
    /// That the other end is gone, and that there is room to write.
    Write,
    /// All three.
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

    /// Waits until a descriptor is ready, or `timeout` is over if there is one.
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
        let ready = self.events.iter().filter_map(|event| {
            let flags = event.flags;
            Some(Ready {
                token: Token::decode(event.data.u64())?,
                writable: flags.contains(EventFlags::OUT),
                ended: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            })
        });
        Ok(ready.collect())
    }
}

/// A descriptor, with what the epoll descriptor was told about it. Closing it withdraws it.
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

    /// Changes what the kernel reports. Costs a system call if that is a change.
    pub(crate) fn watch(&mut self, poll: &Poll, interest: Interest) -> io::Result<()> {
        if self.interest == interest {
            return Ok(());
        }
        let flags = match interest {
            // The kernel reports the end of a descriptor whatever the flags, unless it is taken out.
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
