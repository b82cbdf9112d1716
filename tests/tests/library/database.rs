//! A database behind a socket that only root, or only a container has: a protocol that knows nothing of fakessh, over a stream.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fakessh::{ErrorKind, Stream};
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::{has, root_for};
use fakessh_lab::{Container, Lab, Running, pattern, root};
use futures_util::{SinkExt, StreamExt as _};
use redis_protocol::codec::Resp2;
use redis_protocol::resp2::types::BytesFrame;
use tokio_util::codec::Framed;

use crate::{Holder, library, soon};

/// Starts Redis in a directory that only root may enter, with its socket there.
fn start(lab: &Lab, dir: &Path) -> Running {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
    let words = ["redis-server", "--port", "0", "--save", "", "--unixsocket", "socket"];
    let running = lab.program(words).directory(dir).start();
    running.wait_for_output("eady to accept connections");
    running
}

fn command(words: &[&[u8]]) -> BytesFrame {
    let words = words.iter().map(|word| BytesFrame::BulkString(word.to_vec().into()));
    BytesFrame::Array(words.collect())
}

async fn ask(redis: &mut Framed<Stream, Resp2>, words: &[&[u8]]) -> BytesFrame {
    soon(redis.send(command(words))).await.unwrap();
    soon(redis.next()).await.expect("an answer").unwrap()
}

#[tokio::test]
async fn a_database_that_only_root_reaches_answers_behind_sudo() {
    if !root_for("rules of sudo") || !has("redis-server") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let dir = lab.local_dir("redis");
    let _redis = start(&lab, &dir);
    let socket = dir.join("socket");
    let fakessh = library(&lab, Holder::Here).await;
    let account = soon(fakessh.connect("remote")).await.unwrap();
    assert_eq!(soon(account.unix(&socket)).await.unwrap_err().kind(), ErrorKind::Refused);
    let root = soon(fakessh.connect("remote+sudo")).await.unwrap();
    talk(soon(root.unix(&socket)).await.unwrap()).await;
    fakessh.close().await;
}

#[tokio::test]
async fn a_database_in_a_container_answers_by_its_path_there() {
    if !root_for("a container") || !has("redis-server") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let place = lab.dir().join("root");
    root::make(&place);
    let dir = place.join("srv/redis");
    std::fs::create_dir(&dir).unwrap();
    let container = Container::start(&lab, &place);
    let _redis = start(&lab, &dir);
    let fakessh = library(&lab, Holder::Here).await;
    let route = format!("remote+sudo+nsenter:{}", container.pid());
    let inside = soon(fakessh.connect(&route)).await.unwrap();
    talk(soon(inside.unix("/srv/redis/socket")).await.unwrap()).await;
    fakessh.close().await;
}

/// Has Redis keep a large value, and asks a lot before it reads an answer.
async fn talk(stream: Stream) {
    let mut redis = Framed::new(stream, Resp2::default());
    let mut value = Vec::new();
    pattern::write(&mut value, 8 << 20).unwrap();
    let ok = BytesFrame::SimpleString("OK".into());
    assert_eq!(ask(&mut redis, &[b"SET", b"key", &value]).await, ok);
    let kept = ask(&mut redis, &[b"GET", b"key"]).await;
    assert!(kept == BytesFrame::BulkString(value.into()), "the value was changed");

    // A thousand questions before the first answer is read.
    for _ in 0..1000 {
        soon(redis.feed(command(&[b"INCR", b"count"]))).await.unwrap();
    }
    soon(SinkExt::<BytesFrame>::flush(&mut redis)).await.unwrap();
    for number in 1..=1000 {
        let answer = soon(redis.next()).await.unwrap().unwrap();
        assert_eq!(answer, BytesFrame::Integer(number));
    }
    // The server ends the connection, which is a clean end.
    assert_eq!(ask(&mut redis, &[b"QUIT"]).await, ok);
    assert!(soon(redis.next()).await.is_none());
}
