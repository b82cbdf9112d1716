//! What `/proc` says of a process (proc_pid_stat(5)).

use std::fs;

use rustix::process::Pid;

/// Some fields of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state, one letter: `R` for running, `Z` for a zombie, `T` for stopped.
    pub state: char,
    /// The parent; `None` if it is outside of this process namespace.
    pub parent: Option<Pid>,
    /// The process group; `None` while the process ends.
    pub group: Option<Pid>,
    /// The session; `None` while the process ends.
    pub session: Option<Pid>,
}

impl Stat {
    /// Reads the fields of a process; `None` if it does not exist or `/proc` is not there.
    pub fn of(pid: Pid) -> Option<Stat> {
        Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether the process has ended, and its parent has not taken notice.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether a signal or a debugger has stopped the process.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// `pid (name) state ppid pgrp session ...`. The name may hold anything, `)` included.
    fn parse(stat: &[u8]) -> Option<Stat> {
        let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = number(fields.next()?);
        let group = number(fields.next()?);
        let session = number(fields.next()?);
        Some(Stat { state, parent, group, session })
    }
}

/// Numbers of all processes that `/proc` shows.
pub fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| number(entry.file_name().to_str()?))
}

/// The name of a process as the kernel keeps it: at most 15 bytes of the program's name
/// (proc_pid_comm(5)). `None` if the process does not exist.
pub fn name(pid: Pid) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// A process number. The kernel shows -1 for the group and session of a process that just ends.
fn number(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_skipped() {
        let stat = Stat::parse(b"12 (a) S 9) 1) Z 1 77 78 0 -1\n").unwrap();
        assert!(stat.is_zombie() && !stat.is_stopped());
        assert_eq!((stat.parent, stat.group), (Pid::from_raw(1), Pid::from_raw(77)));
        assert_eq!(stat.session, Pid::from_raw(78));
        assert_eq!(Stat::parse(b"no such thing"), None);
        let ending = Stat::parse(b"12 (ends) X 1 -1 -1 0\n").unwrap();
        assert_eq!((ending.group, ending.session), (None, None));
        assert!(Stat::parse(b"12 (x) T 1 2 3 0\n").unwrap().is_stopped());
    }

    #[test]
    fn this_process_is_among_all() {
        let ours = rustix::process::getpid();
        assert!(all().any(|pid| pid == ours));
        assert_eq!(Stat::of(ours).unwrap().parent, rustix::process::getppid());
        assert!(name(ours).is_some());
    }
}
