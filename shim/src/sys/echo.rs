//! A terminal without echo, whose echo comes back on every way out: when the prompt is over, when
//! a signal kills us, and while the job is stopped.
//!
//! A terminal's modes are those of the job in its foreground. So they are read anew whenever we
//! come there, and never changed from the background: a shell may be editing a line.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::signal::{Held, STOPS, Signal, die, disposition, install, reset, stop_now};

/// One prompt at a time has the terminal.
static ONE_PROMPT: Mutex<()> = Mutex::new(());

/// The prompt, for [`with_prompt`] alone.
static PROMPT: Shared = Shared(UnsafeCell::new(None));

/// Whether somebody is at [`PROMPT`].
static BUSY: AtomicBool = AtomicBool::new(false);

struct Shared(UnsafeCell<Option<Prompt>>);

// SAFETY: `with_prompt` lets one in at a time.
unsafe impl Sync for Shared {}

/// A question on a terminal, and what handlers need to know of it.
struct Prompt {
    terminal: RawFd,
    /// The modes that the terminal had, while they are changed.
    before: Option<libc::termios>,
    question: Vec<u8>,
}

/// The echo is off while this lives.
pub(crate) struct EchoOff {
    handled: Vec<i32>,
    _one: MutexGuard<'static, ()>,
}

impl EchoOff {
    /// Turns the echo off. A job in the background is stopped here, as by any change of its
    /// terminal, until it is continued in the foreground. `terminal` must stay open as long as the
    /// result lives. A job that is stopped later shows `question` again when it is continued: it
    /// has scrolled away.
    ///
    /// # Errors
    /// What `tcdrain(3)`, `tcgetattr(3)` and `tcsetattr(3)` say; EIO for a job that stays in the
    /// background.
    pub(crate) fn new(terminal: BorrowedFd<'_>, question: &str) -> io::Result<EchoOff> {
        let one = ONE_PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handled = Vec::new();
        let deaths = Signal::ALL.map(|signal| (signal.number(), die as extern "C" fn(i32)));
        let stops = STOPS.map(|number| (number, stop as extern "C" fn(i32)));
        for (number, handler) in deaths.into_iter().chain(stops) {
            // Whoever handles or ignores a signal already keeps it so.
            if disposition(number) == libc::SIG_DFL {
                install(number, handler);
                handled.push(number);
            }
        }
        let guard = EchoOff { handled, _one: one };
        let terminal = terminal.as_raw_fd();
        // It changes nothing, and is held up in the background as what does.
        // SAFETY: the descriptor is open.
        while unsafe { libc::tcdrain(terminal) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let mut prompt = Prompt { terminal, before: None, question: question.into() };
        let _held = Held::begin();
        let is_off = prompt.silence()?;
        with_prompt(|shared| *shared = Some(prompt));
        if is_off { Ok(guard) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let held = Held::begin();
        if let Some(mut prompt) = with_prompt(Option::take) {
            prompt.restore();
        }
        drop(held);
        for &number in &self.handled {
            reset(number);
        }
    }
}

impl Prompt {
    /// Turns the echo off, if we are in the foreground and it is on. Says whether it did. Throws
    /// away what was typed before the question could be read. Async-signal-safe.
    fn silence(&mut self) -> io::Result<bool> {
        if self.before.is_some() || !self.is_in_foreground() {
            return Ok(false);
        }
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: tcgetattr fills the value in or fails.
        let before = unsafe {
            if libc::tcgetattr(self.terminal, before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        let mut quiet = before;
        quiet.c_lflag &= !(libc::ECHO | libc::ECHONL);
        self.set(libc::TCSAFLUSH, &quiet)?;
        self.before = Some(before);
        Ok(true)
    }

    /// Puts the modes back that the terminal had, if we changed them and are still in the
    /// foreground. Async-signal-safe.
    fn restore(&mut self) {
        if let Some(before) = self.before.take()
            && self.is_in_foreground()
        {
            // What can't be put back has no terminal any more.
            let _ = self.set(libc::TCSADRAIN, &before);
        }
    }

    fn set(&self, when: i32, modes: &libc::termios) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as the EchoOff lives, and the modes are whole.
        while unsafe { libc::tcsetattr(self.terminal, when, modes) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    fn is_in_foreground(&self) -> bool {
        // SAFETY: both take no memory; the descriptor is open as long as the EchoOff lives.
        unsafe { libc::tcgetpgrp(self.terminal) == libc::getpgrp() }
    }
}

/// Looks at the prompt, or changes it. Our signals must be held back: then who is waited for is
/// another thread, and goes on.
fn with_prompt<T>(look: impl FnOnce(&mut Option<Prompt>) -> T) -> T {
    while BUSY.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // SAFETY: nobody else is here, as we were not busy.
    let seen = look(unsafe { &mut *PROMPT.0.get() });
    BUSY.store(false, Ordering::Release);
    seen
}

/// Gives the terminal its echo back. For handlers. Async-signal-safe.
pub(super) fn restore() {
    with_prompt(|prompt| prompt.as_mut().map(Prompt::restore));
}

/// The handler of [`STOPS`]: stops for real, with the echo on. Who is continued in the foreground
/// asks again; in the background, reading stops us again. Calls only what `signal-safety(7)` allows.
extern "C" fn stop(number: i32) {
    // SAFETY: the address of errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    restore();
    reset(number);
    stop_now(number);
    install(number, stop);
    with_prompt(|prompt| {
        if let Some(prompt) = prompt
            && prompt.silence().is_ok_and(|is_off| is_off)
        {
            let question = &prompt.question;
            // SAFETY: the descriptor is open as long as the EchoOff lives.
            unsafe { libc::write(prompt.terminal, question.as_ptr().cast(), question.len()) };
        }
    });
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}
