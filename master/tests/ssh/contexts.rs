//! The library as an orchestration tool uses it: contexts, programs in them, one login for all.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fakessh::context::{ContextError, Registry};
use fakessh::hop::ssh::ConnectError;
use fakessh::{ErrorKind, Stdio};
use fakessh_lab::GUARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::Lab;

fn logins(lab: &Lab) -> usize {
    lab.log().matches("Accepted publickey").count()
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_login() {
    let Some(lab) = Lab::start("MaxSessions 1") else { return };
    let registry = Registry::default();
    let target = Arc::new(lab.target(&["StrictHostKeyChecking=yes"]));
    let tasks = (0..20).map(|number| {
        let (registry, target, caller) = (registry.clone(), target.clone(), lab.caller());
        tokio::spawn(async move {
            let context = registry.context(&*target, &caller).await.unwrap();
            let context = fakessh::Context::from(context);
            context.shell(format!("echo {number}; exit {number}")).output().await.unwrap()
        })
    });
    for (number, task) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
        let output = tokio::time::timeout(GUARD, task).await.expect("hangs").unwrap();
        assert_eq!(output.status.code(), Some(number as i32));
        assert_eq!(output.stdout, format!("{number}\n").into_bytes());
    }
    assert_eq!(logins(&lab), 1);
    let contexts = registry.contexts();
    assert_eq!((contexts.len(), contexts[0].served(), contexts[0].sessions()), (1, 20, 0));
    registry.close_all().await;
    assert!(registry.contexts().is_empty());
}

#[tokio::test]
async fn a_program_is_fed_read_and_asked_for_its_end() {
    let Some(lab) = Lab::start("") else { return };
    let registry = Registry::default();
    let context =
        registry.context(&lab.target(&["StrictHostKeyChecking=yes"]), &lab.caller()).await.unwrap();

    let context = fakessh::Context::from(context);
    let command = context.shell("read a; echo got $a $MINE; exec sort").env("MINE", "x y");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\nb\na\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).await.unwrap();
    assert_eq!(printed, "got first x y\na\nb\n");
    assert!(child.wait().await.unwrap().success());

    let killed = context.shell("kill -TERM $$").output().await.unwrap();
    assert_eq!((killed.status.signal(), killed.status.shell_code()), (Some(15), 143));
    let refused = context.subsystem("no-such").output().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
}

#[tokio::test]
async fn a_lost_connection_is_told_from_an_end_and_the_next_one_is_new() {
    let Some(mut lab) = Lab::start("") else { return };
    let registry = Registry::default();
    let target = lab.target(&["StrictHostKeyChecking=yes"]);
    let context = registry.context(&target, &lab.caller()).await.unwrap();
    let held = context.clone();
    let context = fakessh::Context::from(context);
    let mut child = context.command("sleep").arg("1000").stdout(Stdio::piped()).spawn().unwrap();
    lab.restart("");
    let lost = tokio::time::timeout(GUARD, child.wait()).await.expect("hangs").unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
    // The loss is no end of the output.
    let cut = child.stdout.take().unwrap().read_u8().await.unwrap_err();
    assert_eq!(cut.to_string(), "the stream was cut: bytes are missing");
    assert!(held.is_lost());
    assert!(context.command("true").output().await.is_err());

    let again = registry.context(&target, &lab.caller()).await.unwrap();
    let again = fakessh::Context::from(again);
    assert_eq!(again.shell("echo back").output().await.unwrap().stdout, b"back\n");
}

#[tokio::test]
async fn a_login_that_takes_longer_than_connect_timeout_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (begun, gate) = (directory.path().join("begun"), directory.path().join("gate"));
    Command::new("mkfifo").arg(&gate).status().unwrap();
    let slow = format!(
        "ForceCommand : >{}; read x <{}; exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
        begun.display(),
        gate.display()
    );
    let Some(lab) = Lab::start(&slow) else { return };
    let caller = lab.caller();
    // The keys have to be exchanged within the limit, however slow this machine is.
    for seconds in [1, 8, 64] {
        let target = lab.target(&[&format!("ConnectTimeout={seconds}")]);
        let registry = Registry::default();
        let (seen, way) = (begun.clone(), gate.clone());
        let let_through = tokio::spawn(async move {
            while !seen.exists() {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(seconds * 1000 + 500)).await;
            let gate = File::options().read(true).write(true).open(&way).unwrap();
            // Where it takes too long for a slave, the session below comes through by itself.
            (&gate).write_all(b"\n\n").unwrap();
            gate
        });
        let reached = registry.context(&target, &caller).await;
        let context = match reached {
            Err(ContextError::Connect(error))
                if matches!(*error, ConnectError::TimedOut { .. }) && !begun.exists() =>
            {
                let_through.abort();
                continue;
            }
            reached => reached.unwrap(),
        };
        let context = fakessh::Context::from(context);
        let up = context.shell("echo up");
        let printed = tokio::time::timeout(GUARD, up.output()).await.expect("hangs");
        assert_eq!(printed.unwrap().stdout, b"up\n");
        return;
    }
    panic!("no keys were exchanged in a minute");
}

#[tokio::test]
async fn a_registry_that_shuts_down_ends_attempts_and_makes_no_more() {
    let Some(lab) = Lab::start("") else { return };
    let silent = Lab::without_server();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", silent.port)).await.unwrap();
    let registry = Registry::default();
    let held = registry.context(&lab.target(&[]), &lab.caller()).await.unwrap();
    let attempt = tokio::spawn({
        let (registry, target, caller) = (registry.clone(), silent.target(&[]), silent.caller());
        async move { registry.context(&target, &caller).await }
    });
    let mut stream = listener.accept().await.unwrap().0;
    tokio::time::timeout(GUARD, registry.shut_down()).await.expect("hangs");
    assert!(held.is_lost());
    let error = tokio::time::timeout(GUARD, attempt).await.expect("hangs").unwrap().unwrap_err();
    assert!(matches!(error, ContextError::Closing), "{error}");
    // Its connection is gone, too.
    let mut greeting = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut greeting);
    let _ = tokio::time::timeout(GUARD, read).await.expect("still connected");
    let error = registry.context(&lab.target(&[]), &lab.caller()).await.unwrap_err();
    assert!(matches!(error, ContextError::Closing), "{error}");
}

#[tokio::test]
async fn what_the_configuration_asks_for_in_vain_is_said_to_each_who_asks() {
    let Some(lab) = Lab::start("") else { return };
    let registry = Registry::default();
    let target = lab.target(&["ForwardX11=yes", "Tunnel=yes"]);
    for _ in 0..2 {
        registry.context(&target, &lab.caller()).await.unwrap();
    }
    let seen = lab.person.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let words = "asks for ForwardX11, Tunnel for 127.0.0.1";
    assert!(seen.iter().all(|said| said.contains(words)), "{seen:?}");
    assert_eq!(registry.contexts().len(), 1);
}
