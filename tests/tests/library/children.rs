//! Programs: their streams, their ends, and the loss of the connection, each told from the others.

use std::io::ErrorKind as IoErrorKind;

use fakessh::{ErrorKind, Signal, Stdio};
use fakessh_lab::Lab;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::{library, remote, soon, with_both};

#[tokio::test]
async fn arguments_arrive_as_they_are_and_a_line_is_read_by_a_shell() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let words = ["two words", "$HOME", "it's", "*", "", "a\nb"];
        let output =
            soon(context.command("printf").arg("<%s>").args(words).output()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "<two words><$HOME><it's><*><><a\nb>");
        let output = context.shell("printf %s-").arg("it's $HOME").env("A", "b c").output();
        assert_eq!(soon(output).await.unwrap().stdout, b"it's $HOME-");
        let output =
            context.shell("echo \"$A\" >&2; exit 7").envs([("A", "x"), ("A", "b c")]).output();
        let output = soon(output).await.unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(7), b"b c\n".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn a_program_starts_in_its_directory() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let shown = async |directory: &str| {
            let output = soon(context.command("pwd").current_dir(directory).output()).await;
            output.map(|output| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
        };
        let home = shown(".").await.unwrap();
        soon(context.shell("mkdir -p 'a b/c'; touch file").status()).await.unwrap();
        assert_eq!(shown("a b/c").await.unwrap(), format!("{home}/a b/c"));
        assert_eq!(shown("/").await.unwrap(), "/");
        let line = soon(context.shell("pwd; cd").current_dir("a b").output()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&line.stdout), format!("{home}/a b\n"));
        for (directory, kind) in [
            ("no such", ErrorKind::NotFound),
            ("file", ErrorKind::NotFound),
            ("a\0b", ErrorKind::Config),
        ] {
            let error = shown(directory).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{directory:?}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_no_kernel_takes_is_an_error_before_anything_starts() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        for command in [
            context.command("echo").arg("a\0b"),
            context.shell("echo a\0b"),
            context.command("echo").env("A=B", "c"),
            context.command("echo").env("", "c"),
            context.command("echo").env("A", "\0"),
        ] {
            assert_eq!(command.spawn().unwrap_err().kind(), ErrorKind::Config);
        }
        let error = soon(context.command("no-such-program").status()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let error = soon(context.subsystem("no-such").output()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_name_that_is_too_long_ends_nobody_elses_program() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let other = context.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let other = other.spawn().unwrap();
        let name = "x".repeat(20_000);
        for command in [context.command(&name), context.subsystem(&name)] {
            let error = soon(command.stdin(Stdio::null()).output()).await.unwrap_err();
            assert_ne!(error.kind(), ErrorKind::ConnectionLost, "{:.200}", error.to_string());
        }
        assert!(soon(other.wait_with_output()).await.unwrap().status.success());
    })
    .await;
}

#[tokio::test]
async fn the_end_of_output_is_not_the_end_of_the_program() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let command = context.shell("echo up; exec >&- 2>&-; read line; exit 5");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        soon(child.stdout.take().unwrap().read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "up\n");
        let mut stdin = child.stdin.take().unwrap();
        // It runs on, and a wait for it can be given up.
        tokio::select! {
            biased;
            status = child.wait() => panic!("it has ended: {status:?}"),
            () = tokio::task::yield_now() => {}
        }
        soon(stdin.write_all(b"go\n")).await.unwrap();
        assert_eq!(soon(child.wait()).await.unwrap().code(), Some(5));
        assert_eq!(soon(child.wait()).await.unwrap().code(), Some(5), "told again");
    })
    .await;
}

