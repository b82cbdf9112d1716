//! What the slave does first: it removes its own file, and sheds what it inherited from the login.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fakessh_unix::fd_limit;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit};

use crate::sys;

/// Hexadecimal digits of the marker that the master looks for.
const MARKER_LEN: usize = 32;

/// The file that this process runs. It can be opened although its name is gone from the disk.
const OURSELVES: &str = "/proc/self/exe";

/// What the slave keeps of what it inherited.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The limit of open descriptors that programs get back.
    pub(crate) descriptors: Rlimit,
    /// The file that this process runs.
    pub(crate) program: Result<File, Errno>,
}

/// How the slave was called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Startup {
    /// What the master looks for after the text that a login prints.
    marker: String,
    /// The mask of file modes that the login had before it made our private file.
    umask: u32,
    /// The private directory that the binary lies in.
    directory: Option<PathBuf>,
}

impl Startup {
    /// Reads `MARKER UMASK DIR`, with `-` for no directory. `None` for anything else.
    pub(crate) fn parse(args: &[OsString]) -> Option<Startup> {
        let [_, marker, umask, directory] = args else { return None };
        let marker = marker.to_str()?;
        let is_marker = marker.len() == MARKER_LEN && marker.bytes().all(|b| b.is_ascii_hexdigit());
        let umask = u32::from_str_radix(umask.to_str()?, 8).ok().filter(|mask| *mask <= 0o777)?;
        let directory = (directory != OsStr::new("-")).then(|| PathBuf::from(directory));
        is_marker.then(|| Startup { marker: marker.to_owned(), umask, directory })
    }

    /// The marker that our output begins with.
    pub(crate) fn marker(&self) -> &str {
        &self.marker
    }

    /// Where starts put their private directories. Killed starts may have left theirs there.
    pub(crate) fn starts(&self) -> Option<&Path> {
        self.directory.as_deref()?.parent()
    }

    /// Opens our file, removes it and its directory, and puts the process in order.
    pub(crate) fn settle(&self, called: Option<&OsStr>) -> Inherited {
        sys::close_from(3);
        let called = called.map(Path::new);
        let program = open_ourselves(self.directory.as_deref(), called);
        if let Some(directory) = &self.directory {
            remove_ourselves(directory, called);
        }
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        sys::default_dispositions();
        leave_session();
        // We keep nobody's directory busy.
        let _ = rustix::process::chdir(c"/");
        let program = program.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        // A session takes four descriptors.
        let descriptors = getrlimit(Resource::Nofile);
        let _ = fd_limit::raise();
        Inherited { descriptors, program }
    }
}

/// Opens the file that this process runs. The file in our private directory could be executed and
/// not read until now: so the kernel keeps others out of this process before its first instruction.
fn open_ourselves(directory: Option<&Path>, called: Option<&Path>) -> io::Result<File> {
    // Not by /proc: an emulator may show itself there.
    let private = directory.and_then(|directory| Some(directory.join(called?.file_name()?)));
    let open = |path: PathBuf| {
        std::fs::set_permissions(&path, Permissions::from_mode(0o500))?;
        File::open(path)
    };
    private.map(open).and_then(Result::ok).map_or_else(|| File::open(OURSELVES), Ok)
}

/// Removes our own file from `directory`, and the directory. Nothing else in there is touched, so
/// a directory that holds more stays. Failures are ignored: there is nobody to tell.
fn remove_ourselves(directory: &Path, called: Option<&Path>) {
    let running = std::fs::metadata(OURSELVES).map(|file| (file.dev(), file.ino())).ok();
    let link = std::fs::read_link(OURSELVES).ok();
    let names = [link.as_deref(), called];
    for name in names.into_iter().flatten().filter_map(Path::file_name) {
        let path = directory.join(name);
        let Ok(file) = std::fs::symlink_metadata(&path) else { continue };
        // Without /proc only the name says that it is our file.
        if running.is_none_or(|running| running == (file.dev(), file.ino())) {
            let _ = std::fs::remove_file(&path);
            break;
        }
    }
    let _ = std::fs::remove_dir(directory);
}

/// Moves into a session of our own, so that a terminal that hangs up does not end us.
fn leave_session() {
    if rustix::process::setsid().is_ok() {
        return;
    }
    // The leader of a process group can't. A member of the parent's group can.
    let parent = rustix::process::getppid();
    if let Ok(group) = rustix::process::getpgid(parent)
        && rustix::process::setpgid(None, Some(group)).is_ok()
        && rustix::process::setsid().is_ok()
    {
        return;
    }
    sys::ignore(Signal::HUP);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Option<Startup> {
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        Startup::parse(&args)
    }

    #[test]
    fn only_a_marker_a_mask_and_a_directory_are_taken() {
        let marker = "0123456789abcdef0123456789abcdef";
        let startup = parse(&["slave", marker, "0022", "/tmp/x"]).unwrap();
        assert_eq!(startup.umask, 0o22);
        assert_eq!(startup.directory, Some(PathBuf::from("/tmp/x")));
        assert_eq!(parse(&["slave", marker, "77", "-"]).unwrap().directory, None);
        for wrong in [
            &["slave"][..],
            &["slave", marker],
            &["slave", marker, "22"],
            &["slave", "short", "22", "-"],
            &["slave", marker, "8", "-"],
            &["slave", marker, "1000", "-"],
            &["slave", marker, "22", "-", "more"],
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
