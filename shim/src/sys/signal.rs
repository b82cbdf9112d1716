//! Dying of a signal with a last word: the master hears of it, the terminal gets its echo back,
//! and then the signal does what it always does.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::echo;

/// The signals that end `ssh` and of which the program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The terminal or the parent went away.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// The polite kill.
    Terminate,
}

impl Signal {
    /// All of them.
    pub(crate) const ALL: [Signal; 4] =
        [Signal::Hangup, Signal::Interrupt, Signal::Quit, Signal::Terminate];

    /// The signal's number.
    pub(crate) fn number(self) -> i32 {
        match self {
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Terminate => libc::SIGTERM,
        }
    }
}

/// What the handler needs, set once before it is installed.
struct LastWords {
    socket: i32,
    datagrams: [Vec<u8>; 4],
}

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// `ssh -N` ended by SIGTERM is a success.
static TERMINATION_IS_SUCCESS: AtomicBool = AtomicBool::new(false);

/// From now on, sends `datagram(signal)` over `socket` before this process dies of a signal. A
/// signal that was ignored at the start stays ignored: sftp, borg and unison count on it. Only
/// the first call of a process has an effect.
pub(crate) fn report_deaths(
    socket: BorrowedFd<'_>,
    datagram: impl Fn(Signal) -> Vec<u8>,
    termination_is_success: bool,
) {
    // A duplicate that lives as long as the process: the handler may run at any time.
    let Ok(socket) = socket.try_clone_to_owned() else { return };
    let words = LastWords { socket: socket.as_raw_fd(), datagrams: Signal::ALL.map(datagram) };
    if LAST_WORDS.set(words).is_err() {
        return;
    }
    let _ = socket.into_raw_fd();
    TERMINATION_IS_SUCCESS.store(termination_is_success, Ordering::Relaxed);
    for signal in Signal::ALL {
        if disposition(signal.number()) == libc::SIG_DFL {
            install(signal.number(), die);
        }
    }
}

/// What a signal does now: a handler's address, SIG_DFL or SIG_IGN.
pub(super) fn disposition(number: i32) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action, sigaction only writes the old one; all zeros is a valid value.
    unsafe {
        libc::sigaction(number, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction
    }
}

/// Signals that are held back while a handler runs: other deaths, so that the first one counts,
/// and the one that would stop us for changing a terminal in whose foreground we are not.
const HELD: [i32; 5] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGTTOU];

/// Installs a handler.
pub(super) fn install(number: i32, handler: extern "C" fn(i32)) {
    set(number, handler as *const () as libc::sighandler_t);
}

/// Lets a signal do what it does by default.
pub(super) fn reset(number: i32) {
    set(number, libc::SIG_DFL);
}

fn set(number: i32, handler: libc::sighandler_t) {
    // SAFETY: all zeros is a valid sigaction; the sets are initialised by sigemptyset; handlers
    // passed in call async-signal-safe functions only. No SA_RESTART: a prompt's read ends.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler;
        libc::sigemptyset(&mut action.sa_mask);
        for signal in HELD {
            libc::sigaddset(&mut action.sa_mask, signal);
        }
        libc::sigaction(number, &action, ptr::null_mut());
    }
}

/// The handler of [`Signal`]. Calls only what `signal-safety(7)` allows.
pub(super) extern "C" fn die(number: i32) {
    echo::restore();
    if let Some(words) = LAST_WORDS.get() {
        let index = Signal::ALL.iter().position(|signal| signal.number() == number);
        if let Some(datagram) = index.map(|index| &words.datagrams[index]) {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the descriptor is never closed and the bytes never change once they are set.
            unsafe {
                libc::send(words.socket, datagram.as_ptr().cast(), datagram.len(), flags);
            }
        }
    }
    if number == libc::SIGTERM && TERMINATION_IS_SUCCESS.load(Ordering::Relaxed) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(0) }
    }
    reset(number);
    // SAFETY: raise is async-signal-safe. The signal is held back until the handler returns, and
    // then kills by default.
    unsafe {
        libc::raise(number);
    }
}
