//! Moves bytes both ways between a socket and standard input and output, each way until its own
//! end: one side may finish long before the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fakessh_unix::splice::splice;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::pipe::SpliceFlags;

use super::reporter::Reporter;
use crate::pipe::enlarge;

/// Most bytes that are moved by one call.
const PIECE: usize = 256 * 1024;

/// What the pipes are made to hold, the first size that the target allows.
const PIPE_SIZES: [usize; 1] = [PIECE];

/// What a direction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    ForBytes,
    ForRoom,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    waits: Waits,
    /// Whether the kernel moves the bytes. Some sandboxes have no splice.
    splices: bool,
    /// Bytes that were read and could not be written.
    kept: Vec<u8>,
}

/// How far a direction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waits,
    /// All bytes are through.
    Ended,
}

impl Flow {
    fn new() -> Flow {
        Flow { waits: Waits::ForBytes, splices: true, kept: Vec::new() }
    }

    /// Moves what is there, once.
    fn go_on(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<Progress, Errno> {
        if self.splices {
            match splice(from, to, PIECE, SpliceFlags::NONBLOCK) {
                Ok(Some(0)) => return Ok(Progress::Ended),
                Ok(Some(_)) => self.waits = Waits::ForBytes,
                Ok(None) => self.splices = false,
                // What the flow waited for is there, so the other is missing.
                Err(Errno::AGAIN) => {
                    self.waits = match self.waits {
                        Waits::ForBytes => Waits::ForRoom,
                        Waits::ForRoom => Waits::ForBytes,
                    };
                }
                Err(error) => return Err(error),
            }
            return Ok(Progress::Waits);
        }
        if self.kept.is_empty() {
            self.kept.resize(PIECE, 0);
            let read = rustix::io::read(from, &mut self.kept);
            self.kept.truncate(read.unwrap_or(0));
            match read {
                Ok(0) => return Ok(Progress::Ended),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        match rustix::io::write(to, &self.kept) {
            Ok(len) => drop(self.kept.drain(..len)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        self.waits = if self.kept.is_empty() { Waits::ForBytes } else { Waits::ForRoom };
        Ok(Progress::Waits)
    }
}

/// Moves bytes between the socket and our own standard input and output until both directions
/// have ended. If nobody reads the output any more, a connection of a hop has ended, and one that
/// reports goes on until its input has ended: what was written before a stream was dropped arrives.
///
/// The peer's clean end is reported before the output is closed. Standard input and output become
/// non-blocking: they must be nobody else's.
///
/// # Errors
/// Why bytes of the peer are missing.
pub(super) fn relay(socket: &OwnedFd, reporter: &Reporter) -> io::Result<()> {
    let input = take(rustix::stdio::stdin(), OFlags::RDONLY)?;
    let output = take(rustix::stdio::stdout(), OFlags::WRONLY)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::io::ioctl_fionbio(socket, true)?;
    let mut outgoing = Some((input, Flow::new()));
    let mut incoming = Some((output, Flow::new()));
    let mut cut = None;
    loop {
        let ready = wait(socket, outgoing.as_ref(), incoming.as_ref())?;
        if ready.output_broke {
            incoming = None;
            if outgoing.is_none() || !reporter.is_of_stream() {
                return Ok(());
            }
        }
        if let Some((input, flow)) = outgoing.as_mut().filter(|_| ready.outgoing) {
            match flow.go_on(input.as_fd(), socket.as_fd()) {
                Ok(Progress::Waits) => {}
                // The peer takes no more. What it has sent is still to be read. (A reset after its
                // end is a broken pipe; a reset that cuts off what it sent is a lost connection.)
                Err(error @ (Errno::PIPE | Errno::CONNRESET)) => {
                    outgoing = None;
                    cut = (error == Errno::CONNRESET).then_some(error);
                }
                Ok(Progress::Ended) => {
                    outgoing = None;
                    // If the peer is gone already, the other direction says so.
                    let _ = rustix::net::shutdown(socket, Shutdown::Write);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some((output, flow)) = incoming.as_mut().filter(|_| ready.incoming) {
            match flow.go_on(socket.as_fd(), output.as_fd()) {
                Ok(Progress::Waits) => {}
                Ok(Progress::Ended) => {
                    if cut.is_none() {
                        reporter.end();
                    }
                    incoming = None;
                }
                Err(Errno::PIPE) if reporter.is_of_stream() => incoming = None,
                Err(Errno::PIPE) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if incoming.is_none() && (outgoing.is_none() || ready.hung_up) {
            return cut.map_or(Ok(()), |error| Err(error.into()));
        }
    }
}

/// Which directions can go on after a wait.
struct Ready {
    outgoing: bool,
    incoming: bool,
    output_broke: bool,
    /// Both directions of the socket have ended.
    hung_up: bool,
}

/// Waits until a direction can go on.
fn wait(
    socket: &OwnedFd,
    outgoing: Option<&(OwnedFd, Flow)>,
    incoming: Option<&(OwnedFd, Flow)>,
) -> Result<Ready, Errno> {
    let out_waits = outgoing.map(|(_, flow)| flow.waits);
    let in_waits = incoming.map(|(_, flow)| flow.waits);
    let mut events = PollFlags::empty();
    events.set(PollFlags::OUT, out_waits == Some(Waits::ForRoom));
    events.set(PollFlags::IN, in_waits == Some(Waits::ForBytes));

    let mut asked = Vec::with_capacity(3);
    // With no events asked for, poll reports the socket's end alone, again and again while the
    // peer's last bytes wait for room. Then the socket is left out.
    let asks_socket = !events.is_empty() || in_waits.is_none();
    if asks_socket {
        asked.push(PollFd::new(socket, events));
    }
    let input_at = outgoing.filter(|_| out_waits == Some(Waits::ForBytes)).map(|(input, _)| {
        asked.push(PollFd::new(input, PollFlags::IN));
        asked.len() - 1
    });
    let output_at = incoming.map(|(output, _)| {
        let is_full = in_waits == Some(Waits::ForRoom);
        asked.push(PollFd::new(output, if is_full { PollFlags::OUT } else { PollFlags::empty() }));
        asked.len() - 1
    });
    while let Err(error) = poll(&mut asked, None) {
        if error != Errno::INTR {
            return Err(error);
        }
    }
    let found = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| asked[at].revents());
    let on_socket = found(asks_socket.then_some(0));
    let on_output = found(output_at);
    let ended = PollFlags::HUP | PollFlags::ERR;
    let on_input = found(input_at);
    Ok(Ready {
        outgoing: match out_waits {
            Some(Waits::ForBytes) => !on_input.is_empty(),
            Some(Waits::ForRoom) => on_socket.intersects(PollFlags::OUT | ended),
            None => false,
        },
        incoming: match in_waits {
            Some(Waits::ForBytes) => on_socket.intersects(PollFlags::IN | ended),
            Some(Waits::ForRoom) => on_output.contains(PollFlags::OUT),
            None => false,
        },
        output_broke: on_output.contains(PollFlags::ERR),
        hung_up: on_socket.intersects(ended),
    })
}

/// Takes over a standard descriptor, as one that does not block.
fn take(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<OwnedFd> {
    let ours = fd.try_clone_to_owned()?;
    rustix::fs::fcntl_setfl(&ours, access | OFlags::NONBLOCK)?;
    enlarge(&ours, &PIPE_SIZES);
    Ok(ours)
}
