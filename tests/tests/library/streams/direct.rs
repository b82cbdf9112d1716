//! Streams of contexts without a slave: the SSH server connects.

use std::io::ErrorKind as IoErrorKind;

use fakessh::ErrorKind;
use fakessh_lab::port::ClosedPort;
use fakessh_lab::{Lab, LabBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::unix::echo_at;
use super::{echo, peer, rest};
use crate::{Holder, remote, soon, with_both};

/// A server that starts nothing.
fn forced() -> LabBuilder {
    Lab::builder().sshd("ForceCommand echo nothing is started here; exit 1")
}

#[tokio::test]
async fn the_ssh_server_connects_and_ends_each_way() {
    let lab = forced().start();
    let context = remote(&lab, Holder::Here).await;
    let (port, served) = peer(async |mut socket| {
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        socket.write_all(b"an answer").await.unwrap();
        text
    })
    .await;
    let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
    soon(stream.write_all(b"a question")).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    assert_eq!(soon(served).await.unwrap(), "a question");
    assert_eq!(rest(&mut stream).await, "an answer");

    let (port, served) = peer(async |mut socket| {
        socket.write_all(b"all of it").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text
    })
    .await;
    let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
    assert_eq!(rest(&mut stream).await, "all of it");
    soon(stream.write_all(b"and more")).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    assert_eq!(soon(served).await.unwrap(), "and more");

    let path = lab.remote_dir().join("socket");
    echo_at(&path, 0o666);
    let mut stream = soon(context.unix(&path)).await.unwrap();
    soon(stream.write_all(b"there and back")).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    assert_eq!(rest(&mut stream).await, "there and back");
}

#[tokio::test]
async fn what_the_ssh_server_refuses_is_an_error_with_its_reason() {
    let lab = forced().start();
    let context = remote(&lab, Holder::Here).await;
    let closed = ClosedPort::any();
    let error = soon(context.tcp("127.0.0.1", closed.number())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    let error = soon(context.unix(lab.remote_dir().join("none"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    // What was refused holds nothing up.
    let port = echo().await;
    let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(lab.logins(), 1);

    let lab = forced().sshd("AllowTcpForwarding no").start();
    let context = remote(&lab, Holder::Here).await;
    let error = soon(context.tcp("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("AllowTcpForwarding"), "{error}");
}

#[tokio::test]
async fn the_loss_of_the_connection_is_no_end_of_the_servers_either() {
    let lab = forced().start();
    let context = remote(&lab, Holder::Here).await;
    let (port, _served) = peer(async |mut socket| {
        socket.write_all(b"half").await.unwrap();
        socket.read_to_end(&mut Vec::new()).await
    })
    .await;
    let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
    let mut half = [0; 4];
    soon(stream.read_exact(&mut half)).await.unwrap();
    lab.kill_connections();
    let error = soon(stream.read(&mut half)).await.unwrap_err();
    assert_eq!(error.kind(), IoErrorKind::UnexpectedEof, "{error}");
    let lost = soon(context.lost()).await;
    assert_eq!(lost.kind(), ErrorKind::ConnectionLost);
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_for_the_peer() {
    let lab = forced().start();
    let context = remote(&lab, Holder::Here).await;
    let waits = peer(async |mut socket| socket.read_to_end(&mut Vec::new()).await.is_ok()).await;
    let sends = peer(async |mut socket| while socket.write_all(&[0; 65536]).await.is_ok() {}).await;
    let first = soon(context.tcp("127.0.0.1", waits.0)).await.unwrap();
    let mut second = soon(context.tcp("127.0.0.1", sends.0)).await.unwrap();
    soon(second.read_exact(&mut [0; 1000])).await.unwrap();
    drop((first, second));
    assert!(soon(waits.1).await.unwrap());
    soon(sends.1).await.unwrap();
    assert_eq!(lab.logins(), 1);
}

#[tokio::test]
async fn a_program_is_not_started_in_another_directory_than_it_was_asked_for() {
    let lab = forced().start();
    with_both(async |holder| {
        let context = remote(&lab, holder).await;
        let output = soon(context.command("pwd").output()).await.unwrap();
        assert_eq!(output.stdout, b"nothing is started here\n");
        let error = soon(context.command("pwd").current_dir("/tmp").output()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let expected = "remote: can't start in \"/tmp\": no slave runs there, and SSH knows no \
                        directories; use a shell's cd";
        assert_eq!(error.to_string(), expected);
    })
    .await;
}
