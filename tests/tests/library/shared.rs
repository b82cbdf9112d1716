//! What is only so for connections of the user's master.

use std::io::ErrorKind as IoErrorKind;
use std::os::fd::OwnedFd;

use fakessh::{ErrorKind, Stdio};
use fakessh_lab::Lab;
use fakessh_lab::process::Process;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::{Holder, remote, soon};

#[tokio::test]
async fn a_connection_is_that_of_the_command_line_and_outlives_the_library() {
    let lab = Lab::start();
    lab.fakessh(["connect", "-F", lab.config_path().to_str().unwrap(), "remote"])
        .run()
        .expect_status(0);
    let context = remote(&lab, Holder::Shared).await;
    assert!(soon(context.command("true").status()).await.unwrap().success());
    drop(context);
    assert_eq!(lab.logins(), 1);
    let listed = lab.fakessh(["ls", "--json"]).run().expect_status(0).out();
    assert!(listed.contains("\"remote\""), "{listed}");
}

#[tokio::test]
async fn a_program_goes_on_without_the_context_that_it_was_started_in() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Shared).await;
    let command = context.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(context);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    soon(stdin.write_all(b"still here")).await.unwrap();
    drop(stdin);
    let mut text = String::new();
    soon(stdout.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "still here");
    assert!(soon(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn the_end_of_the_master_is_the_loss_of_all() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Shared).await;
    let command = context.shell("echo up; sleep 1000").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 3];
    soon(stdout.read_exact(&mut line)).await.unwrap();
    let master: Process = lab.master();
    master.kill();
    let cut = soon(stdout.read_u8()).await.unwrap_err();
    assert_eq!(cut.kind(), IoErrorKind::UnexpectedEof);
    assert!(cut.to_string().contains("was cut"), "{cut}");
    assert_eq!(soon(child.wait()).await.unwrap_err().kind(), ErrorKind::ConnectionLost);
    let lost = soon(context.lost()).await;
    assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
    let error = context.command("true").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    // The next one is started.
    let again = remote(&lab, Holder::Shared).await;
    assert!(soon(again.command("true").status()).await.unwrap().success());
}

#[tokio::test]
async fn a_program_that_is_let_go_of_runs_on() {
    let lab = Lab::start();
    let context = remote(&lab, Holder::Shared).await;
    let (reader, writer) = std::io::pipe().unwrap();
    let command = context.shell("echo $$; read x").stdin(OwnedFd::from(reader));
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = soon(lines.next_line()).await.unwrap().unwrap();
    child.detach();
    drop((context, lines));
    let context = remote(&lab, Holder::Shared).await;
    let alive = context.command("kill").args(["-0", &pid]).stderr(Stdio::null());
    assert!(soon(alive.status()).await.unwrap().success(), "it was hung up");
    drop(writer);
    let gone = format!("while kill -0 {pid} 2>/dev/null; do sleep 0.05; done");
    assert!(soon(context.shell(gone).status()).await.unwrap().success());
}

#[tokio::test]
async fn input_that_is_cut_is_not_taken_for_the_whole() {
    for holder in [Holder::Here, Holder::Shared] {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let dir = lab.local_dir("files");
        let whole = dir.join("whole");
        let line = format!("cat >/dev/null && touch {}", whole.display());
        let command = context.shell(line).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        soon(stdin.write_all(b"half")).await.unwrap();
        stdin.abort();
        let status = soon(child.wait()).await;
        assert!(!status.is_ok_and(|status| status.success()), "{holder:?}");
        assert!(!whole.exists(), "{holder:?}");
    }
}

#[tokio::test]
async fn a_library_without_the_program_says_what_to_do() {
    let lab = Lab::start();
    let builder = fakessh::Fakessh::builder().program("/nonexistent/fakessh");
    let error = soon(builder.directory(lab.fakessh_dir()).shared()).await.unwrap_err();
    assert!(error.to_string().contains("install fakessh"), "{error}");
}
