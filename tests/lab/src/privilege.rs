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
    skipped(&format!("needs root for {what}"));
    false
}

/// As [`root_for`], for a test that hides a part of the file system from a program. If even root
/// can't do so here, other words say it.
#[must_use]
pub fn mounts_for(what: &str) -> bool {
    if !root_for(what) {
        return false;
    }
    let obstacle = obstacle(&["--mount"], "mount -t tmpfs none /proc");
    if let Some(reason) = &obstacle {
        not_here(&format!("the kernel makes no mounts for {what}: {reason}"));
    }
    obstacle.is_none()
}

/// Whether a program can be run, which `tests/run` installs.
#[must_use]
pub fn has(program: &str) -> bool {
    let mut tried = Command::new("sh");
    tried.args(["-c", "command -v \"$1\" >/dev/null", "sh", program]);
    let is_there = tried.status().is_ok_and(|status| status.success());
    if !is_there {
        skipped(&format!("needs {program}"));
    }
    is_there
}

/// As [`root_for`], for a test with an engine's containers. Where even root can't have one,
/// because the tests run in a container themselves, other words say so: nothing was forgotten.
#[must_use]
pub fn containers_for(engine: &str) -> bool {
    if !root_for(engine) {
        return false;
    }
    let obstacle =
        obstacle(&["--mount", "--pid", "--fork", "--uts", "--ipc", "--net"], LIKE_A_CONTAINER);
    if let Some(reason) = &obstacle {
        not_here(&format!("the kernel makes no container for {engine}: {reason}"));
    }
    obstacle.is_none()
}

/// Why the kernel does not run this script in new namespaces of these kinds here. No engine is
/// asked: an engine that does not start, although it could, is a fault of the lab.
fn obstacle(kinds: &[&str], script: &str) -> Option<String> {
    let tried = Command::new("unshare")
        .args(kinds)
        .args(["sh", "-e", "-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("starting unshare");
    let said = String::from_utf8_lossy(&tried.stderr);
    (!tried.status.success()).then(|| said.trim().replace('\n', "; "))
}

/// Says that the calling test does not run, for want of something that could be installed or
/// allowed.
pub fn skipped(reason: &str) {
    say("SKIPPED", reason);
}

/// Says that the calling test does not run because the kernel can't do it.
pub fn not_here(reason: &str) {
    say("NOT HERE", reason);
}

/// Says on one line of standard error what becomes of the calling test, and why; past the test
/// runner's capture, so that it is always seen. `tests/run` counts the words.
fn say(word: &str, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "{word} {test}: {reason}");
}
