//! Large streams.

use std::time::Instant;

use bytes::Bytes;
use fakessh::hop::ssh::SshConnection;

use crate::lab::{Lab, output};

const CHUNK: usize = 256 * 1024;

/// Bytes that differ from place to place, so that a lost or doubled packet shows.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from / 4..(from + length) / 4).flat_map(|word| (word as u32).to_be_bytes()).collect()
}

/// Sends `total` bytes through a command and returns what it printed.
async fn send(connection: &SshConnection, command: &str, total: usize) -> Vec<u8> {
    let mut stream = connection.exec(command.into()).await.unwrap();
    let outgoing = std::mem::replace(&mut stream.outgoing, tokio::sync::mpsc::channel(1).0);
    let sending = tokio::spawn(async move {
        let zeros = Bytes::from(vec![0; CHUNK]);
        for start in (0..total).step_by(CHUNK) {
            let bytes = if total > 1 << 30 { zeros.clone() } else { pattern(start, CHUNK).into() };
            outgoing.send(bytes).await.unwrap();
        }
    });
    let printed = crate::lab::read_all(&mut stream).await;
    sending.await.unwrap();
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_crosses_key_exchanges_unharmed() {
    let Some(lab) = Lab::start("RekeyLimit 4M") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    let total = 48 << 20;
    let file = lab.path("received");
    let command = format!("cat > {}; echo done", file.display());
    assert_eq!(send(&connection, &command, total).await, b"done\n");
    assert!(std::fs::read(&file).unwrap() == pattern(0, total), "sent bytes differ");
    let mut stream = connection.exec(format!("cat {}", file.display()).into()).await.unwrap();
    assert!(crate::lab::read_all(&mut stream).await == pattern(0, total), "received bytes differ");
    assert_eq!(output(&connection, "echo alive").await, "alive\n");
}

/// Prints what a connection carries; to be run in a release build, by name.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput() {
    let Some(lab) = Lab::start("") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    let gib: f64 = std::env::var("GIB").map_or(2.5, |gib| gib.parse().unwrap());
    let total = (gib * f64::from(1 << 30)) as usize;
    let start = Instant::now();
    send(&connection, "cat > /dev/null", total).await;
    eprintln!("up   {:.0} MB/s", total as f64 / 1e6 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    let mut stream = connection.exec(format!("head -c {total} /dev/zero").into()).await.unwrap();
    let (mut received, mut chunks) = (0, 0);
    while let Some(bytes) = stream.incoming.recv().await {
        received += bytes.len();
        chunks += 1;
    }
    assert_eq!(received, total);
    eprintln!(
        "down {:.0} MB/s in chunks of {}",
        total as f64 / 1e6 / start.elapsed().as_secs_f64(),
        received / chunks
    );
    let start = Instant::now();
    for _ in 0..100 {
        output(&connection, "true").await;
    }
    eprintln!("a command on a channel of its own: {:.2} ms", start.elapsed().as_secs_f64() * 10.0);
    let mut stream = connection.exec(b"cat".to_vec()).await.unwrap();
    let start = Instant::now();
    for _ in 0..2000 {
        stream.outgoing.send(Bytes::from_static(b"x")).await.unwrap();
        stream.incoming.recv().await.unwrap();
    }
    eprintln!("a byte there and back: {:.1} us", start.elapsed().as_secs_f64() * 500.0);
    let start = Instant::now();
    for _ in 0..10 {
        lab.connect(&[]).await.unwrap();
    }
    eprintln!("a login with ssh -G: {:.1} ms", start.elapsed().as_secs_f64() * 100.0);
    let resolved = lab.resolved(&[]).await;
    let caller = lab.caller();
    let start = Instant::now();
    for _ in 0..10 {
        let via = fakessh::hop::ssh::Via::Tcp;
        SshConnection::connect(&resolved, via, &caller).await.unwrap();
    }
    eprintln!("a login: {:.1} ms", start.elapsed().as_secs_f64() * 100.0);
}
