//! Files of a lab: scripts, programs, keys.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The names in a directory; none if there is no directory.
pub fn listing(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Writes a script that everybody may run.
///
/// # Panics
/// If it can't be written.
pub fn write_script(path: &Path, text: &str) {
    // By a process of its own: what this one has open for writing when another thread forks can't
    // be executed (ETXTBSY) until that child executes something itself.
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("starting sh");
    let mut input = writer.stdin.take().expect("standard input is a pipe");
    input.write_all(text.as_bytes()).expect("writing a script of the lab");
    drop(input);
    let status = writer.wait().expect("waiting for sh");
    assert!(status.success(), "writing {}: {status}", path.display());
}

/// Copies a program, with its permissions; by a process of its own, as [`write_script`].
///
/// # Panics
/// If it can't be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("starting cp");
    assert!(status.success(), "copying {} to {}: {status}", from.display(), to.display());
}

/// Makes a key without a passphrase.
pub fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "fakessh-lab", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status();
    assert!(made.is_ok_and(|status| status.success()), "ssh-keygen can't make a key");
}
