//! The directory of a user's master: sockets, locks, the log, run directories.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Most bytes of a socket's path: the kernel takes 107, and a run directory's name comes on top.
const MAX_SOCKET_PATH: usize = 100;

/// Bytes that a run directory and the socket in it add to the path.
const RUN_NAME: usize = "/run-XXXXXX/master".len();

/// The lock that the one master holds. A directory that has it was used by a master.
pub(crate) const LOCK: &str = "lock";

/// How the names of ours begin that may be there without it: clients make some before the first
/// master runs.
const WITHOUT_LOCK: [&[u8]; 5] = [b"control", b"start", b"log", b"run-", b"shim-"];

/// Permission bits with which others than the owner can write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The permission bit of directories in which everybody removes and renames their own only.
const STICKY: u32 = 0o1000;

/// Why the directory can't be used. Nothing is done in a directory that others can write to.
#[derive(Debug, Error)]
pub enum RuntimeDirError {
    /// It is too deep for a socket.
    #[error("{0} is too long for a socket's path; set FAKESSH_DIR to a shorter one")]
    TooLong(PathBuf),
    /// It can't be part of `PATH`.
    #[error(
        "{0} has a colon in its name, and so can't stand in PATH; set FAKESSH_DIR to another one"
    )]
    Colon(PathBuf),
    /// Somebody else's.
    #[error(
        "{path} belongs to uid {owner} and not to you (uid {ours}); set FAKESSH_DIR to a directory that is fakessh's alone"
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our user id.
        ours: u32,
    },
    /// Others may enter it.
    #[error(
        "{path} has mode {mode:04o}, so that others could use your connections; set FAKESSH_DIR to a directory that is fakessh's alone and that nobody else can enter (chmod 700)"
    )]
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may put another one in its place.
    #[error(
        "{path} is in {above}, which {what}: others could put another directory in its place; set FAKESSH_DIR to one in a directory that only you and root can write to"
    )]
    Above {
        /// The directory.
        path: PathBuf,
        /// The one that it is in.
        above: PathBuf,
        /// Who can write to that.
        what: String,
    },
    /// It has another use.
    #[error(
        "{0} holds other things than fakessh's ({1}); set FAKESSH_DIR to a directory that is fakessh's alone, such as {0}/fakessh"
    )]
    Shared(PathBuf, String),
    /// It is a file, a link, or can't be made.
    #[error("can't use {0} as a directory for sockets: {1}; set FAKESSH_DIR to another one")]
    System(PathBuf, io::Error),
}

/// Whether a directory is this user's, and only this user and root can write to it.
fn is_ours(path: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|found| {
        found.is_dir() && found.uid() == ours && found.mode() & WRITABLE_BY_OTHERS == 0
    })
}

/// Holds that only this user and root can rename what is in a directory that is to hold ours.
fn check_above(path: &Path) -> Result<(), RuntimeDirError> {
    let Some(above) = path.parent() else { return Ok(()) };
    let system = |error| RuntimeDirError::System(path.to_owned(), error);
    let found = std::fs::metadata(above).map_err(system)?;
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    let mode = found.mode();
    // In a sticky directory everybody renames what is theirs alone.
    if is_ours && (mode & WRITABLE_BY_OTHERS == 0 || mode & STICKY != 0) {
        return Ok(());
    }
    let what = if is_ours {
        format!("has mode {:04o}", mode & 0o7777)
    } else {
        format!("belongs to uid {}", found.uid())
    };
    Err(RuntimeDirError::Above { path: path.to_owned(), above: above.to_owned(), what })
}

/// A directory of mode 0700 that belongs to this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeDir(PathBuf);

