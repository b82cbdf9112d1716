//! Removes what killed starts have left on the disk: private directories with a slave's program,
//! or a part of it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How the name of a start's private directory begins; its marker follows.
const PREFIX: &str = ".fakessh-";

/// The file in it.
const PROGRAM: &str = "slave";

/// At this age a start is over. While a start goes on, its file changes at least once a minute, or
/// the master gives up; and a file that runs is removed.
const OLD: Duration = Duration::from_secs(3600);

/// Most names that are looked at: a shared directory may hold any number of others' files.
const MAX_NAMES: usize = 10_000;

/// Removes old private directories of ours in this one.
pub(crate) fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.take(MAX_NAMES).flatten() {
        let name = entry.file_name();
        let marker = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if marker.is_some_and(|marker| marker.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            // If it can't be removed, there is nobody to tell.
            let _ = remove(&entry.path(), SystemTime::now());
        }
    }
}

/// Removes a private directory, if it is ours and old. Nothing else in there is touched, so a
/// directory that holds more stays.
fn remove(directory: &Path, now: SystemTime) -> io::Result<()> {
    let program = directory.join(PROGRAM);
    let is_old = |path: &Path| -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        let is_ours = found.uid() == rustix::process::geteuid().as_raw();
        // A time in the future comes from another clock.
        let age = now.duration_since(found.modified()?).unwrap_or_default();
        Ok(is_ours && age >= OLD)
    };
    if !is_old(directory)? {
        return Ok(());
    }
    match is_old(&program) {
        Ok(true) => fs::remove_file(&program)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => return Ok(()),
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A private directory, the program in it so old.
    fn leave(place: &Path, name: &str, age: Duration) {
        let directory = place.join(name);
        fs::create_dir(&directory).unwrap();
        let time = SystemTime::now() - age;
        let program = File::create(directory.join(PROGRAM)).unwrap();
        program.set_modified(time).unwrap();
        File::open(&directory).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn old_directories_of_ours_are_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (young, old) = (OLD / 2, 2 * OLD);
        leave(place.path(), ".fakessh-00", old);
        leave(place.path(), ".fakessh-01", young);
        leave(place.path(), ".fakessh-run", old);
        leave(place.path(), ".fakessh-02", old);
        fs::write(place.path().join(".fakessh-02/other"), "").unwrap();
        let held = File::open(place.path().join(".fakessh-02")).unwrap();
        held.set_modified(SystemTime::now() - old).unwrap();
        fs::create_dir(place.path().join("empty")).unwrap();
        std::os::unix::fs::symlink("empty", place.path().join(".fakessh-03")).unwrap();
        sweep(place.path());
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".fakessh-01", ".fakessh-02", ".fakessh-03", ".fakessh-run", "empty"]);
    }
}
