//! A run's directory on the target: `ssh`, `scp` and `sftp`, and the socket beside them.
//!
//! The three names lead to the file that this process runs, through `/proc`: nothing is copied,
//! it works although that file has no name any more, and it can be run although the directory's
//! file system may be mounted noexec. Where that can't be, a copy lies beside them.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fakessh_protocol::message::{Refusal, RefusalReason};
use fakessh_shim::find::SOCKET_NAME;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::guardian::{Guardian, Left};

/// How a run directory's name begins. Our process number and a counter follow.
const PREFIX: &str = "fakessh-run-";

/// The names under which tools know us.
const NAMES: [&str; 3] = ["ssh", "scp", "sftp"];

/// The file that runs.
const OURSELVES: &str = "/proc/self/exe";

/// The name of its copy, where there has to be one.
const COPY: &str = "shim";

/// Most names that are tried in one place. Taken ones are those of runs that last, and of slaves
/// with our number in other process namespaces.
const ATTEMPTS: usize = 1000;

/// Connections that may wait to be accepted: the kernel's own limit is the one that counts.
const WAITING: i32 = 4096;

/// A run's directory. Dropped, it is removed, with all that is in it.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // Whoever has put something in there that can't be removed has to do so.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl RunDirectory {
    /// Makes one in the first of `places` where that can be done, listens in it, and lets the
    /// guardian know of it.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(crate) fn create(
        places: &[PathBuf],
        guardian: &mut Guardian,
    ) -> Result<(RunDirectory, Left, OwnedFd), Refusal> {
        let mut tried = Vec::new();
        for place in places {
            match RunDirectory::within(place, guardian) {
                Ok(made) => return Ok(made),
                Err(error) => tried.push(format!("{}: {error}", place.display())),
            }
        }
        let message = format!(
            "there is no place for the tool's own ssh on the target ({})",
            tried.join("; ")
        );
        Err(Refusal { reason: RefusalReason::Limit, message })
    }

    fn within(place: &Path, guardian: &mut Guardian) -> io::Result<(RunDirectory, Left, OwnedFd)> {
        let pid = rustix::process::getpid();
        let ours = rustix::process::geteuid().as_raw();
        for attempt in 0..ATTEMPTS {
            let path = place.join(format!("{PREFIX}{}-{attempt}", pid.as_raw_nonzero()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // Somebody else's, who may live.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let left = guardian.add_directory(&path);
            let directory = RunDirectory { path };
            match directory.furnish(ours) {
                Ok(listener) => return Ok((directory, left, listener)),
                Err(error) => {
                    drop(directory);
                    guardian.remove_directory(left);
                    return Err(error);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn furnish(&self, uid: u32) -> io::Result<OwnedFd> {
        // The login's umask may take away more than others' rights.
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&self.path, mode(0o700))?;
        if std::fs::symlink_metadata(&self.path)?.uid() != uid {
            return Err(Errno::PERM.into());
        }
        self.link().or_else(|_| self.copy())?;
        let socket = self.path.join(SOCKET_NAME);
        let address = SocketAddrUnix::new(&socket)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&listener, &address)?;
        std::fs::set_permissions(&socket, mode(0o600))?;
        rustix::net::listen(&listener, WAITING)?;
        Ok(listener)
    }

    /// Makes the names lead to our own file.
    fn link(&self) -> io::Result<()> {
        let pid = rustix::process::getpid().as_raw_nonzero();
        for name in NAMES {
            symlink(format!("/proc/{pid}/exe"), self.path.join(name))?;
        }
        self.check()
    }

    /// Makes them names of a copy.
    fn copy(&self) -> io::Result<()> {
        let copy = self.path.join(COPY);
        std::fs::copy(OURSELVES, &copy)?;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o700))?;
        for name in NAMES {
            let path = self.path.join(name);
            let _ = std::fs::remove_file(&path);
            std::fs::hard_link(&copy, path)?;
        }
        Ok(access(&copy, Access::EXEC_OK)?)
    }

    /// Whether what the names lead to is our file, and can be run. `/proc` may be that of other
    /// processes: then our number is another's there.
    fn check(&self) -> io::Result<()> {
        let path = self.path.join(NAMES[0]);
        let (ours, found) = (std::fs::metadata(OURSELVES)?, std::fs::metadata(&path)?);
        if (ours.dev(), ours.ino()) != (found.dev(), found.ino()) {
            return Err(Errno::NOENT.into());
        }
        Ok(access(&path, Access::EXEC_OK)?)
    }
}

/// Where a run directory may lie, the best place first: in memory, and gone with the login.
pub(crate) fn places(runtime: Option<&Path>, home: &Path) -> Vec<PathBuf> {
    let usual = [Path::new("/dev/shm"), Path::new("/tmp"), Path::new("/var/tmp")];
    let all = runtime.into_iter().chain(usual).chain([home]);
    all.filter(|place| place.is_absolute() && !place.as_os_str().as_bytes().contains(&b':'))
        .map(Path::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_on_path_is_no_place() {
        let places = places(Some(Path::new("relative")), Path::new("/home/a:b"));
        assert_eq!(places, ["/dev/shm", "/tmp", "/var/tmp"].map(PathBuf::from));
    }

    #[test]
    fn a_copy_serves_where_there_is_no_link() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        std::fs::create_dir(&path).unwrap();
        let directory = RunDirectory { path: path.clone() };
        symlink("/nonexistent", path.join("ssh")).unwrap();
        directory.copy().unwrap();
        for name in NAMES {
            assert!(std::fs::symlink_metadata(path.join(name)).unwrap().is_file());
        }
        drop(directory);
        assert!(!path.exists());
    }
}
