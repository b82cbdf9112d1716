//! A terminal with a person at it, as far as a test needs one: reads what is on the screen, types.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::capture::Capture;
use crate::wait::GUARD;

/// A pseudo-terminal with echo, as a shell leaves it. See [`crate::Tool::on_terminal`].
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    terminal: File,
    screen: Capture,
}

/// A new pseudo-terminal: the side of who sits at it, and the side of programs.
///
/// # Panics
/// If the system has none to give.
pub fn pair() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("opening a pseudo-terminal");
    grantpt(&master).expect("a pseudo-terminal");
    unlockpt(&master).expect("a pseudo-terminal");
    let name = ptsname(&master, Vec::new()).expect("a pseudo-terminal's name");
    // Not as the controlling terminal of the test, which may have none.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(&name, flags, Mode::empty());
    let terminal = terminal.expect("opening the other side of a pseudo-terminal");
    (File::from(master), File::from(terminal))
}

impl Default for Terminal {
    fn default() -> Terminal {
        Terminal::new()
    }
}

impl Terminal {
    /// A new one.
    ///
    /// # Panics
    /// As [`pair`].
    pub fn new() -> Terminal {
        let (keyboard, terminal) = pair();
        let screen = Capture::follow(Some(keyboard.try_clone().expect("a second descriptor")));
        Terminal { keyboard, terminal, screen }
    }

    /// Makes it so many columns wide. A new one does not say how wide it is.
    pub fn set_columns(&self, columns: u16) {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).expect("the size of a terminal");
    }

    /// The side that programs are given.
    pub fn side_of_programs(&self) -> OwnedFd {
        self.terminal.try_clone().expect("a second descriptor").into()
    }

    /// Waits until this text is on the screen, and gives all that is.
    ///
    /// # Panics
    /// After a minute.
    #[track_caller]
    pub fn wait_for(&self, needle: &str) -> String {
        let found = self.screen.wait(GUARD, |bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(needle).then(|| text.into_owned())
        });
        found.unwrap_or_else(|| panic!("no {needle:?} on the terminal:\n{}", self.text()))
    }

    /// Waits until this text is on the screen so many times.
    ///
    /// # Panics
    /// After a minute.
    #[track_caller]
    pub fn wait_for_times(&self, needle: &str, times: usize) {
        let found = self.screen.wait(GUARD, |bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            (text.matches(needle).count() >= times).then_some(())
        });
        found.unwrap_or_else(|| panic!("not {times} times {needle:?}:\n{}", self.text()));
    }

    /// All that was written to the screen so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.bytes()).into_owned()
    }

    /// Types a line.
    pub fn type_line(&self, text: &str) {
        (&self.keyboard).write_all(format!("{text}\n").as_bytes()).expect("typing");
    }

    /// Whether what is typed shows.
    pub fn echoes(&self) -> bool {
        echoes(&self.terminal)
    }
}

/// Whether a terminal shows what is typed.
///
/// # Panics
/// If this is no terminal.
pub fn echoes(terminal: impl AsFd) -> bool {
    let modes = tcgetattr(terminal).expect("the modes of a terminal");
    modes.local_modes.contains(LocalModes::ECHO)
}
