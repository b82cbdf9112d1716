//! Listens for a forward: on a TCP port of one or more addresses, or on a Unix socket.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use fakessh_protocol::forward::{Listen, ListenAddress};
use fakessh_protocol::message::{MAX_LISTENERS, SocketFileName};
use fakessh_protocol::printable;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::without_number;

/// Connections that may wait to be accepted. The kernel's own limit is the one that counts.
const WAITING: i32 = 4096;

/// Sockets that listen.
#[derive(Debug)]
pub struct Listening {
    /// The sockets, at most [`MAX_LISTENERS`]. They do not block, and are closed when a program is
    /// executed.
    pub sockets: Vec<OwnedFd>,
    /// Their port, if it is a TCP port.
    pub port: u16,
    /// The file of a Unix socket.
    pub file: Option<SocketFile>,
}

/// The file of a Unix socket. Dropped, it is removed, unless another one has taken its place.
///
/// It is found through its directory as it was opened, and not by its path: who removes it may live
/// in other namespaces than who made it, and removes nothing that the other could not reach.
#[derive(Debug)]
pub struct SocketFile {
    directory: OwnedFd,
    name: SocketFileName,
}

impl SocketFile {
    /// The file of this name that somebody else has made in this directory. `None` if the name could
    /// lead out of the directory.
    pub fn named(name: SocketFileName, directory: OwnedFd) -> Option<SocketFile> {
        let is_plain = !matches!(&name.name[..], b"" | b"." | b"..")
            && !name.name.iter().any(|byte| matches!(byte, b'/' | 0));
        is_plain.then_some(SocketFile { directory, name })
    }

    /// Leaves the file to somebody else, who needs its directory as well.
    ///
    /// # Errors
    /// If there are no more descriptors. Then the file is removed.
    pub fn leave(mut self) -> io::Result<(SocketFileName, OwnedFd)> {
        let directory = self.directory.try_clone()?;
        // A file without a name is not removed.
        Ok((std::mem::take(&mut self.name), directory))
    }

    fn of(path: &Path) -> io::Result<SocketFile> {
        let name = path.file_name().ok_or(Errno::ISDIR)?.as_bytes().to_vec();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = parent.unwrap_or(Path::new("."));
        let directory = rustix::fs::open(parent, flags, Mode::empty())?;
        let found = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let name = SocketFileName { name, device: found.st_dev, inode: found.st_ino };
        Ok(SocketFile { directory, name })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let SocketFileName { name, device, inode } = &self.name;
        let found = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_it = found.is_ok_and(|found| {
            FileType::from_raw_mode(found.st_mode) == FileType::Socket
                && (found.st_dev, found.st_ino) == (*device, *inode)
        });
        if is_it {
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

/// Listens. Of several addresses, those that there are not here are left out. `resolve` looks a
/// name up that is no address.
///
/// The umask of the process is changed for a moment if it is a Unix socket.
///
/// # Errors
/// One line in the words of `ssh`, such as `bind [127.0.0.1]:80: Permission denied`.
pub fn listen(
    listen: &Listen,
    resolve: impl FnOnce(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Listening, String> {
    match &listen.address {
        ListenAddress::Tcp { host, port } => {
            let addresses = match host.as_deref() {
                None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                Some("") => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
                Some(host) => match host.parse() {
                    Ok(address) => vec![address],
                    Err(_) => resolve(host).map_err(|error| {
                        format!("bind {}: {error}", printable::word(host, printable::MAX_LINE))
                    })?,
                },
            };
            ports(&addresses, *port)
        }
        ListenAddress::Unix(path) => {
            let path = Path::new(OsStr::from_bytes(path));
            let (socket, file) = unix(path, listen).map_err(|error| {
                let shown = path.to_string_lossy();
                format!("unix_listener: cannot bind to path {shown}: {}", without_number(&error))
            })?;
            Ok(Listening { sockets: vec![socket], port: 0, file: Some(file) })
        }
    }
}

/// Listens on a port of as many of these addresses as can be, of which there is one at least.
fn ports(addresses: &[IpAddr], port: u16) -> Result<Listening, String> {
    let mut listening = Listening { sockets: Vec::new(), port, file: None };
    let mut failure = None;
    for &address in addresses.iter().take(MAX_LISTENERS) {
        // If the first address has got a port that was free, the others have the same one.
        match tcp(SocketAddr::new(address, listening.port)) {
            Ok((socket, port)) => {
                listening.sockets.push(socket);
                listening.port = port;
            }
            Err(error) => {
                let why = format!("bind [{address}]:{port}: {}", without_number(&error.into()));
                failure.get_or_insert(why);
            }
        }
    }
    if listening.sockets.is_empty() {
        return Err(failure.unwrap_or_else(|| "bind: it has no address".to_owned()));
    }
    Ok(listening)
}

fn tcp(address: SocketAddr) -> Result<(OwnedFd, u16), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, WAITING)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

fn unix(path: &Path, listen: &Listen) -> io::Result<(OwnedFd, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    let is_socket =
        |path| std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if listen.unlink && is_socket(path) {
        let _ = std::fs::remove_file(path);
    }
    let before = rustix::process::umask(Mode::from_raw_mode(listen.mask.into()));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    let file = SocketFile::of(path)?;
    rustix::net::listen(&socket, WAITING)?;
    Ok((socket, file))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_that_leads_out_of_its_directory_is_no_name() {
        let named = |name: &[u8]| {
            let directory = std::fs::File::open("/").unwrap().into();
            let name = SocketFileName { name: name.to_vec(), ..SocketFileName::default() };
            SocketFile::named(name, directory).is_some()
        };
        assert!(named(b"socket") && named(b"...") && named(b"\xff"));
        for name in [&b""[..], b".", b"..", b"/run/socket", b"../socket", b"a/b", b"a\0"] {
            assert!(!named(name), "{name:?}");
        }
    }

    fn on(address: ListenAddress, unlink: bool) -> Result<Listening, String> {
        let nobody = |_: &str| Err(io::Error::other("nobody knows it"));
        listen(&Listen { address, unlink, mask: 0o177 }, nobody)
    }

    fn tcp(host: Option<&str>, port: u16) -> Result<Listening, String> {
        on(ListenAddress::Tcp { host: host.map(str::to_owned), port }, false)
    }

    #[test]
    fn both_families_get_the_port_that_the_first_one_got() {
        let listening = tcp(None, 0).unwrap();
        assert_ne!(listening.port, 0);
        TcpStream::connect((Ipv4Addr::LOCALHOST, listening.port)).unwrap();
        if listening.sockets.len() > 1 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, listening.port)).unwrap();
        }
        let why = tcp(Some("127.0.0.1"), listening.port).unwrap_err();
        assert_eq!(why, format!("bind [127.0.0.1]:{}: Address already in use", listening.port));
        assert_eq!(tcp(Some("web1"), 80).unwrap_err(), "bind web1: nobody knows it");
        assert!(tcp(Some(""), 0).unwrap().sockets.len() <= 2);
    }

    #[test]
    fn a_unix_socket_has_the_rights_that_the_mask_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = || ListenAddress::Unix(path.as_os_str().as_bytes().to_vec());
        let first = on(address(), false).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(on(address(), false).unwrap_err().ends_with("Address already in use"));
        let second = on(address(), true).unwrap();
        drop(first);
        assert!(path.exists(), "the file is the second one's");
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(on(address(), true).unwrap_err().ends_with("Address already in use"));
    }
}