#[tokio::test]
async fn a_look_at_a_program_waits_for_nothing_and_leaves_its_input_open() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let command = context.shell("read line; echo \"$line\"; exit 5");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        soon(child.stdin.as_mut().unwrap().write_all(b"go\n")).await.unwrap();
        let mut text = String::new();
        soon(child.stdout.as_mut().unwrap().read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "go\n");
        let status = soon(async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(status.await.code(), Some(5));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(5), "told again");
        let mut missing = context.command("no-such-program").stdin(Stdio::null()).spawn().unwrap();
        let error = soon(async {
            loop {
                match missing.try_wait() {
                    Ok(None) => tokio::task::yield_now().await,
                    Ok(Some(status)) => panic!("{status:?}"),
                    Err(error) => break error,
                }
            }
        });
        assert_eq!(error.await.kind(), ErrorKind::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_program_that_closes_its_input_early_ends_well() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let command = context.shell("exec <&-; echo closed; sleep 0.2; exit 0");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        soon(stdin.closed()).await;
        let piece = vec![0; 1 << 20];
        let error = soon(async {
            loop {
                stdin.write_all(&piece).await?
            }
        });
        let error: std::io::Error = match error.await {
            Err(error) => error,
            Ok(()) => unreachable!(),
        };
        assert_eq!(error.kind(), IoErrorKind::BrokenPipe);
        assert!(soon(child.wait()).await.unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn the_loss_of_the_connection_is_no_end() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let command = context.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        soon(stdin.write_all(b"here\n")).await.unwrap();
        let mut line = [0; 5];
        soon(stdout.read_exact(&mut line)).await.unwrap();
        lab.kill_connections();
        let cut = soon(stdout.read_u8()).await.unwrap_err();
        assert_eq!(cut.kind(), IoErrorKind::UnexpectedEof);
        assert!(cut.to_string().contains("was cut"), "{cut}");
        let lost = soon(child.wait()).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
        assert!(lost.is_retryable());
        soon(stdin.closed()).await;
    })
    .await;
}

#[tokio::test]
async fn signals_and_drops_end_programs() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let child = || context.command("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let mut signalled = child();
        signalled.signal(Signal::TERM);
        assert_eq!(soon(signalled.wait()).await.unwrap().signal(), Some(15));
        let mut killed = child();
        killed.kill();
        assert_eq!(soon(killed.wait()).await.unwrap().signal(), Some(9));
        let command = context.shell("echo $$; exec sleep 1000").stdin(Stdio::null());
        let mut dropped = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(dropped.stdout.take().unwrap()).lines();
        let pid = soon(lines.next_line()).await.unwrap().unwrap();
        drop(dropped);
        let gone = format!("while kill -0 {pid} 2>/dev/null; do sleep 0.05; done");
        assert!(soon(context.shell(gone).status()).await.unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn a_signal_right_after_the_start_reaches_the_program() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        for _ in 0..50 {
            let command = context.command("sleep").arg("1000").stdin(Stdio::null());
            let mut child = command.spawn().unwrap();
            child.signal(Signal::TERM);
            assert_eq!(soon(child.wait()).await.unwrap().signal(), Some(15));
        }
    })
    .await;
}

#[tokio::test]
async fn descriptors_of_this_process_are_streams_of_a_program() {
    with_both(async |holder| {
        let lab = Lab::start();
        let context = remote(&lab, holder).await;
        let dir = lab.local_dir("files");
        std::fs::write(dir.join("in"), "some text").unwrap();
        let input = std::fs::File::open(dir.join("in")).unwrap();
        let output = std::fs::File::create(dir.join("out")).unwrap();
        let command = context.command("tr").args(["a-z", "A-Z"]).stdin(input).stdout(output);
        assert!(soon(command.status()).await.unwrap().success());
        assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "SOME TEXT");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let command = context.shell("echo x; echo y >&2").stdin(Stdio::null()).stdout(full);
        let nowhere = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let mut child = command.stderr(nowhere).spawn().unwrap();
        // Looks while one of the two outputs has failed, and the other not ended, keep the failure.
        let error = soon(async {
            loop {
                match child.try_wait() {
                    Ok(None) => tokio::task::yield_now().await,
                    other => break other,
                }
            }
        });
        assert!(error.await.is_err());
        assert!(soon(child.wait()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_thousand_children_run_at_once() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let context = soon(fakessh.connect("remote")).await.unwrap();
        let mut children = Vec::new();
        for _ in 0..1000 {
            let command = context.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
            children.push(command.stderr(Stdio::null()).spawn().unwrap());
        }
        // One that nobody reads stops itself alone.
        let command = context.command("cat").arg("/dev/zero").stdin(Stdio::null());
        let unread = command.stdout(Stdio::piped()).spawn().unwrap();
        for (number, child) in children.iter_mut().enumerate() {
            let mut stdin = child.stdin.take().unwrap();
            soon(stdin.write_all(format!("{number}\n").as_bytes())).await.unwrap();
        }
        for (number, mut child) in children.into_iter().enumerate() {
            let mut text = String::new();
            soon(child.stdout.take().unwrap().read_to_string(&mut text)).await.unwrap();
            assert_eq!(text, format!("{number}\n"));
            assert!(soon(child.wait()).await.unwrap().success());
        }
        drop(unread);
        assert_eq!(lab.logins(), 1);
        fakessh.close().await;
    })
    .await;
}
