//! A terminal whose modes we change, without echo or raw, and that gets them back on every way out:
//! at the end, when a signal kills us, when we panic, and while the job is stopped.
//!
//! A terminal's modes are those of the job in its foreground. So they are read anew whenever we
//! come there, and never changed from the background: a shell may be editing a line.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};
use std::{io, panic};

use super::signal::{self, Held, STOPS, Signal, die, disposition, install, reset, stop_now};

/// One at a time changes the modes of a terminal.
static ONE: Mutex<()> = Mutex::new(());

/// The terminal, for [`with_changed`] alone.
static CHANGED: Shared = Shared(UnsafeCell::new(None));

/// Whether somebody is at [`CHANGED`].
static BUSY: AtomicBool = AtomicBool::new(false);

struct Shared(UnsafeCell<Option<Changed>>);

// SAFETY: `with_changed` lets one in at a time.
unsafe impl Sync for Shared {}

/// A terminal whose modes are changed, and what handlers need to know of it.
struct Changed {
    terminal: RawFd,
    /// Whose panic ends the change.
    thread: ThreadId,
    /// The modes that the terminal had, while they are changed.
    before: Option<libc::termios>,
    change: Change,
}

/// How the modes of a terminal are changed.
enum Change {
    /// No echo, for the answer to this question. What was typed before it could be read is thrown
    /// away.
    NoEcho(Vec<u8>),
    /// Raw: every byte goes to the program as it is typed, as ssh has it.
    Raw,
}

impl Change {
    /// The modes that `before` becomes. Async-signal-safe.
    fn of(&self, before: &libc::termios) -> libc::termios {
        let mut modes = *before;
        match self {
            Change::NoEcho(_) => modes.c_lflag &= !(libc::ECHO | libc::ECHONL),
            Change::Raw => {
                modes.c_iflag |= libc::IGNPAR;
                modes.c_iflag &= !(libc::ISTRIP
                    | libc::INLCR
                    | libc::IGNCR
                    | libc::ICRNL
                    | libc::IXON
                    | libc::IXANY
                    | libc::IXOFF
                    | libc::IUCLC);
                modes.c_lflag &= !(libc::ISIG
                    | libc::ICANON
                    | libc::ECHO
                    | libc::ECHOE
                    | libc::ECHOK
                    | libc::ECHONL
                    | libc::IEXTEN);
                modes.c_oflag &= !libc::OPOST;
                modes.c_cc[libc::VMIN] = 1;
                modes.c_cc[libc::VTIME] = 0;
            }
        }
        modes
    }

    /// When the change happens (tcsetattr(3)).
    fn when(&self) -> i32 {
        match self {
            Change::NoEcho(_) => libc::TCSAFLUSH,
            Change::Raw => libc::TCSADRAIN,
        }
    }
}

/// The modes of a terminal are changed while this lives.
pub(crate) struct ChangedModes {
    handled: Vec<i32>,
    _one: MutexGuard<'static, ()>,
}

impl ChangedModes {
    /// Turns the echo off. A job in the background is stopped here, as by any change of its
    /// terminal, until it is continued in the foreground. `terminal` must stay open as long as the
    /// result lives. A job that is stopped later shows `question` again when it is continued: it
    /// has scrolled away.
    ///
    /// # Errors
    /// What `tcdrain(3)`, `tcgetattr(3)` and `tcsetattr(3)` say; EIO for a job that stays in the
    /// background.
    pub(crate) fn without_echo(
        terminal: BorrowedFd<'_>,
        question: &str,
    ) -> io::Result<ChangedModes> {
        ChangedModes::new(terminal, Change::NoEcho(question.into()))
    }

