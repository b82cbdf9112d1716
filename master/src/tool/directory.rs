//! A run's directory: `ssh`, `scp` and `sftp`, and the socket beside them.
//!
//! It exists as long as the run does. Whoever made it holds a lock on it, so that a later master
//! can tell a directory that was left behind from one that is in use.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, StatVfsMountFlags, flock, openat, statvfs};
use rustix::io::Errno;
use rustix::net::Shutdown;
use serde::{Deserialize, Serialize};
use tempfile::{TempDir, TempPath};
use thiserror::Error;

use crate::runtime_dir::{RuntimeDir, RuntimeDirError};
use crate::socket::listen;
use crate::start::SLAVE;

/// How a run directory's name begins.
const PREFIX: &str = "run-";

/// How often a directory may be swept away while it is made. A master sweeps once, when it starts.
const MOST_SWEPT: u32 = 100;

/// How often the shim's file is written anew because a child of this process keeps it open.
const MOST_WRITTEN: u32 = 3;

/// How long a child of this process may take from its start to its program.
const MOST_STARTING: Duration = Duration::from_secs(1);

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
    RuntimeDir(#[from] RuntimeDirError),
    /// The system refused.
    #[error("can't make a run directory in {0}: {1}")]
    System(PathBuf, io::Error),
}

/// A run directory, as a request names it to the master: by its name in a place that the master
/// knows itself. A path would let a request have any directory removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunDirectoryName {
    /// In the master's own directory.
    Runtime(String),
    /// In the user's cache: programs can't be run from the master's directory.
    Cache(String),
}

/// A run's directory, removed when it is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    directory: TempDir,
    is_in_cache: bool,
    listener: OwnedFd,
    _lock: File,
}

impl RunDirectory {
    /// Makes a run directory in the user's directory, or, where programs can't be run from that,
    /// in `~/.cache/fakessh`.
    ///
    /// # Errors
    /// [`RunDirectoryError`].
    pub fn create(base: &RuntimeDir) -> Result<RunDirectory, RunDirectoryError> {
        if !is_noexec(base.path()) {
            return RunDirectory::within(base, false);
        }
        let _ = std::fs::create_dir(home_cache());
        let other = RuntimeDir::at(cache())?;
        if is_noexec(other.path()) {
            let (first, second) = (base.path().to_owned(), other.path().to_owned());
            return Err(RunDirectoryError::NoExec(first, second));
        }
        RunDirectory::within(&other, true)
    }

    fn within(base: &RuntimeDir, is_in_cache: bool) -> Result<RunDirectory, RunDirectoryError> {
        let mut swept = 0;
        loop {
            match RunDirectory::make(base, is_in_cache) {
                Err(error) if may_be_swept(&error) && swept < MOST_SWEPT => swept += 1,
                Err(error) => {
                    return Err(RunDirectoryError::System(base.path().to_owned(), error));
                }
                Ok(made) => return Ok(made),
            }
        }
    }

    fn make(base: &RuntimeDir, is_in_cache: bool) -> io::Result<RunDirectory> {
        let program = shim_program(base)?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base.path())?;
        // Up to here a master that is just starting takes it for one that was left behind.
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for name in NAMES {
            std::fs::hard_link(&program, directory.path().join(name))?;
        }
        let listener = listen(&directory.path().join(fakessh_unix::tool_environment::SOCKET_NAME))?;
        Ok(RunDirectory { directory, is_in_cache, listener, _lock: lock })
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

    /// Its name, for the master.
    pub fn name(&self) -> RunDirectoryName {
        let name = self.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.is_in_cache {
            RunDirectoryName::Cache(name)
        } else {
            RunDirectoryName::Runtime(name)
        }
    }

    /// Whether a connection waits on [`RunDirectory::listener`] to be accepted.
    pub fn is_being_called(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&now));
        ready.is_ok_and(|ready| ready > 0)
    }

    /// Ends what waits on [`RunDirectory::listener`] and all that is to come, where the master is
    /// gone: nobody would ever accept it, and a shim would wait as long as this process lives.
    pub(crate) fn end_calls(listener: &OwnedFd) {
        let _ = rustix::net::shutdown(listener, Shutdown::Both);
        while rustix::net::accept(listener).is_ok() {}
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
fn home_cache() -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".cache")
}

/// Our directory in it.
fn cache() -> PathBuf {
    home_cache().join("fakessh")
}

fn is_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// The shim as a file of the base directory, written once for each build.
fn shim_program(base: &RuntimeDir) -> io::Result<PathBuf> {
    let path = base.path().join(SHIM_NAME);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.len() == SLAVE.len() as u64 => return Ok(path),
        // Cut short by a crash of the machine.
        Ok(_) => std::fs::remove_file(&path)?,
        Err(_) => {}
    }
    let written = written_shim(base)?;
    match written.persist_noclobber(&path) {
        Ok(()) => {}
        // Another run was first. Its file is not replaced: who is just linking to it would find
        // that it has no name any more.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(path)
}

/// The shim in a file of the base directory that nobody has open for writing: the kernel does not run
/// a program that somebody has (`ETXTBSY`).
fn written_shim(base: &RuntimeDir) -> io::Result<TempPath> {
    for _ in 0..MOST_WRITTEN {
        // By its name it is swept away if this process is killed meanwhile.
        let mut file = tempfile::Builder::new().prefix(SHIM_PREFIX).tempfile_in(base.path())?;
        file.write_all(SLAVE)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o700))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let written = file.into_temp_path();
        if is_closed(&File::open(&written)?)? {
            return Ok(written);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ExecutableFileBusy,
        "each file that was written is still open in a child of this process",
    ))
}

