//! Ways to a server, what runs over them, and how they end.

use std::sync::Arc;

use bytes::Bytes;
use fakessh::hop::ssh::{ConnectError, ProgramEnd, SshConnection, Via};
use fakessh_lab::GUARD;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::ProgramKind;

use crate::lab::{Lab, output, read_all};

#[tokio::test]
async fn a_command_gets_its_input_and_its_output_comes_back() {
    let Some(lab) = Lab::start("") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    assert!(connection.server_id().starts_with("SSH-2.0-OpenSSH"));
    assert_eq!(connection.addresses().unwrap().peer.port(), lab.port);
    let mut stream = connection.exec(b"cat; echo error >&2; exit 3".to_vec()).await.unwrap();
    let all_bytes: Vec<u8> = (0..=255).collect();
    stream.outgoing.send(Bytes::from(all_bytes.clone())).await.unwrap();
    drop(std::mem::replace(&mut stream.outgoing, tokio::sync::mpsc::channel(1).0));
    assert_eq!(read_all(&mut stream).await, all_bytes);
    let diagnostics = stream.diagnostics.clone();
    // The status comes behind the end of the output.
    let status = async {
        while !diagnostics.said().to_string().contains("the command ended with status 3") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, status).await.unwrap();
    // The account's shell may have had something to say first.
    let said = diagnostics.said().printed;
    assert!(said.contains("error"), "{said}");
}

#[tokio::test]
async fn a_killed_command_is_told_from_one_that_exits() {
    let Some(lab) = Lab::start("") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    for (command, expected) in [
        ("exit 300", ProgramEnd::Exited(ExitStatus::Code(44))),
        ("kill -TERM $$", ProgramEnd::Exited(ExitStatus::Signal(15))),
        ("true", ProgramEnd::Exited(ExitStatus::Code(0))),
    ] {
        let kind = ProgramKind::Shell(command.into());
        let mut program = connection.start(&kind, &Default::default()).await.unwrap();
        let ended = program.end.wait_for(Option::is_some);
        let ended = tokio::time::timeout(GUARD, ended).await.unwrap().unwrap().clone();
        assert_eq!(ended, Some(expected), "{command}");
    }
}

#[tokio::test]
async fn a_program_of_its_own_keeps_output_and_errors_apart() {
    let Some(lab) = Lab::start("AcceptEnv GREETING") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    let environment = vec![(b"GREETING".to_vec(), b"hello".to_vec())];
    let kind = ProgramKind::Shell(b"echo $GREETING; echo error >&2; cat".to_vec());
    let mut program = connection.start(&kind, &environment.into()).await.unwrap();
    let guarded = async {
        assert_eq!(program.stdout.recv().await.unwrap(), "hello\n");
        // The account's shell may have had something to say first.
        while !program.stderr.recv().await.unwrap().ends_with(b"error\n") {}
        drop(program.stdin);
        assert_eq!(program.stdout.recv().await, None);
        program.end.wait_for(Option::is_some).await.unwrap().clone()
    };
    let ended = tokio::time::timeout(GUARD, guarded).await.unwrap();
    assert_eq!(ended, Some(ProgramEnd::Exited(ExitStatus::Code(0))));
}

#[tokio::test]
async fn a_stream_that_is_given_up_ends_its_command() {
    let Some(lab) = Lab::start("") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    let here = lab.directory.path().display();
    std::process::Command::new("mkfifo").arg(lab.path("fifo")).status().unwrap();
    // The fifo is open for writing as long as the command lives.
    let command = format!("exec 9>{here}/fifo; echo started; cat");
    let mut stream = connection.exec(command.into_bytes()).await.unwrap();
    let fifo = lab.path("fifo");
    let ended = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    let started = tokio::time::timeout(GUARD, stream.incoming.recv()).await.expect("hangs");
    assert_eq!(started.unwrap(), "started\n");
    drop(stream);
    tokio::time::timeout(GUARD, ended).await.expect("still runs").unwrap();
}

