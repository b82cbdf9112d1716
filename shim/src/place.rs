//! Where this program lies: the directory that a run made for it, as far as it can be told from
//! how it was called.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use fakessh_unix::tool_environment::SOCKET_NAME;

/// Most symbolic links that are followed: as many as the kernel does (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The path that was executed, and where that is a symbolic link, those that it leads to.
pub(crate) fn executed() -> impl Iterator<Item = PathBuf> {
    let path = OsStr::from_bytes(rustix::param::linux_execfn().to_bytes());
    let next = |path: &PathBuf| {
        let target = fs::read_link(path).ok()?;
        Some(path.parent().unwrap_or(Path::new("")).join(target))
    };
    std::iter::successors(Some(PathBuf::from(path)), next).take(1 + MOST_LINKS)
}

/// Directories that this program may lie in, the likeliest first: of `argv[0]` if that has a
/// slash, of the path that was executed, and of the files that it led to.
pub(crate) fn directories(argv0: &OsStr) -> Vec<PathBuf> {
    let file = fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut found = Vec::new();
    for path in [PathBuf::from(argv0)].into_iter().chain(executed()).chain([file]) {
        // A parent of "" is a bare name, which says nothing about where it was found.
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            continue;
        };
        let Ok(parent) = std::path::absolute(parent) else { continue };
        if !found.contains(&parent) {
            found.push(parent);
        }
    }
    found
}

/// Whether a run made this directory, this run or one around it: what lies there is no real `ssh`.
pub(crate) fn is_run_directory(directory: &Path) -> bool {
    let socket = fs::symlink_metadata(directory.join(SOCKET_NAME));
    socket.is_ok_and(|socket| socket.file_type().is_socket())
}