impl RuntimeDir {
    /// `$FAKESSH_DIR`, else `$XDG_RUNTIME_DIR/fakessh`, else `/tmp/fakessh-UID`; made where it is
    /// not there.
    ///
    /// # Errors
    /// [`RuntimeDirError`].
    pub fn of_user() -> Result<RuntimeDir, RuntimeDirError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = match (set("FAKESSH_DIR"), set("XDG_RUNTIME_DIR")) {
            (Some(path), _) => {
                let path = std::path::absolute(&path)
                    .map_err(|error| RuntimeDirError::System(path.into(), error))?;
                let directory = RuntimeDir::at(path)?;
                directory.check_is_ours_alone()?;
                return Ok(directory);
            }
            // Of another user where `sudo` has kept the variable. By its specification it is of
            // mode 0700.
            (None, Some(runtime)) if is_ours(Path::new(&runtime)) => {
                PathBuf::from(runtime).join("fakessh")
            }
            _ => format!("/tmp/fakessh-{}", rustix::process::geteuid().as_raw()).into(),
        };
        RuntimeDir::at(path)
    }

    /// The directory at this absolute path; made where it is not there.
    ///
    /// # Errors
    /// [`RuntimeDirError`].
    pub fn at(path: PathBuf) -> Result<RuntimeDir, RuntimeDirError> {
        if path.as_os_str().as_bytes().contains(&b':') {
            return Err(RuntimeDirError::Colon(path));
        }
        if path.as_os_str().len() + RUN_NAME > MAX_SOCKET_PATH {
            return Err(RuntimeDirError::TooLong(path));
        }
        check_above(&path)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RuntimeDirError::System(path, error));
            }
            _ => {}
        }
        let found = match std::fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) => return Err(RuntimeDirError::System(path, error)),
        };
        if !found.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(RuntimeDirError::System(path, error));
        }
        let ours = rustix::process::geteuid().as_raw();
        if found.uid() != ours {
            return Err(RuntimeDirError::Owner { path, owner: found.uid(), ours });
        }
        if found.mode() & 0o077 != 0 {
            return Err(RuntimeDirError::Mode { path, mode: found.mode() & 0o7777 });
        }
        Ok(RuntimeDir(path))
    }

    /// Checks that a directory that a person named holds nothing of theirs: a master removes what
    /// its predecessors left behind, by name.
    fn check_is_ours_alone(&self) -> Result<(), RuntimeDirError> {
        let system = |error| RuntimeDirError::System(self.0.clone(), error);
        let mut foreign = None;
        for entry in std::fs::read_dir(&self.0).map_err(system)? {
            let name = entry.map_err(system)?.file_name();
            if name == LOCK {
                return Ok(());
            }
            let is_ours = WITHOUT_LOCK.iter().any(|ours| name.as_bytes().starts_with(ours));
            foreign = foreign.or((!is_ours).then_some(name));
        }
        match foreign {
            Some(name) => Err(RuntimeDirError::Shared(
                self.0.clone(),
                name.to_string_lossy().escape_debug().to_string(),
            )),
            None => Ok(()),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The master's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("control")
    }

    /// Opens a file of the directory for reading and writing; made where it is not there.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(self.0.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("d");
        assert_eq!(RuntimeDir::at(path.clone()).unwrap().path(), path);
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        let error = RuntimeDir::at(path).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_directory_whose_place_others_could_take_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("d");
        for (mode, is_taken) in
            [(0o777, false), (0o770, false), (0o1777, true), (0o755, true), (0o700, true)]
        {
            std::fs::set_permissions(base.path(), Permissions::from_mode(mode)).unwrap();
            let directory = RuntimeDir::at(path.clone());
            assert_eq!(directory.is_ok(), is_taken, "{mode:o}: {directory:?}");
            assert_eq!(is_ours(base.path()), mode & 0o022 == 0, "{mode:o}");
            assert_eq!(path.exists(), is_taken, "{mode:o}");
            let _ = std::fs::remove_dir(&path);
        }
    }

    #[test]
    fn a_directory_with_another_use_is_told_from_ours() {
        let base = tempfile::tempdir().unwrap();
        let directory = RuntimeDir::at(base.path().join("d")).unwrap();
        directory.check_is_ours_alone().unwrap();
        // What the first client makes before the first master has its lock.
        for name in ["start", "shim-1", "run-abc", "log.1"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        directory.check_is_ours_alone().unwrap();
        std::fs::write(directory.path().join("thesis\n"), "").unwrap();
        let error = directory.check_is_ours_alone().unwrap_err().to_string();
        assert!(error.contains("thesis") && !error.contains('\n'), "{error}");
        std::fs::write(directory.path().join(LOCK), "").unwrap();
        directory.check_is_ours_alone().unwrap();
    }

    #[test]
    fn a_link_a_file_and_a_long_path_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("l");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(matches!(RuntimeDir::at(link), Err(RuntimeDirError::System(..))));
        assert!(matches!(RuntimeDir::at("/tmp/a:b".into()), Err(RuntimeDirError::Colon(_))));
        let long = base.path().join("x".repeat(90));
        assert!(matches!(RuntimeDir::at(long), Err(RuntimeDirError::TooLong(_))));
    }
}
