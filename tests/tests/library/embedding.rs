//! The program that the library is a part of: its runtime, and its forks.

use std::io::ErrorKind as IoErrorKind;

use fakessh::{ErrorKind, Stdio};
use fakessh_lab::process::Process;
use fakessh_lab::{GUARD, Lab};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::runtime::{Builder, Runtime};

use crate::{Holder, remote, soon, sys};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn what_a_runtime_leaves_behind_is_lost_and_hangs_nobody() {
    for holder in [Holder::Here, Holder::Shared] {
        eprintln!("connections are held: {holder:?}");
        let lab = Lab::start();
        let first = runtime();
        let (context, mut child, program) = first.block_on(async {
            let context = remote(&lab, holder).await;
            let command = context.shell("echo $$; exec sleep 1000");
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
            let pid = soon(lines.next_line()).await.unwrap().unwrap();
            (context, child, Process::open(pid.parse().unwrap()).unwrap())
        });
        drop(first);
        assert!(program.wait(GUARD), "{} runs on", program.command);
        runtime().block_on(async {
            let lost = soon(child.wait()).await.unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
            let mut stdout = child.stdout.take().unwrap();
            assert!(soon(stdout.read_u8()).await.is_err(), "a good end of what was cut");
            drop((child, stdout));
            let lost = match context.command("true").stdin(Stdio::null()).spawn() {
                Ok(mut child) => soon(child.wait()).await.unwrap_err(),
                Err(lost) => lost,
            };
            assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
            let lost = soon(context.lost()).await;
            assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
            soon(context.close()).await;
        });
    }
}

#[tokio::test]
async fn a_fork_of_the_program_changes_nothing_for_it() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Here).await;
    let command = || context.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command().spawn().unwrap();
    // Holds copies of all descriptors, and does nothing.
    let forked = sys::fork();
    let mut stdin = child.stdin.take().unwrap();
    soon(stdin.write_all(b"after the fork")).await.unwrap();
    drop(stdin);
    let output = soon(child.wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"after the fork"[..]));
    // Its end is not that of the connection.
    let mut child = command().spawn().unwrap();
    drop(forked);
    assert!(soon(context.command("true").status()).await.unwrap().success());
    let mut stdin = child.stdin.take().unwrap();
    stdin.shutdown().await.unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let end = soon(stdout.read_u8()).await.unwrap_err();
    assert_eq!(end.kind(), IoErrorKind::UnexpectedEof);
    assert!(soon(child.wait()).await.unwrap().success());
}
