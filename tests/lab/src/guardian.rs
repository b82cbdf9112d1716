//! Cleans up behind a lab, also when the test process is killed.
//!
//! A guardian is a small shell that reads from a pipe what there will be to remove. When the pipe
//! closes, because the lab was dropped or because its process is gone, it kills the server, all
//! that its sessions started and whatever carries the lab's mark, removes the accounts and the
//! control groups, and removes the directory. It sits in a session of its own, so that a Ctrl-C
//! to the tests does not reach it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// The variable by which a lab's processes are known. Its value is in all of them that the lab
/// started, and in all sessions of its server.
pub const MARK_VARIABLE: &str = "FAKESSH_LAB";

/// The guardian's program. Reads lines of `word value` until its input ends.
///
/// Processes are found in four ways, because each misses some: as descendants of the server, by
/// the lab's mark in their environment or command line, by the accounts' user ids, and by the mount
/// namespace that the lab made. Control groups of containers are known by the mark in their names.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
mark= listener= users= uids= dir= mounts=
while read -r word value; do
    case $word in
        mark) mark=$value ;;
        listener) listener=$value ;;
        user) users="$users $value" ;;
        uid) uids="$uids $value" ;;
        # Held open, so that the number can't come to mean another one.
        mounts) [ -e "/proc/$value/ns/mnt" ] && exec 8<"/proc/$value/ns/mnt" &&
            mounts=$(readlink /proc/self/fd/8 | tr -dc 0-9) ;;
        dir) dir=$value ;;
    esac
done
below() {
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        below "$child"
        echo "$child"
    done
}
ours() {
    if [ -n "$listener" ]; then
        below "$listener"
        echo "$listener"
    fi
    if [ -n "$mark" ]; then
        printf '%s\n' "$mark" | grep -lasF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline |
            cut -d/ -f3
    fi
    for uid in $uids; do
        find /proc -maxdepth 1 -name '[0-9]*' -uid "$uid" 2>/dev/null | cut -d/ -f3
    done
    if [ -n "$mounts" ]; then
        find /proc/[0-9]*/ns/mnt -lname "mnt:\[$mounts\]" 2>/dev/null | cut -d/ -f3
    fi
}
round=0
while pids=$(ours) && [ -n "$pids" ] && [ "$round" -lt 50 ]; do
    kill -KILL $pids 2>/dev/null
    listener=
    round=$((round + 1))
    [ "$round" -gt 1 ] && sleep 0.05
done
if [ -n "$users" ]; then
    exec 9</etc
    flock 9
    # The next account with this number must not inherit the files of programs that were killed.
    # Older files are those of an earlier account.
    for uid in $uids; do
        find /tmp /var/tmp /dev/shm -mindepth 1 -maxdepth 1 -uid "$uid" -cnewer "$dir/home" \
            -exec rm -rf {} +
    done
    for user in $users; do
        userdel -f "$user"
    done
fi 2>/dev/null
if [ -n "$mark" ] && [ -d /sys/fs/cgroup ]; then
    find /sys/fs/cgroup -depth -type d -path "*$mark*" -exec rmdir {} + 2>/dev/null
fi
[ -z "$dir" ] || rm -rf --one-file-system "$dir"
"#;

/// The shell that cleans up behind one lab.
#[derive(Debug)]
pub struct Guardian {
    shell: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guardian {
    /// Starts a guardian that has nothing to do yet.
    pub fn start() -> Guardian {
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", SCRIPT])
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starting the lab's guardian (sh, setsid)");
        let pipe = shell.stdin.take();
        Guardian { shell, pipe: Mutex::new(pipe) }
    }

    fn tell(&self, word: &str, value: &str) {
        let mut pipe = self.pipe.lock().unwrap();
        let pipe = pipe.as_mut().expect("the guardian's pipe is open until it is dropped");
        writeln!(pipe, "{word} {value}").expect("telling the lab's guardian");
    }

    /// Processes that carry this text in their environment or command line are to end.
    pub fn mark(&self, mark: &str) {
        self.tell("mark", mark);
    }

    /// This process (a server) and its descendants are to end; 0 for none. The last call counts.
    pub fn listener(&self, pid: u32) {
        self.tell("listener", &if pid == 0 { String::new() } else { pid.to_string() });
    }

    /// This account, too, is to be removed, and its processes are to end.
    pub fn account(&self, name: &str, uid: u32) {
        self.tell("user", name);
        self.tell("uid", &uid.to_string());
    }

    /// Processes in the mount namespace of this one, and it, are to end. The last call counts.
    pub fn mounts(&self, pid: u32) {
        self.tell("mounts", &pid.to_string());
    }

    /// This directory is to be removed.
    pub fn directory(&self, dir: &Path) {
        self.tell("dir", &dir.to_string_lossy());
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let _ = self.shell.wait();
    }
}
