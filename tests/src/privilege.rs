//! What only root can do in a lab, and how a test without root says that it was skipped.

use std::io::Write;

/// Whether this process is root: accounts, mounts and other owners are possible.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the calling test can run. Without root, it is [`skipped`], and what it needs root for
/// is said.
#[must_use]
pub fn root_for(what: &str) -> bool {
    if is_root() {
        return true;
    }
    skipped(&format!("needs root for {what}"));
    false
}

/// Says that the calling test is skipped, and why, on one line of standard error (past the test
/// runner's capture, so that it is always seen).
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}