#[tokio::test]
async fn a_connection_through_another_is_end_to_end() {
    let Some(bastion) = Lab::start("") else { return };
    let Some(target) = Lab::start("") else { return };
    let jump = bastion.connect(&[]).await.unwrap();
    let resolved = target.resolved(&[]).await;
    let caller = target.caller();
    let via = Via::Through(&jump);
    let connection = SshConnection::connect(&resolved, via, &caller).await.unwrap();
    drop(jump);
    assert_eq!(output(&connection, "echo through").await, "through\n");
    assert_eq!(connection.addresses(), None);
}

#[tokio::test]
async fn a_connection_over_a_stream_of_somebody_else_works() {
    let Some(bastion) = Lab::start("") else { return };
    let Some(target) = Lab::start("") else { return };
    let jump = bastion.connect(&[]).await.unwrap();
    let stream = jump.direct_tcpip("127.0.0.1", target.port).await.unwrap();
    let resolved = target.resolved(&[]).await;
    let caller = target.caller();
    let via = Via::Stream(stream);
    let connection = SshConnection::connect(&resolved, via, &caller).await.unwrap();
    let long = output(&connection, "head -c 1000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(long.len(), 1_000_000);
}

#[tokio::test]
async fn a_jump_host_that_can_not_reach_the_target_is_named() {
    let Some(bastion) = Lab::start("") else { return };
    let jump = bastion.connect(&[]).await.unwrap();
    let mut resolved = bastion.resolved(&[]).await;
    resolved.port = 1;
    let caller = bastion.caller();
    let error = SshConnection::connect(&resolved, Via::Through(&jump), &caller).await.unwrap_err();
    assert!(matches!(error, ConnectError::Jump { .. }), "{error}");
    assert!(error.to_string().contains("cannot reach 127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_proxy_command_carries_the_connection_and_ends_with_it() {
    let Some(lab) = Lab::start("") else { return };
    let resolved = lab.resolved(&[]).await;
    let caller = lab.caller();
    std::process::Command::new("mkfifo").arg(lab.path("fifo")).status().unwrap();
    // Relative to the caller's directory; the fifo is open as long as anything of it lives.
    let command = "bash -c 'exec 9>fifo; exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'";
    let connect = SshConnection::connect(&resolved, Via::Command(command), &caller);
    let fifo = lab.path("fifo");
    let ended = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    let connection = tokio::time::timeout(GUARD, connect).await.unwrap().unwrap();
    assert_eq!(output(&connection, "echo over").await, "over\n");
    drop(connection);
    tokio::time::timeout(GUARD, ended).await.expect("the command still runs").unwrap();
}

#[tokio::test]
async fn a_proxy_command_that_fails_is_shown_with_its_last_words() {
    let lab = Lab::without_server();
    let resolved = lab.resolved(&[]).await;
    let caller = lab.caller();
    let via = Via::Command("sh -c 'echo no way to %h >&2; exit 7'");
    let error = SshConnection::connect(&resolved, via, &caller).await.unwrap_err();
    assert!(matches!(error, ConnectError::ProxyCommand { .. }));
    let text = error.to_string();
    assert!(text.contains("no way to 127.0.0.1") && text.contains("status 7"), "{text}");
}

#[tokio::test]
async fn a_killed_server_ends_the_connection_and_its_streams() {
    let Some(mut lab) = Lab::start("") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    let mut stream = connection.exec(b"cat".to_vec()).await.unwrap();
    stream.outgoing.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(stream.incoming.recv().await.unwrap(), "x");
    lab.kill_server();
    let lost = tokio::time::timeout(GUARD, connection.closed()).await.expect("does not notice");
    assert_eq!(lost.to_string(), "connection to 127.0.0.1 lost: the other end closed it");
    assert_eq!(read_all(&mut stream).await, b"");
    assert!(connection.exec(b"true".to_vec()).await.is_err());
}

#[tokio::test]
async fn closing_a_connection_ends_it_on_both_sides() {
    let Some(lab) = Lab::start("") else { return };
    let connection = lab.connect(&[]).await.unwrap();
    let mut stream = connection.exec(b"cat".to_vec()).await.unwrap();
    connection.close().await;
    let lost = tokio::time::timeout(GUARD, connection.closed()).await.unwrap();
    assert_eq!(lost.message, "it was closed on this side");
    assert_eq!(read_all(&mut stream).await, b"");
    assert!(connection.is_closed());
}

#[tokio::test]
async fn a_port_that_says_nothing_is_a_timeout() {
    let lab = Lab::without_server();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", lab.port)).await.unwrap();
    let silent = tokio::spawn(async move {
        let _kept = listener.accept().await;
        std::future::pending::<()>().await;
    });
    let error = loop {
        match lab.connect(&["ConnectTimeout=1"]).await.unwrap_err() {
            // This machine was so slow that not even the TCP connection came about in time.
            ConnectError::NoAnswer { .. } => {}
            error => break error,
        }
    };
    silent.abort();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    let told = error.to_string();
    assert!(told.starts_with("Connection timed out during banner exchange; "), "{told}");
}

#[tokio::test]
async fn a_port_that_is_no_ssh_server_is_shown_for_what_it_is() {
    let lab = Lab::without_server();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", lab.port)).await.unwrap();
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    });
    let error = lab.connect(&[]).await.unwrap_err();
    other.await.unwrap();
    assert!(matches!(error, ConnectError::NotSsh { .. }), "{error}");
    assert!(error.to_string().contains("HTTP/1.1 400 Bad Request"), "{error}");
}

#[tokio::test]
async fn refused_and_unknown_hosts_are_told_apart() {
    let lab = Lab::without_server();
    let error = lab.connect(&[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    // No label is that long: a resolver knows it without asking anybody.
    let unknown = format!("HostName={}.invalid", "x".repeat(64));
    let error = lab.connect(&[&unknown]).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostNotFound { .. }), "{error}");
}

#[tokio::test]
async fn no_common_cipher_is_a_failed_key_exchange() {
    let Some(lab) = Lab::start("Ciphers aes256-ctr") else { return };
    let error = lab.connect(&["Ciphers=aes128-gcm@openssh.com"]).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoCommonAlgorithm { .. }), "{error}");
    assert!(error.to_string().contains("-o Ciphers=+aes256-ctr"), "{error}");
    lab.connect(&["Ciphers=aes256-ctr"]).await.unwrap();
}

