//! Forks of the test's own process.
#![allow(unsafe_code)]

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A copy of this process that does nothing. It is killed when this is dropped.
pub(crate) struct Forked(Pid);

/// Forks this process.
pub(crate) fn fork() -> Forked {
    // SAFETY: the child makes system calls alone, as it must in a copy of a process with threads.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        loop {
            // SAFETY: waits for a signal, which ends this process.
            unsafe { libc::pause() };
        }
    }
    Forked(Pid::from_raw(pid).expect("a fork"))
}

impl Drop for Forked {
    fn drop(&mut self) {
        _ = kill_process(self.0, Signal::KILL);
        _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}
