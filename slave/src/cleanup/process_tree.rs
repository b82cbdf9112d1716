//! The processes that a program has started: those in its session (setsid(2)), found in `/proc`.
//!
//! A shell with job control gives each job a process group of its own, which a signal to the
//! leader's group does not reach. Programs that moved to another session have detached, and are
//! not found here.

use std::collections::HashSet;
use std::time::Duration;

use fakessh_unix::process::{self, Stat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// How long a program that was hung up may take to end by itself: enough to remove its temporary
/// files (rsync does), short enough that a master that reconnects does not meet it.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Which members of a session are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// All of them.
    All,
    /// The processes outside of the leader's own process group.
    Strays,
}

/// Sends signals to members of the sessions of these leaders.
pub(crate) fn signal(leaders: &HashSet<Pid>, whom: Whom, signals: &[Signal]) {
    for_each_member(leaders, |pid, is_stray| {
        if whom == Whom::Strays && !is_stray {
            return;
        }
        // The number may have become another process's since it was read. The descriptor can't.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        if Stat::of(pid).is_none_or(|stat| !is_member(&stat, leaders)) {
            return;
        }
        for signal in signals {
            let _ = match &pidfd {
                Ok(pidfd) => rustix::process::pidfd_send_signal(pidfd, *signal),
                Err(Errno::NOSYS) => rustix::process::kill_process(pid, *signal),
                Err(_) => return,
            };
        }
    });
}

/// Whether any process of these sessions runs.
pub(crate) fn any_runs(leaders: &HashSet<Pid>) -> bool {
    let mut found = false;
    for_each_member(leaders, |_, _| found = true);
    found
}

/// Calls `each` with every process of these sessions that is no zombie, and whether it is outside
/// of its leader's group.
fn for_each_member(leaders: &HashSet<Pid>, mut each: impl FnMut(Pid, bool)) {
    for pid in process::all() {
        if let Some(stat) = Stat::of(pid)
            && is_member(&stat, leaders)
            && !stat.is_zombie()
        {
            each(pid, stat.group != stat.session);
        }
    }
}

fn is_member(stat: &Stat, leaders: &HashSet<Pid>) -> bool {
    stat.session.is_some_and(|session| leaders.contains(&session))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_members_of_a_session_are_found() {
        // Its own leader, in whatever session these tests run: one that was led from outside of
        // our process namespace has no number here.
        let mut sleeper = std::process::Command::new("setsid");
        let sleeper = sleeper.arg("cat").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut sleeper = sleeper.spawn().unwrap();
        let leader = HashSet::from([Pid::from_child(&sleeper)]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !any_runs(&leader) {
            assert!(Instant::now() < deadline, "it is not found");
            assert!(sleeper.try_wait().unwrap().is_none(), "it has ended");
            std::thread::yield_now();
        }
        signal(&leader, Whom::Strays, &[Signal::KILL]);
        assert!(any_runs(&leader), "the leader is no stray");
        signal(&leader, Whom::All, &[Signal::KILL]);
        sleeper.wait().unwrap();
        assert!(!any_runs(&leader));
    }
}
