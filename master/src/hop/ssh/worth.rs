//! What a server sends for nobody, and how it is slowed.
//!
//! Below a link, too, a hostile server can send what has no reader: packets that are to be ignored,
//! requests, window adjustments, data for no channel, standard error of a slave, key exchanges.
//! Bytes of the connection count against what its channels have passed on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use crate::allowance::Allowance;

use super::transport::Duplex;

/// Bytes that may be read before they are passed on or were for nobody: more than waits between a
/// connection and the reader of a channel, and all that a login takes.
const BURST: u64 = 4 * 1024 * 1024;

/// Bytes a second that a server may send for nobody, in the smallest packets some hundred thousand
/// of them: a twentieth of the thread. A thousand short commands have a tenth of it in headers.
const PER_SECOND: u64 = 4 * 1024 * 1024;

/// What an exchange of keys counts for, in bytes: with elliptic curves it takes a millisecond. A
/// server that has one for each megabyte (`RekeyLimit`) is not slowed by it.
const KEY_EXCHANGE: u64 = 32 * 1024;

/// The same in a group of integers (Diffie-Hellman): it takes up to some hundredths of a second.
const KEY_EXCHANGE_OF_INTEGERS: u64 = 1024 * 1024;

/// How the names of these begin (RFC 4253 section 8, RFC 4419).
const OF_INTEGERS: &str = "diffie-hellman-";

/// Counts what of a connection was worth reading, and what was worse than its size.
#[derive(Clone, Debug, Default)]
pub(super) struct Worth(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    wanted: AtomicU64,
    extra: AtomicU64,
}

impl Worth {
    /// Somebody has taken so many bytes.
    pub(super) fn wanted(&self, bytes: usize) {
        self.0.wanted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Keys were exchanged by this method.
    pub(super) fn keys_exchanged(&self, method: &str) {
        let is_of_integers = method.starts_with(OF_INTEGERS);
        let cost = if is_of_integers { KEY_EXCHANGE_OF_INTEGERS } else { KEY_EXCHANGE };
        self.0.extra.fetch_add(cost, Ordering::Relaxed);
    }
}

/// A stream below a connection, which is read no faster than it is worth.
pub(super) struct Weighed {
    stream: Box<dyn Duplex>,
    worth: Worth,
    /// The connection that carries this one, for which all of it is wanted.
    carrier: Option<Worth>,
    allowance: Allowance,
    rest: Option<Pin<Box<Sleep>>>,
}

impl Weighed {
    pub(super) fn new(stream: Box<dyn Duplex>, worth: Worth, carrier: Option<Worth>) -> Weighed {
        let allowance = Allowance::new(BURST, PER_SECOND, Instant::now());
        Weighed { stream, worth, carrier, allowance, rest: None }
    }

    fn weigh(&mut self) {
        let Counts { wanted, extra } = &*self.worth.0;
        if extra.load(Ordering::Relaxed) > 0 {
            self.allowance.take(extra.swap(0, Ordering::Relaxed));
        }
        if self.allowance.is_used_up() {
            self.allowance.give_back(wanted.swap(0, Ordering::Relaxed));
        }
        let until = self.allowance.rest(Instant::now);
        self.rest = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
    }
}

impl AsyncRead for Weighed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let weighed = &mut *self;
        // What was read ahead is there at once: many small packets must not keep the thread.
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            if let Some(rest) = &mut weighed.rest {
                ready!(rest.as_mut().poll(cx));
            }
            weighed.weigh();
            if weighed.rest.is_none() {
                break;
            }
        }
        let before = target.filled().len();
        ready!(Pin::new(&mut weighed.stream).poll_read(cx, target))?;
        let came = target.filled().len() - before;
        weighed.allowance.take(came as u64);
        if let Some(carrier) = &weighed.carrier {
            carrier.wanted(came);
        }
        turn.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Weighed {
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
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Reads so many bytes of a stream that never ends, and says how long it took by tokio's clock.
    async fn read(len: u64, each: impl Fn(&Worth, usize)) -> Duration {
        let worth = Worth::default();
        let endless = tokio::io::join(tokio::io::repeat(0), tokio::io::sink());
        let mut weighed = Weighed::new(Box::new(endless), worth.clone(), None);
        let begin = Instant::now();
        let mut piece = vec![0; 64 * 1024];
        let mut came = 0;
        while came < len {
            let count = weighed.read(&mut piece).await.expect("bytes");
            came += count as u64;
            each(&worth, count);
        }
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_slowed_and_what_somebody_wants_is_not() {
        let ten_seconds = BURST + 10 * PER_SECOND;
        let unwanted = read(ten_seconds, |_, _| {}).await;
        assert!((9..=11).contains(&unwanted.as_secs()), "{unwanted:?}");
        let wanted = read(ten_seconds, |worth, count| worth.wanted(count)).await;
        assert_eq!(wanted, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_exchanged_again_and_again_are_slowed() {
        for (method, seconds) in
            [("diffie-hellman-group16-sha512", 240..=260), ("curve25519-sha256", 5..=9)]
        {
            let took = read(1000 * 64 * 1024, |worth, count| {
                worth.wanted(count);
                worth.keys_exchanged(method);
            });
            let took = took.await;
            assert!(seconds.contains(&took.as_secs()), "{method}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_for_each_megabyte_is_not_slowed() {
        let since = std::sync::atomic::AtomicUsize::new(0);
        let took = read(1000 * 1024 * 1024, |worth, count| {
            worth.wanted(count);
            if since.fetch_add(count, Ordering::Relaxed) > 1024 * 1024 {
                since.store(0, Ordering::Relaxed);
                worth.keys_exchanged("curve25519-sha256");
            }
        });
        let took = took.await;
        assert!(took < Duration::from_secs(8), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_of_a_connection_is_wanted_by_the_one_that_carries_it() {
        let carrier = Worth::default();
        let endless = tokio::io::join(tokio::io::repeat(0), tokio::io::sink());
        let mut weighed = Weighed::new(Box::new(endless), Worth::default(), Some(carrier.clone()));
        weighed.read_exact(&mut [0; 1000]).await.expect("bytes");
        assert_eq!(carrier.0.wanted.load(Ordering::Relaxed), 1000);
    }
}
