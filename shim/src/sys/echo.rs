//! A terminal without echo, whose echo comes back on every way out: when the prompt is over, when
//! a signal kills us, and while the job is stopped.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::signal::{Signal, die, disposition, install, reset};

/// The terminal whose echo is off, or -1.
static TERMINAL: AtomicI32 = AtomicI32::new(-1);

/// What a handler needs to know. Written only while [`TERMINAL`] is -1 and [`ONE_PROMPT`] is held,
/// so a handler never sees it half written.
static PROMPT: Prompt = Prompt(UnsafeCell::new(None));

/// Whether the modes were changed by us; not while the job is stopped.
static OFF: AtomicBool = AtomicBool::new(false);

/// One prompt at a time has the terminal.
static ONE_PROMPT: Mutex<()> = Mutex::new(());

struct Prompt(UnsafeCell<Option<Quiet>>);

/// A terminal's modes as they were and without echo, and the question that stands there.
struct Quiet {
    before: libc::termios,
    quiet: libc::termios,
    question: Vec<u8>,
}

// SAFETY: see PROMPT: one writer, and readers only between its writes.
unsafe impl Sync for Prompt {}

/// Signals of job control, which stop us with the echo on.
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// The echo is off while this lives.
pub(crate) struct EchoOff {
    handled: Vec<i32>,
    _one: MutexGuard<'static, ()>,
}

impl EchoOff {
    /// Turns the echo off. `terminal` must stay open as long as the result lives. A job that was
    /// stopped shows `question` again when it is continued: it has scrolled away.
    ///
    /// # Errors
    /// What `tcgetattr(3)` and `tcsetattr(3)` say.
    pub(crate) fn new(terminal: BorrowedFd<'_>, question: &str) -> io::Result<EchoOff> {
        let one = ONE_PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: tcgetattr fills the value in or fails.
        let before = unsafe {
            if libc::tcgetattr(terminal.as_raw_fd(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        let mut quiet = before;
        quiet.c_lflag &= !(libc::ECHO | libc::ECHONL);
        // SAFETY: TERMINAL is -1 and the lock is held, so nobody reads this now.
        unsafe {
            *PROMPT.0.get() = Some(Quiet { before, quiet, question: question.into() });
        }
        TERMINAL.store(terminal.as_raw_fd(), Ordering::SeqCst);
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
        // Throws away what was typed before the question could be read.
        if apply(true, libc::TCSAFLUSH) { Ok(guard) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        restore();
        TERMINAL.store(-1, Ordering::SeqCst);
        for &number in &self.handled {
            reset(number);
        }
    }
}

/// Puts the modes back that the terminal had, if we changed them. Async-signal-safe.
pub(super) fn restore() {
    if OFF.load(Ordering::SeqCst) {
        apply(false, libc::TCSADRAIN);
    }
}

/// The terminal whose echo is off, and what there is to know about it.
fn prompt() -> Option<(i32, &'static Quiet)> {
    let terminal = TERMINAL.load(Ordering::SeqCst);
    if terminal < 0 {
        return None;
    }
    // SAFETY: TERMINAL is set after PROMPT was written and cleared before it is written again.
    let prompt = unsafe { (*PROMPT.0.get()).as_ref() };
    prompt.map(|prompt| (terminal, prompt))
}

fn apply(off: bool, when: i32) -> bool {
    let Some((terminal, prompt)) = prompt() else { return false };
    // Before the change: a handler in between restores once too often, which does no harm.
    if off {
        OFF.store(true, Ordering::SeqCst);
    }
    let modes = if off { &prompt.quiet } else { &prompt.before };
    // SAFETY: the descriptor is open as long as the EchoOff lives, and the modes are whole.
    let done = unsafe { libc::tcsetattr(terminal, when, modes) == 0 };
    if !off {
        OFF.store(false, Ordering::SeqCst);
    }
    done
}

/// The handler of [`STOPS`]: stops for real, with the echo on, and turns it off again afterwards.
/// Calls only what `signal-safety(7)` allows.
extern "C" fn stop(number: i32) {
    // SAFETY: the address of errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    restore();
    reset(number);
    // SAFETY: raise and pthread_sigmask are async-signal-safe; the set is initialised.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), number);
        libc::raise(number);
        // Here the job stops, until it is continued.
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
    install(number, stop);
    apply(true, libc::TCSAFLUSH);
    // SAFETY: the question does not change as long as there is a prompt; errno as above.
    unsafe {
        if let Some((terminal, prompt)) = prompt() {
            libc::write(terminal, prompt.question.as_ptr().cast(), prompt.question.len());
        }
        *libc::__errno_location() = errno;
    }
}
