//! What is dropped at any point on its way leaves nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use fakessh::{Context, Error, Stdio};
use fakessh_lab::Lab;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{library, soon, with_both};

/// How often the same work is dropped, each time somewhere else.
const TIMES: usize = 120;

/// Most times that the work is polled before it is dropped. Some of it comes to its end.
const MOST_POLLS: usize = 24;

/// A word in the command lines of the programs, by which they are found.
const MARK: &str = "dropped-on-its-way";

/// Polls work so many times, and drops it then.
async fn dropped_after<T>(mut polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// All that a program does with another one.
async fn work(context: &Context) -> Result<(), Error> {
    let command = context.command("sh").args(["-c", "cat; : $0", MARK]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn()?;
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let _ = stdin.write_all(&vec![b'x'; 200_000]).await;
    stdin.shutdown().await.unwrap();
    let mut text = Vec::new();
    let _ = stdout.read_to_end(&mut text).await;
    child.wait().await?;
    let command = context.command("sh").args(["-c", "cat; : $0", MARK]);
    command.stdin(Stdio::null()).output().await?;
    Ok(())
}

#[tokio::test]
async fn work_that_is_dropped_anywhere_leaves_nothing() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let context = soon(fakessh.connect("remote")).await.unwrap();
        let mut done = 0;
        for time in 0..TIMES {
            let polls = 1 + time * 7 % MOST_POLLS;
            if let Some(done_so) = soon(dropped_after(polls, work(&context))).await {
                done_so.unwrap();
                done += 1;
            }
        }
        assert!(done < TIMES, "nothing was dropped");
        let count = format!("while ps -eo args | grep -q '[d]{}'; do sleep 0.05; done", &MARK[1..]);
        assert!(soon(context.command("sh").args(["-c", &count]).status()).await.unwrap().success());
        assert_eq!(lab.logins(), 1);
        let output = soon(context.command("echo").arg("alive").output()).await.unwrap();
        assert_eq!(output.stdout, b"alive\n");
    })
    .await;
}
