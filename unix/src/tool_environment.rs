//! What a tool finds in its environment, wherever it runs, so that its `ssh` is this one.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// The variable that names the inherited descriptor, as [`describe`] writes it.
pub const FD_VARIABLE: &str = "FAKESSH_FD";

/// The variable that names the path of the run's listening `SOCK_SEQPACKET` socket.
pub const SOCKET_VARIABLE: &str = "FAKESSH_SOCKET";

/// The name of that socket in the run's directory, beside `ssh`, `scp` and `sftp`.
pub const SOCKET_NAME: &str = "master";

/// The lowest number of the inherited descriptor. Scripts use 3 to 9 for themselves, and shells
/// from 10 on.
const LOWEST_DESCRIPTOR: i32 = 100;

/// Where programs are looked for without PATH (confstr(3), _CS_PATH).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Variables that tell programs where ssh is which do not look on `PATH`: set only where the user
/// has not.
const PROGRAM_VARIABLES: [&str; 1] = ["AUTOSSH_PATH"];

/// The same, for programs that want the directory.
const DIRECTORY_VARIABLES: [&str; 1] = ["MUTAGEN_SSH_PATH"];

/// Variables that keep programs from asking for what we can't do yet and they can do without, set
/// only where the user has not. Ansible asks for a terminal, so that what it runs ends with its
/// ssh: with ours it does so anyway.
const SETTINGS: [(&str, &str); 1] = [("ANSIBLE_SSH_USETTY", "false")];

/// How a descriptor of this process is named in [`FD_VARIABLE`] for the tools that inherit it:
/// its number, and the socket's inode, by which the shim knows that it is still the same one.
///
/// # Errors
/// What `fstat(2)` says.
pub fn describe(socket: BorrowedFd<'_>) -> io::Result<String> {
    let inode = rustix::fs::fstat(socket)?.st_ino;
    Ok(format!("{}:{inode}", socket.as_raw_fd()))
}

/// A copy of a run's socket that a tool can inherit: with a number that scripts leave alone, and
/// still close-on-exec in this process.
///
/// # Errors
/// As fcntl(2).
pub fn descriptor_for_tool(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let high = rustix::io::fcntl_dupfd_cloexec(socket, LOWEST_DESCRIPTOR);
    // A small limit of open files leaves no high number.
    Ok(high.or_else(|_| rustix::io::fcntl_dupfd_cloexec(socket, 3))?)
}

/// Variables to set for a tool: `PATH` with the run directory first, and the ways in which a shim
/// finds the master. `socket` is the descriptor that the tool inherits, and `variable` says what
/// its environment has otherwise.
///
/// # Errors
/// As fstat(2) of the descriptor.
pub fn for_tool(
    directory: &Path,
    socket: BorrowedFd<'_>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> io::Result<Vec<(OsString, OsString)>> {
    let mut path = directory.as_os_str().to_owned();
    path.push(":");
    path.push(variable("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
    let mut variables = vec![
        ("PATH".into(), path),
        (FD_VARIABLE.into(), describe(socket)?.into()),
        (SOCKET_VARIABLE.into(), directory.join(SOCKET_NAME).into()),
    ];
    let programs = PROGRAM_VARIABLES.iter().map(|name| (*name, directory.join("ssh").into()));
    let directories = DIRECTORY_VARIABLES.iter().map(|name| (*name, directory.into()));
    let settings = SETTINGS.iter().map(|(name, value)| (*name, value.into()));
    let unless_set: [Vec<(&str, OsString)>; 3] =
        [programs.collect(), directories.collect(), settings.collect()];
    for (name, value) in unless_set.into_iter().flatten() {
        if variable(name).is_none() {
            variables.push((name.into(), value));
        }
    }
    Ok(variables)
}
