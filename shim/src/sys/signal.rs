//! Dying of a signal with a last word: the master hears of it, the terminal gets its modes back,
//! and then the signal does what it always does.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

use super::modes;

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

/// Signals of job control, which stop us.
pub(super) const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Signals that are held back while a handler of ours runs: it has no other inside of it.
fn held() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in Signal::ALL.map(Signal::number).into_iter().chain(STOPS) {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

/// The same signals are held back in this thread while this lives.
pub(super) struct Held {
    before: libc::sigset_t,
}

impl Held {
    pub(super) fn begin() -> Held {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are whole, one of them once the call has filled it in, which can't
        // fail with these arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &held(), before.as_mut_ptr());
            Held { before: before.assume_init() }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is whole.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// Lets a signal of [`STOPS`] that is held back stop us, and returns when we are continued.
/// Async-signal-safe.
pub(super) fn stop_now(number: i32) {
    // SAFETY: the set is initialised by sigemptyset; all calls are async-signal-safe.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), number);
        libc::raise(number);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        // Here it stops.
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// The end of a pipe that [`look_at_window`] writes to; -1 before there is one.
static WINDOW: AtomicI32 = AtomicI32::new(-1);

/// From now on, a byte comes on the returned descriptor whenever the terminal may have another
/// size: after SIGWINCH, and after we were stopped. It does not block. All calls return the same
/// pipe.
///
/// # Errors
/// If there are no descriptors left.
pub(crate) fn report_window_changes() -> io::Result<OwnedFd> {
    static READ: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(read) = READ.get() {
        return read.try_clone();
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let ours = read.try_clone()?;
    if READ.set(read).is_ok() {
        // The handler may run at any time: it stays open as long as the process lives.
        WINDOW.store(write.into_raw_fd(), Ordering::Relaxed);
        install(libc::SIGWINCH, window_changed);
    }
    Ok(ours)
}

/// Has somebody look at the size of the terminal. For handlers. Async-signal-safe.
pub(super) fn look_at_window() {
    let pipe = WINDOW.load(Ordering::Relaxed);
    if pipe >= 0 {
        // SAFETY: the descriptor is never closed. A full pipe has woken its reader already.
        unsafe { libc::write(pipe, [0u8].as_ptr().cast(), 1) };
    }
}

/// The handler of SIGWINCH. Calls only what `signal-safety(7)` allows.
extern "C" fn window_changed(_: i32) {
    // SAFETY: the address of errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    look_at_window();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Lets the signals of [`report_deaths`] do what they do by default, in a forked process.
pub(crate) fn default_signals() {
    for signal in Signal::ALL {
        if disposition(signal.number()) == die as *const () as libc::sighandler_t {
            reset(signal.number());
        }
    }
}

/// Stops this process as ^Z does. Returns when it is continued.
pub(crate) fn suspend() {
    // SAFETY: raise takes any signal number.
    unsafe { libc::raise(libc::SIGTSTP) };
}

/// Installs a handler.
pub(super) fn install(number: i32, handler: extern "C" fn(i32)) {
    set(number, handler as *const () as libc::sighandler_t);
}

/// Lets a signal do what it does by default.
pub(super) fn reset(number: i32) {
    set(number, libc::SIG_DFL);
}

fn set(number: i32, handler: libc::sighandler_t) {
    // SAFETY: all zeros is a valid sigaction; handlers passed in call async-signal-safe functions
    // only. No SA_RESTART: a prompt's read ends.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler;
        action.sa_mask = held();
        libc::sigaction(number, &action, ptr::null_mut());
    }
}

/// The handler of [`Signal`]. Calls only what `signal-safety(7)` allows.
pub(super) extern "C" fn die(number: i32) {
    modes::restore();
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