    /// Makes the terminal raw. Otherwise as [`ChangedModes::without_echo`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn raw(terminal: BorrowedFd<'_>) -> io::Result<ChangedModes> {
        ChangedModes::new(terminal, Change::Raw)
    }

    fn new(terminal: BorrowedFd<'_>, change: Change) -> io::Result<ChangedModes> {
        if cfg!(any(panic = "abort", test)) {
            restore_on_panic();
        }
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
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
        let guard = ChangedModes { handled, _one: one };
        let terminal = terminal.as_raw_fd();
        // It changes nothing, and is held up in the background as what does.
        // SAFETY: the descriptor is open.
        while unsafe { libc::tcdrain(terminal) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let thread = thread::current().id();
        let mut changed = Changed { terminal, thread, before: None, change };
        let _held = Held::begin();
        let is_changed = changed.begin()?;
        with_changed(|shared| *shared = Some(changed));
        if is_changed { Ok(guard) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    }
}

impl Drop for ChangedModes {
    fn drop(&mut self) {
        let held = Held::begin();
        if let Some(mut changed) = with_changed(Option::take) {
            changed.restore();
        }
        drop(held);
        for &number in &self.handled {
            reset(number);
        }
    }
}

impl Changed {
    /// Changes the modes, if we are in the foreground and they are not changed yet. Says whether it
    /// did. Async-signal-safe.
    fn begin(&mut self) -> io::Result<bool> {
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
        self.set(self.change.when(), &self.change.of(&before))?;
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
        // SAFETY: the descriptor is open as long as the ChangedModes live, and the modes are whole.
        while unsafe { libc::tcsetattr(self.terminal, when, modes) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the terminal is ours to change. One that is not the terminal of our session (`su -c`
    /// leaves that) has no job of ours in its foreground or background.
    fn is_in_foreground(&self) -> bool {
        // SAFETY: both take no memory; the descriptor is open as long as the ChangedModes live.
        let (foreground, ours) = unsafe { (libc::tcgetpgrp(self.terminal), libc::getpgrp()) };
        foreground == -1 || foreground == ours
    }
}

/// Looks at the terminal, or changes it. Our signals must be held back: then who is waited for is
/// another thread, and goes on.
fn with_changed<T>(look: impl FnOnce(&mut Option<Changed>) -> T) -> T {
    while BUSY.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // SAFETY: nobody else is here, as we were not busy.
    let seen = look(unsafe { &mut *CHANGED.0.get() });
    BUSY.store(false, Ordering::Release);
    seen
}

/// Gives the terminal its modes back. For handlers. Async-signal-safe.
pub(super) fn restore() {
    with_changed(|changed| changed.as_mut().map(Changed::restore));
}

/// From now on, a panic of the thread that has changed a terminal restores it first. For programs in
/// which a panic aborts and drops nothing, as the one on a target.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let held = Held::begin();
            let thread = thread::current().id();
            with_changed(|changed| {
                if let Some(changed) = changed.as_mut().filter(|it| it.thread == thread) {
                    changed.restore();
                }
            });
            drop(held);
            others(panicked);
        }));
    });
}

/// The handler of [`STOPS`]: stops for real, with the terminal as it was. Who is continued in the
/// foreground changes the modes again, and asks again; in the background, reading stops us again.
/// Calls only what `signal-safety(7)` allows.
extern "C" fn stop(number: i32) {
    // SAFETY: the address of errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    restore();
    reset(number);
    stop_now(number);
    install(number, stop);
    with_changed(|changed| {
        if let Some(changed) = changed
            && changed.begin().is_ok_and(|is_changed| is_changed)
            && let Change::NoEcho(question) = &changed.change
        {
            // SAFETY: the descriptor is open as long as the ChangedModes live.
            unsafe { libc::write(changed.terminal, question.as_ptr().cast(), question.len()) };
        }
    });
    signal::look_at_window();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use fakessh_lab::terminal;

    use super::*;

    /// Is set for the process that panics.
    const PANICS: &str = "FAKESSH_TEST_PANICS";

    #[test]
    fn a_panic_that_does_not_unwind_leaves_the_terminal_as_it_was() {
        if std::env::var_os(PANICS).is_some() {
            // As if it was built so.
            panic::set_hook(Box::new(|_| std::process::abort()));
            let stdin = io::stdin();
            let _raw = ChangedModes::raw(stdin.as_fd()).unwrap();
            assert!(!terminal::echoes(&stdin));
            panic!("as this test wants it");
        }
        let (_master, slave) = terminal::pair();
        let before = rustix::termios::tcgetattr(&slave).unwrap();
        let test = "sys::modes::tests::a_panic_that_does_not_unwind_leaves_the_terminal_as_it_was";
        let mut command = Command::new("setsid");
        command.args(["-c", "-w"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(PANICS, "1").stdin(slave.try_clone().unwrap());
        let status = command.output().unwrap().status;
        // util-linux passes the signal's number on.
        let aborted =
            status.signal() == Some(libc::SIGABRT) || status.code() == Some(128 + libc::SIGABRT);
        assert!(aborted, "{status}");
        let after = rustix::termios::tcgetattr(&slave).unwrap();
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!(after.input_modes, before.input_modes);
        assert_eq!(after.output_modes, before.output_modes);
    }
}
