//! A terminal with a shell on it, as a person sits before one.

use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;

use crate::screen::Screen;
use crate::{Lab, Running, terminal};

/// A terminal and the shell that leads its session, with job control.
#[derive(Debug)]
pub struct Shell {
    screen: Screen,
    /// Dropped after the terminal, which hangs up on it.
    bash: Running,
}

impl Shell {
    /// Starts bash on a new terminal, in the environment of the lab's user. Its prompt is `$ `.
    pub fn start(lab: &Lab) -> Shell {
        let (master, program_side) = terminal::pair();
        let give = || -> OwnedFd { program_side.try_clone().unwrap().into() };
        // The terminal becomes the controlling one of a session that bash leads.
        let words = ["setsid", "-w", "-c", "bash", "--norc", "--noprofile", "--noediting", "-i"];
        let bash = lab.program(words).env("PS1", "$ ").env("TERM", "xterm");
        let bash = bash.stdin(give()).stdout(give()).stderr(give()).start();
        let mut shell = Shell { screen: Screen::new(master), bash };
        shell.shows("$ ");
        shell
    }

    /// Ends the shell, and waits for it.
    pub fn exit(mut self) {
        self.types("exit\n");
        self.bash.wait();
    }
}

impl Deref for Shell {
    type Target = Screen;

    fn deref(&self) -> &Screen {
        &self.screen
    }
}

impl DerefMut for Shell {
    fn deref_mut(&mut self) -> &mut Screen {
        &mut self.screen
    }
}
