//! What a hangup alone does to a program. What is left after a grace the slave kills: so it is
//! stopped before that, and a program that the machine holds up has all the time that it needs.

use std::time::{Duration, Instant};

use fakessh_lab::{process::state, wait_until};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use rustix::process::{Pid, Signal, kill_process};

use crate::master::Master;

/// The slave's. It begins after the hangup was sent.
const GRACE: Duration = Duration::from_secs(2);

/// How often the machine may hold this test up for as long as the grace.
const ATTEMPTS: usize = 30;

/// How a session's program ends by a hangup alone. Each attempt is a whole test.
pub(crate) fn status(attempt: impl FnMut() -> Option<ExitStatus>) -> ExitStatus {
    let status = std::iter::repeat_with(attempt).take(ATTEMPTS).flatten().next();
    assert!(status.is_some(), "the machine takes longer than the grace each time");
    status.unwrap()
}

impl Master {
    /// Hangs up the only session that there is, and returns how its program ended. `None` where
    /// its grace may have been over before the slave could be stopped.
    pub(crate) fn hung_up(
        &mut self,
        handles: SessionHandles,
        hang_up: impl FnOnce(&mut Master),
    ) -> Option<ExitStatus> {
        let begun = Instant::now();
        hang_up(self);
        // When its output is closed, the program has been told.
        self.until("a closed output", |master| master.of(handles.stdout).reset);
        let slave = Pid::from_child(&self.child);
        kill_process(slave, Signal::STOP).unwrap();
        wait_until(|| state(self.child.id()) == Some('T'), "the slave does not stop");
        let is_in_time = begun.elapsed() < GRACE;
        if is_in_time {
            // The guardian is the other child.
            let runs = |pid: &u32| state(*pid).is_some_and(|state| state != 'Z');
            wait_until(
                || self.children().iter().filter(|pid| runs(pid)).count() == 1,
                "it goes on",
            );
        }
        kill_process(slave, Signal::CONT).unwrap();
        let status = self.exit(handles);
        is_in_time.then_some(status)
    }
}
