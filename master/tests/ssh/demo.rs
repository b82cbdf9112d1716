//! The server inside the process.

use bytes::Bytes;
use fakessh::demo::server::{ClientKey, DemoServer};
use fakessh::hop::ssh::{ProgramEnd, SshConnection, Via};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::ProgramKind;

use crate::lab::{GUARD, Lab, output, read_all};

async fn connect(lab: &Lab, server: &DemoServer) -> SshConnection {
    std::fs::write(lab.path("known"), server.known_hosts_line().unwrap()).unwrap();
    let mut resolved = lab.resolved(&["StrictHostKeyChecking=yes"]).await;
    resolved.port = server.address().port();
    let caller = lab.caller();
    let connect = SshConnection::connect(&resolved, Via::Tcp, &caller);
    tokio::time::timeout(GUARD, connect).await.expect("hangs").unwrap()
}

async fn start(lab: &Lab) -> DemoServer {
    let key = ClientKey::generate().unwrap();
    lab.write_private("id", &key.private_text().unwrap());
    DemoServer::start(&key).await.unwrap()
}

#[tokio::test]
async fn programs_run_on_many_channels_of_one_login() {
    let lab = Lab::without_server();
    let server = start(&lab).await;
    let connection = connect(&lab, &server).await;
    let commands = (0..20).map(|number| {
        let connection = connection.clone();
        tokio::spawn(async move {
            let printed = output(&connection, &format!("echo {number}; cat /dev/null")).await;
            assert_eq!(printed, format!("{number}\n"));
        })
    });
    for command in commands.collect::<Vec<_>>() {
        command.await.unwrap();
    }
    assert_eq!(server.logins(), 1);
    for (command, end) in [
        ("exit 7", ProgramEnd::Exited(ExitStatus::Code(7))),
        ("kill -KILL $$", ProgramEnd::Exited(ExitStatus::Signal(9))),
    ] {
        let kind = ProgramKind::Shell(command.into());
        let mut program = connection.start(&kind, &[]).await.unwrap();
        let ended = tokio::time::timeout(GUARD, program.end.wait_for(Option::is_some)).await;
        assert_eq!(*ended.unwrap().unwrap(), Some(end), "{command}");
    }
    let kind = ProgramKind::Subsystem("sftp".into());
    let mut program = connection.start(&kind, &[]).await.unwrap();
    let ended = tokio::time::timeout(GUARD, program.end.wait_for(Option::is_some)).await;
    assert_eq!(*ended.unwrap().unwrap(), Some(ProgramEnd::Refused));
    server.stop().await;
}

#[tokio::test]
async fn bytes_arrive_unchanged_both_ways_and_end_of_input_ends_the_program() {
    let lab = Lab::without_server();
    let server = start(&lab).await;
    let connection = connect(&lab, &server).await;
    let mut stream = connection.exec(b"cat".to_vec()).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let outgoing = std::mem::replace(&mut stream.outgoing, tokio::sync::mpsc::channel(1).0);
    let bytes = Bytes::from(sent.clone());
    tokio::spawn(async move {
        for start in (0..bytes.len()).step_by(100_000) {
            outgoing.send(bytes.slice(start..start + 100_000)).await.unwrap();
        }
    });
    assert!(read_all(&mut stream).await == sent);
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_connections_and_programs() {
    let lab = Lab::without_server();
    let server = start(&lab).await;
    let connection = connect(&lab, &server).await;
    std::process::Command::new("mkfifo").arg(lab.path("fifo")).status().unwrap();
    let fifo = lab.path("fifo");
    let command = format!("exec 9>{}; echo started; cat", fifo.display());
    let mut stream = connection.exec(command.into_bytes()).await.unwrap();
    let ended = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    assert_eq!(stream.incoming.recv().await.unwrap(), "started\n");
    tokio::time::timeout(GUARD, server.stop()).await.expect("does not stop");
    let lost = tokio::time::timeout(GUARD, connection.closed()).await.unwrap();
    assert_eq!(lost.message, "the demo is over");
    tokio::time::timeout(GUARD, ended).await.expect("still runs").unwrap();
}

#[tokio::test]
async fn another_key_is_refused() {
    let lab = Lab::without_server();
    let server = start(&lab).await;
    lab.write_private("id", &ClientKey::generate().unwrap().private_text().unwrap());
    let mut resolved = lab.resolved(&["StrictHostKeyChecking=no"]).await;
    resolved.port = server.address().port();
    let caller = lab.caller();
    let error = SshConnection::connect(&resolved, Via::Tcp, &caller).await.unwrap_err();
    assert!(error.to_string().contains("refused the login"), "{error}");
    assert_eq!(server.logins(), 0);
    server.stop().await;
}