/// Whether a file becomes closed that was written under a lock. A child of this process that another
/// thread has just started has each descriptor until it runs its program, and the lock with it. A
/// child that never runs a program keeps it.
fn is_closed(reader: &File) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        match flock(reader, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if start.elapsed() < MOST_STARTING => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes run directories that nobody holds any more, and shims of other builds. Called by a
/// master that has just become the only one.
pub(crate) fn sweep(base: &RuntimeDir) {
    for place in [base.path(), &cache()] {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) {
                remove_unless_held(place, &name);
            } else if name.starts_with(SHIM_PREFIX) && name != SHIM_NAME {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Removes a run directory unless its maker still holds it. Says whether it is gone. What is no
/// run directory counts as gone, and stays.
pub(crate) fn remove_abandoned(base: &RuntimeDir, directory: &RunDirectoryName) -> bool {
    match directory {
        RunDirectoryName::Runtime(name) => remove_unless_held(base.path(), name),
        RunDirectoryName::Cache(name) => remove_unless_held(&cache(), name),
    }
}

fn remove_unless_held(place: &Path, name: &str) -> bool {
    match open_run_directory(place, name) {
        Ok(held) if flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() => false,
        Ok(_held) => {
            let path = place.join(name);
            tracing::info!(path = %path.display(), "removing a run directory that was left behind");
            std::fs::remove_dir_all(path).is_ok()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            let place = place.display();
            tracing::warn!(%error, "'{}' in {place} is not removed", name.escape_debug());
            true
        }
    }
}

/// Opens a run directory, and nothing else: by a name that leads nowhere else, no link, ours, in a
/// directory in which nobody else can exchange it for another one.
fn open_run_directory(place: &Path, name: &str) -> io::Result<OwnedFd> {
    let refused = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let random = name.strip_prefix(PREFIX).unwrap_or_default();
    if random.is_empty() || !random.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(refused("it has not the name of a run directory"));
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(place, flags, Mode::empty())?;
    let directory = openat(&place, name, flags, Mode::empty())?;
    let ours = rustix::process::geteuid().as_raw();
    for (opened, others) in [(&place, 0o022), (&directory, 0)] {
        let found = rustix::fs::fstat(opened)?;
        if found.st_uid != ours || found.st_mode & others != 0 {
            return Err(refused("it is not ours alone"));
        }
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_master_that_starts_meanwhile_does_no_harm_to_a_new_directory() {
        let home = tempfile::tempdir().unwrap();
        let base = RuntimeDir::at(home.path().join("d")).unwrap();
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
    fn programs_that_other_threads_start_meanwhile_do_not_keep_the_shim_from_running() {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        Command::new("true").status().unwrap();
                    }
                });
            }
            let started: io::Result<Vec<()>> = (0..200)
                .map(|_| {
                    let home = tempfile::tempdir()?;
                    let base = RuntimeDir::at(home.path().join("d")).unwrap();
                    let run = RunDirectory::create(&base).unwrap();
                    let mut ssh = Command::new(run.path().join("ssh"));
                    ssh.stderr(Stdio::null()).status().map(drop)
                })
                .collect();
            over.store(true, Ordering::Relaxed);
            started.unwrap();
        });
    }

    #[test]
    fn a_file_is_closed_with_the_last_copy_of_its_descriptor() {
        let written = tempfile::NamedTempFile::new().unwrap();
        flock(&written, FlockOperation::NonBlockingLockExclusive).unwrap();
        let copy = written.as_file().try_clone().unwrap();
        let path = written.into_temp_path();
        let reader = File::open(&path).unwrap();
        assert!(!is_closed(&reader).unwrap());
        drop(copy);
        assert!(is_closed(&reader).unwrap());
    }

    #[test]
    fn a_directory_in_use_stays_and_one_left_behind_goes() {
        let home = tempfile::tempdir().unwrap();
        let base = RuntimeDir::at(home.path().join("d")).unwrap();
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

    #[test]
    fn nothing_but_a_run_directory_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let base = RuntimeDir::at(home.path().join("d")).unwrap();
        let precious = home.path().join("run-precious");
        std::fs::create_dir(&precious).unwrap();
        std::fs::write(precious.join("file"), "").unwrap();
        let inside = base.path().join("keys");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&precious, base.path().join("run-link")).unwrap();
        std::fs::write(base.path().join("run-file"), "").unwrap();
        let absolute = precious.to_string_lossy();
        for name in
            [&*absolute, "../run-precious", "run-x/../../run-precious", "run-", "", ".", "keys"]
        {
            assert!(remove_abandoned(&base, &RunDirectoryName::Runtime(name.into())), "{name}");
        }
        for name in ["run-link", "run-file"] {
            assert!(remove_abandoned(&base, &RunDirectoryName::Runtime(name.into())), "{name}");
        }
        assert!(precious.join("file").exists() && inside.exists());
        // One that others may write to could be exchanged meanwhile.
        let left = base.path().join("run-left");
        std::fs::create_dir(&left).unwrap();
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(remove_abandoned(&base, &RunDirectoryName::Runtime("run-left".into())));
        assert!(left.exists());
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(remove_abandoned(&base, &RunDirectoryName::Runtime("run-left".into())));
        assert!(!left.exists());
    }
}
