//! How streams end: by the peer's end, our own, a reset, and the loss of what carries them.

use std::io::ErrorKind as IoErrorKind;

use fakessh_lab::Lab;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{peer, rest};
use crate::{remote, soon, with_both};

#[tokio::test]
async fn the_peer_reads_our_end_at_once_and_its_bytes_still_come() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let (port, served) = peer(async |mut socket| {
            let mut text = String::new();
            socket.read_to_string(&mut text).await.unwrap();
            socket.write_all(b"an answer to all of it").await.unwrap();
            text
        })
        .await;
        let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
        soon(stream.write_all(b"a question")).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        assert_eq!(soon(served).await.unwrap(), "a question");
        assert_eq!(rest(&mut stream).await, "an answer to all of it");
        // The end is told again, and nothing more is taken.
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
        let error = soon(stream.write_all(b"more")).await.unwrap_err();
        assert_eq!(error.kind(), IoErrorKind::BrokenPipe);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_has_finished_still_hears() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let (port, served) = peer(async |mut socket| {
            socket.write_all(b"all of it").await.unwrap();
            socket.shutdown().await.unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).await.unwrap();
            text
        })
        .await;
        let mut stream = soon(context.tcp("localhost", port)).await.unwrap();
        assert_eq!(rest(&mut stream).await, "all of it");
        soon(stream.write_all(b"and more")).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        assert_eq!(soon(served).await.unwrap(), "and more");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_closes_at_once_is_a_clean_end() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let (port, served) = peer(async |socket| drop(socket)).await;
        let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
        soon(served).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    })
    .await;
}

#[tokio::test]
async fn a_reset_is_an_error_and_no_end() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let (port, served) = peer(async |mut socket| {
            socket.write_all(b"half").await.unwrap();
            socket.read_u8().await.unwrap();
            socket.set_zero_linger().unwrap();
        })
        .await;
        let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
        let mut half = [0; 4];
        soon(stream.read_exact(&mut half)).await.unwrap();
        soon(stream.write_u8(0)).await.unwrap();
        for _ in 0..2 {
            let error = soon(stream.read(&mut half)).await.unwrap_err();
            assert_eq!(error.kind(), IoErrorKind::ConnectionReset, "{error}");
            assert!(error.to_string().contains("reset by peer"), "{error}");
        }
        // The reason is known, so a writer is told it as well.
        let error = soon(async {
            loop {
                if let Err(error) = stream.write_all(&[0; 1024]).await {
                    return error;
                }
            }
        });
        assert_eq!(error.await.kind(), IoErrorKind::ConnectionReset);
        soon(served).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_loss_of_the_connection_is_no_end() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
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
        let lost = soon(context.lost()).await.to_string();
        assert!(error.to_string().contains(&lost), "{error}, and {lost}");
    })
    .await;
}

#[tokio::test]
async fn the_death_of_the_process_that_connects_is_no_end() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let (port, served) = peer(async |mut socket| {
            socket.write_all(b"half").await.unwrap();
            socket.read_to_end(&mut Vec::new()).await.is_ok()
        })
        .await;
        let before: Vec<u32> = lab.slaves().iter().map(|slave| slave.pid).collect();
        let mut stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
        let mut half = [0; 4];
        soon(stream.read_exact(&mut half)).await.unwrap();
        let new = lab.slaves().into_iter().find(|slave| !before.contains(&slave.pid)).unwrap();
        new.kill();
        let error = soon(stream.read(&mut half)).await.unwrap_err();
        assert_eq!(error.kind(), IoErrorKind::UnexpectedEof, "{error}");
        assert!(error.to_string().contains("signal: 9"), "{error}");
        soon(served).await.unwrap();
        // The slave serves on.
        assert!(soon(context.command("true").status()).await.unwrap().success());
    })
    .await;
}
