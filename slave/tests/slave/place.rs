//! What there is on this machine: a test that can't run says why, on a line of standard error that
//! the test runner does not capture. `tests/run` counts the words.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether the calling test can run. Without root, one line names it and what it needs.
pub(crate) fn root_for(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped(&format!("needs root for {what}"));
    }
    is_root
}

/// As [`root_for`], for a test that hides a part of the file system from the slave. Where even
/// root can't, other words say so.
pub(crate) fn mounts_for(what: &str) -> bool {
    if !root_for(what) {
        return false;
    }
    let mut tried = Command::new("unshare");
    tried.args(["-m", "mount", "-t", "tmpfs", "none", "/proc"]).stdin(Stdio::null());
    let tried = tried.output().unwrap();
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().replace('\n', "; ");
        not_here(&format!("the kernel makes no mounts for {what}: {said}"));
    }
    tried.status.success()
}

/// Whether a program can be run, which `tests/run` installs.
pub(crate) fn has(program: &str) -> bool {
    let mut tried = Command::new("sh");
    tried.args(["-c", "command -v \"$1\" >/dev/null", "sh", program]);
    let is_there = tried.status().unwrap().success();
    if !is_there {
        skipped(&format!("needs {program}"));
    }
    is_there
}

/// Something that could be installed, or allowed, is missing.
pub(crate) fn skipped(reason: &str) {
    say("SKIPPED", reason);
}

/// The kernel can't do it.
pub(crate) fn not_here(reason: &str) {
    say("NOT HERE", reason);
}

fn say(word: &str, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "{word} {test}: {reason}");
}
