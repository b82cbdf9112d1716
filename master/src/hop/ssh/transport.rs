//! The byte stream below SSH: TCP, a command, or a stream through another host.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fakessh_protocol::printable;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpSocket;

use crate::ssh_config::Resolved;

use super::error::ConnectError;
use super::socket::ConnectionSocket;

/// Longest time to a finished key exchange where the user has set none.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two rounds of tries (`ConnectionAttempts`), as in ssh.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Most bytes that are kept of a banner: enough to show what answers if it is no SSH server.
const MAX_BANNER: usize = 1024;

/// Most characters of the first line that are shown: a row of a usual terminal.
const MAX_FIRST_LINE: usize = 80;

/// Anything that SSH can be spoken over.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// This machine's.
    pub local: SocketAddr,
    /// The server's.
    pub peer: SocketAddr,
}

/// A TCP connection, and what can end it from outside.
pub(super) struct Tcp {
    pub(super) stream: ConnectionSocket,
    pub(super) addresses: Addresses,
    pub(super) shutdown: ShutdownOnDrop,
}

/// A second descriptor of a socket. Dropping it shuts the socket down both ways, even if the
/// tasks that read and write it are stuck.
pub(super) struct ShutdownOnDrop(OwnedFd);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        // This fails only if the socket is down already.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// Connects to the first address that answers.
pub(super) async fn tcp(resolved: &Resolved, limit: Duration) -> Result<Tcp, ConnectError> {
    let addresses = look_up(resolved).await?;
    let mut attempt = 1;
    loop {
        let mut error = None;
        for address in &addresses {
            match connect(*address, resolved, limit).await {
                Ok(tcp) => return Ok(tcp),
                Err(failed) => error = Some(failed),
            }
        }
        match error {
            Some(error) if attempt >= resolved.connection_attempts => return Err(error),
            _ => attempt += 1,
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

async fn look_up(resolved: &Resolved) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = tokio::net::lookup_host((&*resolved.hostname, resolved.port)).await;
    let hostname = resolved.hostname.clone();
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            // What the system says stands behind what was asked.
            let error = error.to_string();
            let error = error.rsplit(": ").next().unwrap_or_default().to_owned();
            return Err(ConnectError::HostNotFound { hostname, error });
        }
    };
    let wanted = |address: &SocketAddr| resolved.address_family.has(address.ip());
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.filter(wanted) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        let error = "it has no address of the AddressFamily that is set".to_owned();
        return Err(ConnectError::HostNotFound { hostname, error });
    }
    Ok(addresses)
}

async fn connect(
    address: SocketAddr,
    resolved: &Resolved,
    limit: Duration,
) -> Result<Tcp, ConnectError> {
    let connect = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bind) = &resolved.bind_address {
            let mut found = tokio::net::lookup_host((bind.as_str(), 0)).await?;
            let local = found.find(|local| local.is_ipv4() == address.is_ipv4());
            socket.bind(local.ok_or(io::ErrorKind::AddrNotAvailable)?)?;
        }
        if let Some(interface) = &resolved.bind_interface {
            socket.bind_device(Some(interface.as_bytes())).map_err(|error| {
                let text = format!("BindInterface {interface}: {error}");
                io::Error::new(error.kind(), text)
            })?;
        }
        let stream = socket.connect(address).await?;
        // A short command must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        if resolved.tcp_keep_alive {
            rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        }
        let addresses = Addresses { local: stream.local_addr()?, peer: stream.peer_addr()? };
        let shutdown = ShutdownOnDrop(rustix::io::fcntl_dupfd_cloexec(&stream, 0)?);
        let stream = ConnectionSocket::new(stream);
        Ok::<_, io::Error>(Tcp { stream, addresses, shutdown })
    };
    let hostname = resolved.hostname.clone();
    let no_answer = |hostname| ConnectError::NoAnswer { hostname, address, limit };
    match tokio::time::timeout(limit, connect).await {
        Err(_) => Err(no_answer(hostname)),
        Ok(Ok(tcp)) => Ok(tcp),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { hostname, address },
            io::ErrorKind::TimedOut => no_answer(hostname),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ConnectError::NoRoute { hostname, address, error }
            }
            _ => ConnectError::Tcp { hostname, address, error },
        }),
    }
}

/// The lines that a server sent first, up to its identification (RFC 4253 section 4.2).
#[derive(Clone, Default)]
pub(super) struct Banner(Arc<Mutex<Vec<u8>>>);

impl Banner {
    /// The line that begins with `SSH-`, if it came.
    pub(super) fn server_id(&self) -> Option<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = seen.split(|byte| *byte == b'\n');
        let line = lines.find(|line| line.starts_with(b"SSH-"))?;
        Some(printable::word(String::from_utf8_lossy(line).trim_end(), MAX_BANNER))
    }

    /// The first line that is not empty.
    pub(super) fn first_line(&self) -> Option<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(printable::word(line, MAX_FIRST_LINE))
    }

    /// Adds received bytes; `false` if the banner is complete.
    fn add(&self, bytes: &[u8]) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_BANNER.saturating_sub(seen.len());
        seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let mut lines = seen.split_inclusive(|byte| *byte == b'\n');
        let complete = lines.any(|line| line.starts_with(b"SSH-") && line.ends_with(b"\n"));
        !complete && seen.len() < MAX_BANNER
    }
}

/// A stream that copies the server's first lines into a [`Banner`].
pub(super) struct BannerCapture {
    stream: Box<dyn Duplex>,
    banner: Option<Banner>,
}

impl BannerCapture {
    pub(super) fn new(stream: Box<dyn Duplex>, banner: Banner) -> BannerCapture {
        BannerCapture { stream, banner: Some(banner) }
    }
}

impl AsyncRead for BannerCapture {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(banner) = &self.banner
            && !banner.add(&buf.filled()[before..])
        {
            self.banner = None;
        }
        polled
    }
}

impl AsyncWrite for BannerCapture {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_ends_at_the_servers_line() {
        let banner = Banner::default();
        assert!(banner.add(b"hello\r\nSSH-2.0-x"));
        assert!(!banner.add(b"y\r\nbinary"));
        assert_eq!(banner.server_id().as_deref(), Some("SSH-2.0-xy"));
        assert_eq!(banner.first_line().as_deref(), Some("hello"));
        let endless = Banner::default();
        assert!(!endless.add(&[b'x'; 5000]));
        assert_eq!(endless.server_id(), None);
    }
}
