//! Many bytes and many streams, and readers that stop.

use std::net::{Shutdown, TcpListener};

use fakessh_lab::{Lab, pattern};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{echo, peer, rest};
use crate::{Holder, remote, soon};

const BULK: u64 = 64 * 1024 * 1024;

#[tokio::test]
async fn bulk_goes_both_ways_at_once_and_arrives_byte_for_byte() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Here).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Beside the runtime, which sends as long as nobody blocks it.
    let served = tokio::task::spawn_blocking(move || {
        let socket = listener.accept().unwrap().0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pattern::write(&socket, BULK).unwrap();
                socket.shutdown(Shutdown::Write).unwrap();
            });
            pattern::check(&socket).unwrap()
        })
    });
    let stream = soon(context.tcp("127.0.0.1", port)).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut outgoing = Vec::new();
    pattern::write(&mut outgoing, BULK).unwrap();
    let write = async {
        writer.write_all(&outgoing).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut incoming = Vec::new();
    let ((), read) = soon(async { tokio::join!(write, reader.read_to_end(&mut incoming)) }).await;
    assert_eq!(read.unwrap() as u64, BULK);
    assert_eq!(pattern::check(&incoming[..]).unwrap(), BULK);
    assert_eq!(soon(served).await.unwrap(), BULK);
}

#[tokio::test]
async fn two_hundred_streams_run_at_once_and_an_unread_one_stops_itself_alone() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Here).await;
    let sends = peer(async |mut socket| while socket.write_all(&[0; 65536]).await.is_ok() {}).await;
    let unread = soon(context.tcp("127.0.0.1", sends.0)).await.unwrap();
    let port = echo().await;
    let opening = (0..200).map(|number| {
        let context = context.clone();
        tokio::spawn(async move { (number, context.tcp("127.0.0.1", port).await.unwrap()) })
    });
    let mut streams = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        streams.push(soon(opened).await.unwrap());
    }
    for (number, stream) in &mut streams {
        soon(stream.write_all(format!("{number}\n").as_bytes())).await.unwrap();
    }
    for (number, stream) in &mut streams {
        let expected = format!("{number}\n");
        let mut text = vec![0; expected.len()];
        soon(stream.read_exact(&mut text)).await.unwrap();
        assert_eq!(text, expected.as_bytes());
    }
    for (_, mut stream) in streams {
        soon(stream.shutdown()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    }
    drop(unread);
    soon(sends.1).await.unwrap();
    assert_eq!(lab.logins(), 1);
}
