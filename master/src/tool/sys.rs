//! Signals with their senders, which neither std nor tokio gives.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the handler writes for the kernel where the number of a sending process would stand.
const KERNEL: i32 = -1;

/// Bytes of what the handler writes: the signal and its sender.
const RECORD: usize = 2 * size_of::<i32>();

/// The pipe that the handler writes to: reading and writing end. Never closed, since a handler may
/// run at any time.
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// Whether somebody reads from it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    /// Its number.
    pub(super) number: i32,
    /// The process that sent it, 0 for one of another process namespace; `None` for the kernel,
    /// which does so for a terminal.
    pub(super) sender: Option<i32>,
}

/// Signals that are caught as long as this lives. Those that were ignored before stay so: nohup and
/// shells without job control mean it, and programs inherit it.
pub(super) struct Caught {
    reader: AsyncFd<OwnedFd>,
    before: Vec<(i32, libc::sigaction)>,
}

impl Caught {
    /// Catches these signals. Must be called in a tokio runtime. Only one can do so at a time in a
    /// process: `None` for another.
    ///
    /// # Errors
    /// Failures of the system.
    pub(super) fn new(numbers: &[i32]) -> io::Result<Option<Caught>> {
        if TAKEN.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        let watched = pipe().and_then(|(reader, _)| {
            while rustix::io::read(reader, &mut [0; RECORD]).is_ok() {}
            crate::sys::watch(reader.try_clone()?, Interest::READABLE)
        });
        let reader = watched.inspect_err(|_| TAKEN.store(false, Ordering::Release))?;
        let mut caught = Caught { reader, before: Vec::new() };
        for &number in numbers {
            let before = action(number, None);
            if before.sa_sigaction != libc::SIG_IGN {
                catch(number);
                caught.before.push((number, before));
            }
        }
        Ok(Some(caught))
    }

    /// The next signal. Cancel safe.
    pub(super) async fn next(&self) -> io::Result<Came> {
        let mut record = [0; RECORD];
        let read = |reader: &OwnedFd| Ok(rustix::io::read(reader, &mut record)?);
        self.reader.async_io(Interest::READABLE, read).await?;
        let [a, b, c, d, e, f, g, h] = record;
        let (number, sender) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        Ok(Came { number, sender: (sender != KERNEL).then_some(sender) })
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        for (number, before) in &self.before {
            action(*number, Some(before));
        }
        TAKEN.store(false, Ordering::Release);
    }
}

fn pipe() -> io::Result<(&'static OwnedFd, &'static OwnedFd)> {
    if PIPE.get().is_none() {
        let _ = PIPE.set(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?);
    }
    let (reader, writer) = PIPE.get().ok_or(Errno::BADF)?;
    Ok((reader, writer))
}

fn catch(number: i32) {
    // SAFETY: all zeros is a valid sigaction, with an empty set.
    let mut caught = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = record;
    caught.sa_sigaction = handler as *const () as libc::sighandler_t;
    caught.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    action(number, Some(&caught));
}

/// What a signal does, after it was told to do `new`, if anything.
fn action(number: i32, new: Option<&libc::sigaction>) -> libc::sigaction {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or a whole action whose handler calls async-signal-safe functions only;
    // all zeros is a valid value of what is written.
    unsafe {
        libc::sigaction(number, new, before.as_mut_ptr());
        before.assume_init()
    }
}

/// The handler. Calls only what signal-safety(7) allows.
extern "C" fn record(number: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some((_, writer)) = PIPE.get() else { return };
    // SAFETY: errno's address is always valid, and so is the information that the kernel gives to
    // a handler with SA_SIGINFO; it names a sender where its code is not positive (sigaction(2)).
    // The pipe is never closed, and write is async-signal-safe.
    unsafe {
        let errno = *libc::__errno_location();
        let sender = if (*info).si_code <= 0 { (*info).si_pid() } else { KERNEL };
        let record = [number, sender];
        libc::write(writer.as_raw_fd(), record.as_ptr().cast(), RECORD);
        *libc::__errno_location() = errno;
    }
}