/// The socket with this local address, as it is shown in /proc/self/fd.
fn socket_of(local: std::net::SocketAddr) -> String {
    let std::net::IpAddr::V4(address) = local.ip() else { panic!("no IPv4") };
    let number = u32::from_ne_bytes(address.octets());
    let name = format!("{number:08X}:{:04X}", local.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&*name));
    format!("socket:[{}]", line.unwrap().split_whitespace().nth(9).unwrap())
}

/// Whether this process has a descriptor of a socket.
fn is_open(socket: &str) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut names = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    names.any(|name| name.as_os_str() == socket)
}

#[tokio::test]
async fn a_network_that_goes_silent_does_not_keep_a_closed_connection() {
    let Some(lab) = Lab::start("") else { return };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut resolved = lab.resolved(&["HostKeyAlias=server", "StrictHostKeyChecking=no"]).await;
    resolved.port = listener.local_addr().unwrap().port();
    let (silence, mut silent) = tokio::sync::watch::channel(());
    let server = ("127.0.0.1", lab.port);
    let relay = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            _ = silent.changed() => {}
        }
        client
    });
    let caller = lab.caller();
    let connection = SshConnection::connect(&resolved, Via::Tcp, &caller).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(connection.exec(b"cat >/dev/null".to_vec()).await.unwrap());
    }
    let socket = socket_of(connection.addresses().unwrap().local);
    assert!(is_open(&socket));
    silence.send_replace(());
    let client = relay.await.unwrap();
    // More than the sockets hold, and within the windows of the channels: the connection is stuck
    // in a write.
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let pause = std::time::Duration::from_millis(100);
    for stream in &streams {
        while tokio::time::timeout(pause, stream.outgoing.send(chunk.clone())).await.is_ok() {}
    }
    tokio::time::timeout(GUARD, connection.close()).await.expect("close hangs");
    drop(connection);
    for stream in &mut streams {
        assert_eq!(read_all(stream).await, b"");
    }
    // The connection's own task holds its socket, until it ends. Nothing is read at the other
    // end, which would free it.
    let ended = async {
        while is_open(&socket) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, ended).await.expect("the connection's task is still there");
    drop(client);
}

