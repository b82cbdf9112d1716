//! What only root can do in a lab, and how a test that can't run says so.

use std::io::Write;
use std::process::{Command, Stdio};

/// What every engine does for a container: namespaces, a `/proc`, a control group.
const LIKE_A_CONTAINER: &str = "mount -t proc proc /proc
    groups=/sys/fs/cgroup
    [ -e $groups/cgroup.controllers ] || groups=$groups/devices
    made=$(mktemp -d $groups/fakessh-XXXXXX)
    rmdir $made";

/// Whether this process is root: accounts, mounts and other owners are possible.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the calling test can run. Without root it is skipped, and what it needs root for is
/// said.
#[must_use]
pub fn root_for(what: &str) -> bool {
    if is_root() {
        return true;
    }
    say("SKIPPED", &format!("needs root for {what}"));
    false
}

/// As [`root_for`], for a test with an engine's containers. Where even root can't have one,
/// because the tests run in a container themselves, other words say so: nothing was forgotten.
#[must_use]
pub fn containers_for(engine: &str) -> bool {
    if !root_for(engine) {
        return false;
    }
    let obstacle = obstacle();
    if let Some(reason) = &obstacle {
        say("NOT HERE", &format!("the kernel makes no container for {engine}: {reason}"));
    }
    obstacle.is_none()
}

/// Why the kernel makes no containers here. No engine is asked: one that does not start where it
/// could is a fault of the lab.
fn obstacle() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--net"])
        .args(["sh", "-e", "-c", LIKE_A_CONTAINER])
        .stdin(Stdio::null())
        .output()
        .expect("starting unshare");
    let said = String::from_utf8_lossy(&tried.stderr);
    (!tried.status.success()).then(|| said.trim().replace('\n', "; "))
}

/// Says on one line of standard error what becomes of the calling test, and why; past the test
/// runner's capture, so that it is always seen. `tests/run` counts the words.
fn say(word: &str, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "{word} {test}: {reason}");
}
