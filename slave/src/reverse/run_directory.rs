//! A run's directory on the target: `ssh`, `scp` and `sftp`, and the socket beside them.
//!
//! The three names lead to a copy of the file that this process runs, which nobody else can reach
//! through `/proc`. Run directories in the same place share one copy.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fakessh_protocol::message::{Refusal, RefusalReason};
use fakessh_unix::tool_environment::SOCKET_NAME;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::cleanup::{DirectorySlot, Watchdog};

/// How a run directory's name begins. Our process number and a counter follow.
const PREFIX: &str = "fakessh-run-";

/// The names under which tools know us.
const NAMES: [&str; 3] = ["ssh", "scp", "sftp"];

/// Bytes that are copied at once.
const PIECE: usize = 128 * 1024;

/// Most names that are tried in one place. Running runs have taken some, and slaves with our number
/// in other process namespaces.
const ATTEMPTS: usize = 1000;

/// Connections that may wait to be accepted: the kernel's own limit is the one that counts.
const WAITING: i32 = 4096;

/// A run's directory. When dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    /// The watchdog removes it if the slave can't.
    _slot: DirectorySlot,
}

/// The program that the names in a run directory lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shim<'a> {
    /// The file that this process runs.
    pub(super) program: &'a File,
    /// Another run's directory, which may have a copy in the same place.
    pub(super) sibling: Option<&'a Path>,
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // A file that can't be removed is not ours.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl RunDirectory {
    /// Makes a run directory in the first of `places` where that can be done, listens in it, and
    /// lets the watchdog know of it.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(super) fn create(
        places: &[PathBuf],
        shim: Shim<'_>,
        watchdog: &mut Watchdog,
    ) -> Result<(RunDirectory, OwnedFd), Refusal> {
        RunDirectory::first(places, "the tool's own ssh", |place| {
            let directory = RunDirectory::make(place, watchdog)?;
            let listener = directory.furnish(shim)?;
            Ok((directory, listener))
        })
    }

    /// Makes a directory for the socket of an agent, in the same manner.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(super) fn for_agent(
        places: &[PathBuf],
        watchdog: &mut Watchdog,
    ) -> Result<RunDirectory, Refusal> {
        RunDirectory::first(places, "the socket of an agent", |place| {
            RunDirectory::make(place, watchdog)
        })
    }

    /// Does something in the first of `places` where that can be done.
    fn first<T>(
        places: &[PathBuf],
        what: &str,
        mut work: impl FnMut(&Path) -> io::Result<T>,
    ) -> Result<T, Refusal> {
        let mut tried = Vec::new();
        for place in places {
            match trusted(place).and_then(|place| work(&place)) {
                Ok(made) => return Ok(made),
                Err(error) => tried.push(format!("{}: {error}", place.display())),
            }
        }
        let tried = tried.join("; ");
        let message = format!("there is no place for {what} on the target ({tried})");
        Err(Refusal { reason: RefusalReason::Limit, message })
    }

    /// Makes a directory that only the account can enter.
    fn make(place: &Path, watchdog: &mut Watchdog) -> io::Result<RunDirectory> {
        let pid = rustix::process::getpid();
        for attempt in 0..ATTEMPTS {
            let path = place.join(format!("{PREFIX}{}-{attempt}", pid.as_raw_nonzero()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // Another slave's, which may live.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let _slot = watchdog.add_directory(&path);
            let directory = RunDirectory { path, _slot };
            // The login's umask may take away more than others' rights.
            std::fs::set_permissions(&directory.path, Permissions::from_mode(0o700))?;
            let ours = rustix::process::geteuid().as_raw();
            if std::fs::symlink_metadata(&directory.path)?.uid() != ours {
                return Err(Errno::PERM.into());
            }
            return Ok(directory);
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The path of the directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn furnish(&self, shim: Shim<'_>) -> io::Result<OwnedFd> {
        self.put(shim)?;
        let socket = self.path.join(SOCKET_NAME);
        let address = SocketAddrUnix::new(&socket)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&listener, &address)?;
        std::fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        rustix::net::listen(&listener, WAITING)?;
        Ok(listener)
    }

    /// Puts the shim there under its names.
    fn put(&self, shim: Shim<'_>) -> io::Result<()> {
        let [first, others @ ..] = NAMES;
        let copy = self.path.join(first);
        let linked = shim.sibling.map(|sibling| std::fs::hard_link(sibling.join(first), &copy));
        // The sibling may lie elsewhere, and some file systems have no links.
        if !matches!(linked, Some(Ok(()))) {
            write_copy(shim.program, &copy)?;
        }
        for name in others {
            let path = self.path.join(name);
            std::fs::hard_link(&copy, &path).or_else(|_| write_copy(shim.program, &path))?;
        }
        // Nothing may be run from a file system that is mounted noexec.
        Ok(access(&copy, Access::EXEC_OK)?)
    }
}

/// Writes a program to a new file that can be run.
fn write_copy(program: &File, path: &Path) -> io::Result<()> {
    let copy = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    loop {
        let len = program.read_at(&mut piece, done)?;
        if len == 0 {
            break;
        }
        copy.write_all_at(&piece[..len], done)?;
        done += len as u64;
    }
    copy.set_permissions(Permissions::from_mode(0o500))
}

/// The real path of a place, if nobody else can replace what is made there: it is ours, or sticky.
/// For root that must hold for each directory on the way to it as well, since the variables that
/// name the place may be those of the account that called `sudo`.
fn trusted(place: &Path) -> io::Result<PathBuf> {
    let ours = rustix::process::geteuid().as_raw();
    let place = place.canonicalize()?;
    let is_root = std::fs::metadata("/")?.uid() == ours;
    for directory in place.ancestors().take(if is_root { usize::MAX } else { 1 }) {
        let found = std::fs::symlink_metadata(directory)?;
        let is_sticky = found.mode() & 0o1000 != 0;
        let is_safe = match found.uid() {
            0 if is_sticky => true,
            uid if uid == ours => !is_root || is_sticky || found.mode() & 0o022 == 0,
            _ => false,
        };
        if !is_safe {
            let directory = directory.display();
            return Err(io::Error::other(format!("others can replace what is in {directory}")));
        }
    }
    Ok(place)
}

/// Where a run directory may lie, the best place first: in memory, and gone with the login.
pub(super) fn places(runtime: Option<&OsStr>, home: &Path) -> Vec<PathBuf> {
    let runtime = runtime.map(Path::new);
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
        let places = places(Some(OsStr::new("relative")), Path::new("/home/a:b"));
        assert_eq!(places, ["/dev/shm", "/tmp", "/var/tmp"].map(PathBuf::from));
    }

    #[test]
    fn directories_in_one_place_share_a_copy_of_the_program() {
        let place = tempfile::tempdir().unwrap();
        let program = File::open("/proc/self/exe").unwrap();
        let mut watchdog = Watchdog::default();
        let mut make = |name: &str, sibling: Option<&Path>| {
            let path = place.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let _slot = watchdog.add_directory(&path);
            let directory = RunDirectory { path, _slot };
            directory.put(Shim { program: &program, sibling }).unwrap();
            directory
        };
        let first = make("first", Some(Path::new("/nonexistent")));
        let second = make("second", Some(first.path()));
        let file = |directory: &RunDirectory, name| {
            std::fs::symlink_metadata(directory.path().join(name)).unwrap()
        };
        let ours = std::fs::read("/proc/self/exe").unwrap();
        assert!(std::fs::read(first.path().join("ssh")).unwrap() == ours, "it is another program");
        for name in NAMES {
            assert!(file(&first, name).is_file());
            assert_eq!(file(&first, name).ino(), file(&second, name).ino());
            assert_eq!(file(&first, name).mode() & 0o777, 0o500);
        }
        drop(first);
        assert!(!place.path().join("first").exists());
    }
}
