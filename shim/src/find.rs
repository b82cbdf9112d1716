//! How the shim finds its master: the descriptor that it inherited, the socket that the
//! environment names, the socket in the directory that it lies in. No single way survives every
//! tool: some close descriptors, some rebuild the environment.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fakessh_unix::peer;
use fakessh_unix::ready::has_hung_up;
use fakessh_unix::tool_environment::{FD_VARIABLE, SOCKET_NAME, SOCKET_VARIABLE};
use rustix::fs::FileType;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;

use crate::{place, sys};

/// There is no master to be found. The message is the line for standard error.
#[derive(Debug, Error)]
pub enum NotFound {
    /// Nothing points to a run.
    #[error("this ssh belongs to no run; start the tool with `fakessh run`, or use the real ssh")]
    NoRun,
    /// Something points to a run, and nobody answers there.
    #[error(
        "the run that this ssh belongs to is over, or its master has ended (tried {tried}); \
         start the tool again with `fakessh run`"
    )]
    Over {
        /// What was tried, and what came of it.
        tried: String,
    },
}

/// Finds the master, for a program that was called as `argv0`. The result is a connected
/// `SOCK_SEQPACKET` socket for one handoff. The inherited one is shared with every other shim of
/// the run: nothing may be received from it and none of its flags changed.
///
/// # Errors
/// [`NotFound`].
pub fn find(argv0: &OsStr) -> Result<OwnedFd, NotFound> {
    let mut search = Search::default();
    let descriptor = env::var(FD_VARIABLE).ok();
    let path = env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    search
        .inherited(descriptor.as_deref())
        .or_else(|| search.named(path.as_deref()))
        .or_else(|| search.beside(&place::directories(argv0)))
        .ok_or_else(|| search.not_found())
}

/// Lets the run, if there is one, know that its `ssh`, `scp` or `sftp` was started. For what does
/// without the master; nothing is waited for.
pub(crate) fn announce(argv0: &OsStr) {
    let named = env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut search = Search::default();
    // The inherited one takes nothing but handoffs.
    let _ = search.named(named.as_deref()).or_else(|| search.beside(&place::directories(argv0)));
}

/// What was tried in vain.
#[derive(Default)]
struct Search {
    tried: Vec<String>,
}

impl Search {
    /// The descriptor that the environment names, if it is still the socket that was meant: a
    /// tool may have closed it, and opened something else with the same number.
    fn inherited(&mut self, description: Option<&str>) -> Option<OwnedFd> {
        let (number, inode) = description?.split_once(':')?;
        let (number, inode) = (number.parse().ok()?, inode.parse::<u64>().ok()?);
        let descriptor = sys::inherited(number)?;
        let stat = rustix::fs::fstat(descriptor).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_ino != inode {
            return None;
        }
        if has_hung_up(descriptor) {
            self.tried.push(format!("descriptor {number}: the other end is closed"));
            return None;
        }
        descriptor.try_clone_to_owned().ok()
    }

    /// The socket that the environment names.
    fn named(&mut self, path: Option<&Path>) -> Option<OwnedFd> {
        self.connect(path?)
    }

    /// A socket in one of these directories.
    fn beside(&mut self, directories: &[PathBuf]) -> Option<OwnedFd> {
        directories
            .iter()
            .filter(|directory| place::is_run_directory(directory))
            .find_map(|directory| self.connect(&directory.join(SOCKET_NAME)))
    }

    fn connect(&mut self, path: &Path) -> Option<OwnedFd> {
        match connect(path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let attempt = format!("{}: {error}", path.display());
                if !self.tried.contains(&attempt) {
                    self.tried.push(attempt);
                }
                None
            }
        }
    }

    fn not_found(&self) -> NotFound {
        if self.tried.is_empty() {
            NotFound::NoRun
        } else {
            NotFound::Over { tried: self.tried.join("; ") }
        }
    }
}

/// Connects to a master's socket, and makes sure that it is ours or root's.
fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?.uid;
    if !peer::is_our_uid(peer) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it belongs to another user (uid {})", peer.as_raw()),
        ));
    }
    Ok(socket)
}

#[cfg(test)]
mod tests;