#[tokio::test]
async fn programs_that_are_started_inherit_no_descriptor_of_a_connection() {
    let Some(lab) = Lab::start("") else { return };
    let list = "readlink /proc/self/fd/* | grep ^socket: | sort";
    // Whoever runs the tests may have left some open for everybody.
    let before = std::process::Command::new("sh").args(["-c", list]).output().unwrap().stdout;
    let _connection = lab.connect(&[]).await.unwrap();
    let resolved = lab.resolved(&[]).await;
    let command = format!("sh -c '{list} >inherited'");
    let caller = lab.caller();
    let connect = SshConnection::connect(&resolved, Via::Command(&command), &caller);
    tokio::time::timeout(GUARD, connect).await.expect("hangs").unwrap_err();
    let inherited = std::fs::read(lab.path("inherited")).unwrap();
    assert_eq!(String::from_utf8_lossy(&inherited), String::from_utf8_lossy(&before));

    std::fs::write(lab.path("config"), format!("Match exec \"{list} >inherited\"\n")).unwrap();
    let target = fakessh::ssh_config::Target {
        host: "web1".into(),
        connection: vec!["-Fconfig".into()],
        ..Default::default()
    };
    fakessh::ssh_config::resolve(&target, &caller).await.unwrap();
    let inherited = std::fs::read(lab.path("inherited")).unwrap();
    assert_eq!(String::from_utf8_lossy(&inherited), String::from_utf8_lossy(&before));
}

#[tokio::test]
async fn what_a_proxy_command_says_is_shown_while_it_connects_and_not_later() {
    let Some(lab) = Lab::start("") else { return };
    let resolved = lab.resolved(&[]).await;
    let caller = lab.caller();
    std::process::Command::new("mkfifo").arg(lab.path("fifo")).status().unwrap();
    // It goes on only when the person has read what it says.
    let command = "bash -c 'printf \"Visit https://login\\033[2J to log in\\n\" >&2; read <fifo; \
                   exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3; echo later >&2; >ended'";
    let connect = SshConnection::connect(&resolved, Via::Command(command), &caller);
    let read = async {
        while lab.person.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        let fifo = lab.path("fifo");
        tokio::task::spawn_blocking(move || std::fs::write(fifo, "x\n")).await.unwrap().unwrap();
    };
    let both = async { tokio::join!(connect, read).0.unwrap() };
    let connection = tokio::time::timeout(GUARD, both).await.expect("hangs");
    assert_eq!(
        lab.person.seen(),
        ["ProxyCommand of 127.0.0.1 says: Visit https://login\u{fffd}[2J to log in"]
    );
    connection.close().await;
    let ended = async {
        while !lab.path("ended").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, ended).await.expect("the command does not end");
    assert_eq!(lab.person.seen().len(), 1);
}

#[tokio::test]
async fn a_connection_forgets_its_caller_once_it_is_logged_in() {
    let Some(lab) = Lab::start("") else { return };
    let before = Arc::strong_count(&lab.person);
    let _connection = lab.connect(&[]).await.unwrap();
    assert_eq!(Arc::strong_count(&lab.person), before);
    let resolved = lab.resolved(&[]).await;
    let command = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'";
    let caller = lab.caller();
    let via = Via::Command(command);
    let _over_command = SshConnection::connect(&resolved, via, &caller).await.unwrap();
    drop(caller);
    assert_eq!(Arc::strong_count(&lab.person), before);
}
