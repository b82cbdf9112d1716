//! Who belongs to the sessions of dead invokers: found in `/proc`, by session id.
//!
//! A shell with job control gives each job a process group of its own, which a signal to the
//! leader's group does not reach. Programs that moved to another session have detached, and are
//! not found here.

use std::collections::HashSet;
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// Which members of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// All of them.
    All,
    /// Those outside of the leader's own process group.
    Strays,
}

/// Sends signals to members of these sessions (by their leaders).
pub(crate) fn signal(leaders: &HashSet<Pid>, whom: Whom, signals: &[Signal]) {
    for_each_member(leaders, |pid, is_stray| {
        if whom == Whom::Strays && !is_stray {
            return;
        }
        // The number may have become another's since it was read. The descriptor can't.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        if stat(pid).is_none_or(|stat| !leaders.contains(&stat.session)) {
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
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(pid) else { continue };
        if let Some(stat) = stat(pid)
            && leaders.contains(&stat.session)
            && !stat.is_zombie
        {
            each(pid, stat.group != stat.session);
        }
    }
}

struct Stat {
    is_zombie: bool,
    group: Pid,
    session: Pid,
}

fn stat(pid: Pid) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): `pid (name) state ppid pgrp session ...`, where the name may hold anything.
fn parse(stat: &[u8]) -> Option<Stat> {
    let behind_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[behind_name..]).ok()?.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let group = pid(fields.nth(1)?)?;
    let session = pid(fields.next()?)?;
    Some(Stat { is_zombie, group, session })
}

/// A process number. The kernel shows -1 for a group or session of a process that just ends.
fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_skipped() {
        let stat = parse(b"12 (a) S 9) 1) Z 1 77 78 0 -1\n").unwrap();
        assert!(stat.is_zombie);
        assert_eq!(
            (stat.group.as_raw_nonzero().get(), stat.session.as_raw_nonzero().get()),
            (77, 78)
        );
        assert!(parse(b"no such thing").is_none());
        assert!(parse(b"12 (ends) X 1 -1 -1 0\n").is_none());
    }

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
