//! What is left of streams and attempts that are dropped: nothing.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::pin::Pin;

use fakessh::{Error, Stream};
use fakessh_lab::process::Process;
use fakessh_lab::{GUARD, Lab};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::peer;
use crate::{Holder, remote, soon};

/// How often a machine may hold up what a dropped stream has two seconds for.
const ATTEMPTS: usize = 30;

/// A peer that neither takes nor refuses a connection.
pub(super) struct FullPeer {
    port: u16,
    _socket: OwnedFd,
    _waiting: StdStream,
}

impl FullPeer {
    pub(super) fn new() -> FullPeer {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        // The listener has room for one connection that waits.
        rustix::net::listen(&socket, 0).unwrap();
        let address = SocketAddrV4::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        let waiting = StdStream::connect(address).unwrap();
        FullPeer { port: address.port(), _socket: socket, _waiting: waiting }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Drives an attempt until a process on the target is at it, and gives the process.
    pub(super) async fn until_tried(
        &self,
        lab: &Lab,
        mut attempt: Pin<&mut impl Future<Output = Result<Stream, Error>>>,
    ) -> Process {
        let before: Vec<u32> = lab.slaves().iter().map(|slave| slave.pid).collect();
        soon(async {
            loop {
                tokio::select! {
                    biased;
                    result = attempt.as_mut() => panic!("it was answered: {result:?}"),
                    () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
                }
                let new = lab.slaves().into_iter().find(|it| !before.contains(&it.pid));
                if let Some(new) = new {
                    return new;
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn nothing_is_left_of_an_attempt_that_is_given_up() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Here).await;
    let full = FullPeer::new();
    let mut attempt = Box::pin(context.tcp("127.0.0.1", full.port()));
    let process = full.until_tried(&lab, attempt.as_mut()).await;
    drop(attempt);
    let ended = tokio::task::spawn_blocking(move || process.wait(GUARD));
    assert!(soon(ended).await.unwrap(), "it goes on");
    assert!(soon(context.command("true").status()).await.unwrap().success());
}

#[tokio::test]
async fn nothing_is_left_of_a_stream_that_is_dropped() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Here).await;
    let before: Vec<u32> = lab.slaves().iter().map(|slave| slave.pid).collect();
    // Peers that wait for our end, that have ended, and that send for ever.
    let waits = peer(async |mut socket| socket.read_to_end(&mut Vec::new()).await.is_ok()).await;
    let ended = peer(async |mut socket| {
        socket.shutdown().await.unwrap();
        socket.read_to_end(&mut Vec::new()).await.is_ok()
    })
    .await;
    let sends = peer(async |mut socket| while socket.write_all(&[0; 65536]).await.is_ok() {}).await;
    let mut streams = Vec::new();
    for port in [waits.0, ended.0, sends.0] {
        streams.push(soon(context.tcp("127.0.0.1", port)).await.unwrap());
    }
    soon(streams[2].read_exact(&mut [0; 1000])).await.unwrap();
    let processes = lab.slaves().into_iter().filter(|slave| !before.contains(&slave.pid));
    let processes: Vec<Process> = processes.collect();
    assert_eq!(processes.len(), 3);
    drop(streams);
    assert!(soon(waits.1).await.unwrap() && soon(ended.1).await.unwrap());
    soon(sends.1).await.unwrap();
    let ended = tokio::task::spawn_blocking(move || processes.iter().all(|it| it.wait(GUARD)));
    assert!(soon(ended).await.unwrap(), "a process goes on");
}

#[tokio::test]
async fn what_was_written_arrives_though_the_stream_is_dropped() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Here).await;
    for _ in 0..ATTEMPTS {
        let (port, served) = peer(async |mut socket| {
            let mut text = String::new();
            let _ = socket.read_to_string(&mut text).await;
            text
        })
        .await;
        let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
        let text = "some words".repeat(10_000);
        soon(stream.write_all(text.as_bytes())).await.unwrap();
        drop(stream);
        if soon(served).await.unwrap() == text {
            return;
        }
    }
    panic!("the machine takes longer than two seconds each time");
}
