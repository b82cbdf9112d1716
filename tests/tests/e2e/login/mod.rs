//! Logging in as ssh does: host keys, certificates, and what is said about them.

mod banner;
mod certificates;
mod host_certificates;
mod host_key_rotation;
mod known_hosts_command;
mod words_of_ssh;

use std::path::Path;
use std::process::Command;

/// Runs `ssh-keygen` in a directory.
fn keygen(directory: &Path, words: &[&str]) {
    let done = Command::new("ssh-keygen").arg("-q").args(words).current_dir(directory).output();
    let done = done.expect("starting ssh-keygen");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}
