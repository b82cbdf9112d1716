//! A run's directory: `ssh`, `scp` and `sftp`, and the socket beside them.
//!
//! It exists as long as the run does. Whoever made it holds a lock on it, so that a later master
//! can tell a directory that was left behind from one that is in use.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statvfs};
use tempfile::TempDir;
use thiserror::Error;

use crate::directory::{Directory, DirectoryError};
use crate::socket::listen;
use crate::start::SLAVE;

/// How a run directory's name begins.
const PREFIX: &str = "run-";

/// How often a directory may be swept away while it is made. A master sweeps once, when it starts.
const MOST_SWEPT: u32 = 100;

/// How the name of the shim's file begins.
const SHIM_PREFIX: &str = "shim-";

/// The name of this build's.
const SHIM_NAME: &str = concat!("shim-", env!("FAKESSH_SLAVE_FINGERPRINT"));

/// The names under which tools know us.
const NAMES: [&str; 3] = ["ssh", "scp", "sftp"];

/// Why there is no run directory.
#[derive(Debug, Error)]
pub enum RunDirectoryError {
    /// Neither place can hold programs.
    #[error(
        "programs can't be run from {0} or {1} (mounted noexec); set FAKESSH_DIR to a directory where they can"
    )]
    NoExec(PathBuf, PathBuf),
    /// The other place can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system refused.
    #[error("can't make a run directory in {0}: {1}")]
    System(PathBuf, io::Error),
}

/// A run's directory, removed when it is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    directory: TempDir,
    listener: OwnedFd,
    _lock: File,
}

impl RunDirectory {
    /// Makes a run directory in the user's directory, or, where programs can't be run from that,
    /// in `~/.cache/fakessh`.
    ///
    /// # Errors
    /// [`RunDirectoryError`].
    pub fn create(base: &Directory) -> Result<RunDirectory, RunDirectoryError> {
        if !is_noexec(base.path()) {
            return RunDirectory::within(base);
        }
        let cache = cache();
        let _ = std::fs::create_dir(&cache);
        let other = Directory::at(cache.join("fakessh"))?;
        if is_noexec(other.path()) {
            let (first, second) = (base.path().to_owned(), other.path().to_owned());
            return Err(RunDirectoryError::NoExec(first, second));
        }
        RunDirectory::within(&other)
    }

    fn within(base: &Directory) -> Result<RunDirectory, RunDirectoryError> {
        let mut swept = 0;
        loop {
            match RunDirectory::make(base) {
                Err(error) if may_be_swept(&error) && swept < MOST_SWEPT => swept += 1,
                Err(error) => {
                    return Err(RunDirectoryError::System(base.path().to_owned(), error));
                }
                Ok(made) => return Ok(made),
            }
        }
    }

    fn make(base: &Directory) -> io::Result<RunDirectory> {
        let program = shim_program(base)?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base.path())?;
        // Up to here a master that is just starting takes it for one that was left behind.
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for name in NAMES {
            std::fs::hard_link(&program, directory.path().join(name))?;
        }
        let listener = listen(&directory.path().join(fakessh_shim::find::SOCKET_NAME))?;
        Ok(RunDirectory { directory, listener, _lock: lock })
    }

    /// Leaves the directory where it is, for others who still use it; a master removes it when
    /// they have ended.
    pub fn leave(self) {
        let _ = self.directory.keep();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The socket in it, on which the master accepts shims.
    pub fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

/// Whether making a directory failed in a way in which a [`sweep`] makes it fail: it is held or
/// gone, or the shim of this build is, which a master of another build has removed.
fn may_be_swept(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock)
}

/// The user's directory for what can be made again.
fn cache() -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".cache")
}

fn is_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// The shim as a file of the base directory, written once for each build.
fn shim_program(base: &Directory) -> io::Result<PathBuf> {
    let path = base.path().join(SHIM_NAME);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.len() == SLAVE.len() as u64 => return Ok(path),
        // Cut short by a crash of the machine.
        Ok(_) => std::fs::remove_file(&path)?,
        Err(_) => {}
    }
    // By its name it is swept away where we are killed meanwhile.
    let mut file = tempfile::Builder::new().prefix(SHIM_PREFIX).tempfile_in(base.path())?;
    file.write_all(SLAVE)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o700))?;
    // Closed before it is named: a program that is open for writing can't be run.
    let written = file.into_temp_path();
    match written.persist_noclobber(&path) {
        Ok(()) => {}
        // Another run was first. Its file is not replaced: who is just linking to it would find
        // that it has no name any more.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(path)
}

/// Removes run directories that nobody holds any more, and shims of other builds. Called by a
/// master that has just become the only one.
pub(crate) fn sweep(base: &Directory) {
    let read = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    for entry in read(base.path()).chain(read(&cache().join("fakessh"))) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) {
            remove_abandoned(&entry.path());
        } else if name.starts_with(SHIM_PREFIX) && name != SHIM_NAME {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Removes a run directory unless its maker still holds it. Says whether it is gone.
pub(crate) fn remove_abandoned(path: &Path) -> bool {
    let Ok(held) = File::open(path) else { return true };
    if flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    tracing::info!(path = %path.display(), "removing a run directory that was left behind");
    std::fs::remove_dir_all(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_master_that_starts_meanwhile_does_no_harm_to_a_new_directory() {
        let home = tempfile::tempdir().unwrap();
        let base = Directory::at(home.path().join("d")).unwrap();
        let over = AtomicBool::new(false);
        // More masters than ever start while a directory is made, and fewer than it gives up at.
        let starting = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if starting.load(Ordering::Relaxed) > 0 {
                        sweep(&base);
                        starting.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
            let made = (0..300).map(|_| {
                starting.store(MOST_SWEPT / 4, Ordering::Relaxed);
                let run = RunDirectory::create(&base)?;
                assert!(NAMES.iter().all(|name| run.path().join(name).is_file()));
                Ok(())
            });
            let made: Result<Vec<()>, RunDirectoryError> = made.collect();
            over.store(true, Ordering::Relaxed);
            made.unwrap();
        });
    }

    #[test]
    fn a_directory_in_use_stays_and_one_left_behind_goes() {
        let home = tempfile::tempdir().unwrap();
        let base = Directory::at(home.path().join("d")).unwrap();
        let run = RunDirectory::create(&base).unwrap();
        for name in NAMES {
            assert!(run.path().join(name).is_file());
        }
        let left = base.path().join("run-left");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("ssh"), "").unwrap();
        sweep(&base);
        assert!(run.path().is_dir() && !left.exists());
        let path = run.path().to_owned();
        drop(run);
        assert!(!path.exists());
    }
}
