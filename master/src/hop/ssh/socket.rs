//! The TCP socket below a connection: few system calls, few copies, few wakings.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use fakessh_protocol::pace::Pace;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use crate::sys;

/// Bytes that are read beyond what is asked for. russh reads a packet in two pieces, the first of a
/// few bytes; without this each is a system call.
const AHEAD: usize = 16 * 1024;

/// The same behind a piece that is large itself: the beginning of the next packet. What is read
/// ahead is copied once more.
const AHEAD_OF_BULK: usize = 1024;

/// How long a socket that was read empty is left alone while bulk flows. A server that sends as
/// fast as it can wakes us with each packet otherwise, and pays for the waking. More would make
/// other sessions of the connection wait longer than their round trip takes.
const REST: Duration = Duration::from_micros(200);

/// From so many bytes on the kernel tells of them in spite of a rest: more than comes in one.
const WORTH_TELLING: usize = 1024 * 1024;

/// A TCP socket.
pub(super) struct ConnectionSocket {
    stream: TcpStream,
    /// What was read ahead: `buffer[start..end]`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    pace: Pace,
    /// While bulk flows.
    rest: Option<Rest>,
}

/// A runtime that is shut down drops the socket in the middle of everything. A context that somebody
/// still holds has a copy of the descriptor, which would keep the connection open.
impl Drop for ConnectionSocket {
    fn drop(&mut self) {
        // A connection that has ended can't be shut down.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

impl ConnectionSocket {
    pub(super) fn new(stream: TcpStream) -> ConnectionSocket {
        let buffer = vec![0; AHEAD].into_boxed_slice();
        let pace = Pace::new(Instant::now());
        ConnectionSocket { stream, buffer, start: 0, end: 0, pace, rest: None }
    }

    /// Gives what was read ahead.
    fn give(&mut self, target: &mut ReadBuf<'_>) {
        let count = (self.end - self.start).min(target.remaining());
        target.put_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
    }

    /// Reads what is there: as much as is asked for, and a little of what follows.
    fn take(&mut self, target: &mut ReadBuf<'_>) -> io::Result<()> {
        let asked = target.remaining();
        let ahead = if asked >= AHEAD { AHEAD_OF_BULK } else { AHEAD };
        let ahead = IoSliceMut::new(&mut self.buffer[..ahead]);
        let mut pieces = [IoSliceMut::new(target.initialize_unfilled()), ahead];
        let count = match self.rest {
            // tokio is not told of what comes during a rest.
            Some(_) => rustix::io::readv(&self.stream, &mut pieces)?,
            None => self.stream.try_read_vectored(&mut pieces)?,
        };
        let here = count.min(asked);
        target.advance(here);
        (self.start, self.end) = (0, count - here);
        self.pace.add(count);
        Ok(())
    }

    /// The socket was read empty: decides how to wait for more.
    fn emptied(&mut self) {
        let is_bulk = self.pace.is_bulk(Instant::now());
        match self.rest.as_mut() {
            // Where no timer is to be had it is woken as ever.
            None if is_bulk => self.rest = Rest::begin(&self.stream).ok(),
            None => {}
            Some(rest) => {
                let rests = is_bulk && rest.again(&self.stream).is_ok();
                if !rests && rest.is_deaf {
                    // What came before the kernel was told to speak is read once more.
                    rest.end(&self.stream);
                } else if !rests {
                    self.rest = None;
                }
            }
        }
    }
}

/// A time during which the kernel does not tell of what comes, and the reading behind it.
struct Rest {
    timer: AsyncFd<OwnedFd>,
    /// Whether the timer has run, or was not set.
    is_over: bool,
    /// Whether the kernel tells only of very much.
    is_deaf: bool,
}

impl Rest {
    fn begin(stream: &TcpStream) -> io::Result<Rest> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let timer = sys::watch(timer, Interest::READABLE)?;
        let mut rest = Rest { timer, is_over: true, is_deaf: false };
        rest.again(stream)?;
        Ok(rest)
    }

    fn again(&mut self, stream: &TcpStream) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: 0, tv_nsec: REST.subsec_nanos().into() };
        let once = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.is_over = false;
        if !self.is_deaf {
            sys::set_receive_low_water(stream, WORTH_TELLING)?;
            self.is_deaf = true;
        }
        Ok(())
    }

    fn end(&mut self, stream: &TcpStream) {
        // It has taken another number before; it takes this one.
        let _ = sys::set_receive_low_water(stream, 1);
        self.is_deaf = false;
        self.is_over = true;
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_over {
            // Its count is not read: setting it again clears it.
            ready!(self.timer.poll_read_ready(cx))?.clear_ready();
            self.is_over = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ConnectionSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        if socket.start < socket.end {
            socket.give(target);
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut socket.rest {
                Some(rest) => {
                    ready!(rest.poll_over(cx))?;
                    // A server that never stops must not keep the thread from everybody else.
                    ready!(coop::poll_proceed(cx)).made_progress();
                }
                None => ready!(socket.stream.poll_read_ready(cx))?,
            }
            match socket.take(target) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.emptied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                taken => return Poll::Ready(taken),
            }
        }
    }
}

impl AsyncWrite for ConnectionSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (ConnectionSocket, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let (near, far) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let far = far.expect("a caller").0;
        far.set_nodelay(true).expect("TCP_NODELAY");
        (ConnectionSocket::new(near.expect("a connection")), far)
    }

    fn pattern(from: usize, len: usize) -> Vec<u8> {
        (from..from + len).map(|at| (at % 251) as u8).collect()
    }

    /// Reads `len` bytes in pieces of growing size, as packets of all sizes are read.
    async fn check(socket: &mut ConnectionSocket, mut from: usize, len: usize) {
        let end = from + len;
        let mut size = 1;
        while from < end {
            let mut piece = vec![0; size.min(end - from)];
            socket.read_exact(&mut piece).await.expect("bytes");
            assert!(piece == pattern(from, piece.len()), "other bytes from {from} on");
            from += piece.len();
            size = (size * 3 + 1) % 70_000;
        }
    }

    #[tokio::test]
    async fn bulk_comes_whole() {
        const LEN: usize = 64 * 1024 * 1024;
        let (mut socket, mut far) = pair().await;
        let send = async {
            far.write_all(&pattern(0, LEN)).await.expect("a reader");
            drop(far);
        };
        tokio::join!(send, check(&mut socket, 0, LEN));
        assert_eq!(socket.read(&mut [0]).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn nothing_is_missed_around_the_end_of_a_rest() {
        let (mut socket, mut far) = pair().await;
        let mut at = 0;
        for round in 0..200 {
            socket.rest = Rest::begin(&socket.stream).ok();
            assert!(socket.rest.is_some());
            // Some, and then one byte that nothing follows.
            let burst = 1_000 * round + 1;
            let send = async {
                far.write_all(&pattern(at, burst)).await.expect("a reader");
                tokio::time::sleep(Duration::from_micros(10 * round as u64)).await;
                far.write_all(&pattern(at + burst, 1)).await.expect("a reader");
            };
            let both = async { tokio::join!(send, check(&mut socket, at, burst + 1)) };
            tokio::time::timeout(Duration::from_secs(60), both).await.expect("the last byte");
            at += burst + 1;
        }
        drop(far);
        assert_eq!(socket.read(&mut [0]).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn where_nothing_comes_no_timer_runs_on() {
        let (mut socket, _far) = pair().await;
        socket.rest = Some(Rest::begin(&socket.stream).expect("a timer"));
        let ended = async {
            while socket.rest.is_some() {
                let read = tokio::time::timeout(Duration::from_millis(1), socket.read_u8()).await;
                assert!(read.is_err(), "{read:?}");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("an end of the rest");
    }

    #[tokio::test]
    async fn a_server_that_never_stops_leaves_the_thread_to_others() {
        let (mut socket, mut far) = pair().await;
        socket.rest = Some(Rest::begin(&socket.stream).expect("a timer"));
        far.write_u8(0).await.expect("a reader");
        socket.read_u8().await.expect("a byte");
        let gave_way = std::future::poll_fn(|cx| {
            for _ in 0..10_000 {
                far.try_write(&[0]).expect("a reader");
                let mut byte = [0];
                if Pin::new(&mut socket).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending() {
                    return Poll::Ready(true);
                }
            }
            Poll::Ready(false)
        });
        assert!(gave_way.await);
    }

    #[tokio::test]
    async fn a_rest_ends_with_the_connection() {
        for reset in [false, true] {
            let (mut socket, mut far) = pair().await;
            socket.rest = Some(Rest::begin(&socket.stream).expect("a timer"));
            far.write_all(b"last").await.expect("a reader");
            let mut last = [0; 4];
            socket.read_exact(&mut last).await.expect("bytes");
            assert_eq!(&last, b"last");
            if reset {
                rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO))
                    .expect("linger");
            }
            drop(far);
            let end = socket.read(&mut last).await;
            assert_eq!(end.is_err(), reset, "{end:?}");
        }
    }
}
