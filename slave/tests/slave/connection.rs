//! TCP connections that the slave opens.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use fakessh_lab::{GUARD, process::state, wait_until};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Connection, Peer, ProgramKind, ToSlave};
use rustix::net::{AddressFamily, SocketType};

use crate::hangup;
use crate::master::Master;

/// A port that nobody listens at, and that nobody else can have as long as the socket is kept.
pub(crate) fn closed_port() -> (OwnedFd, u16) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bound = rustix::net::getsockname(&socket).unwrap();
    (socket, SocketAddrV4::try_from(bound).unwrap().port())
}

/// A server for one connection, and its port.
pub(crate) fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let socket = listener.accept().unwrap().0;
        socket.set_read_timeout(Some(GUARD)).unwrap();
        socket.set_write_timeout(Some(GUARD)).unwrap();
        serve(socket)
    };
    (port, std::thread::spawn(serve))
}

fn connect(master: &mut Master, host: &str, port: u16) -> SessionHandles {
    let peer = Peer::Tcp { host: host.to_owned(), port };
    master.spawn(ProgramKind::Connection(Connection { peer, reports: false }), &[])
}

#[test]
fn each_direction_ends_by_itself() {
    let (port, served) = server(|mut socket| {
        socket.write_all(b"hello ").unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        // The other side has finished, and hears on.
        socket.write_all(b"bye").unwrap();
        read
    });
    let mut master = Master::start();
    let handles = connect(&mut master, "127.0.0.1", port);
    master.until("a greeting", |master| master.text(handles.stdout) == "hello ");
    master.send(handles.stdin, b"all of it");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stdout), "hello bye");
    assert_eq!(master.text(handles.stderr), "");
    assert_eq!(served.join().unwrap(), b"all of it");
}

#[test]
fn a_peer_that_has_finished_still_hears() {
    let (port, served) = server(|mut socket| {
        socket.write_all(b"first").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        read
    });
    let mut master = Master::start();
    let handles = connect(&mut master, "localhost", port);
    master.until("the peer's end", |master| master.of(handles.stdout).ended);
    assert_eq!(master.text(handles.stdout), "first");
    master.send(handles.stdin, b"second");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(served.join().unwrap(), b"second");
}

#[test]
fn bulk_goes_both_ways_at_once() {
    let (port, served) = server(|mut socket| {
        let mut writer = socket.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let bytes: Vec<u8> = (0..=255).cycle().take(30_000_000).collect();
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        sender.join().unwrap();
        read
    });
    let mut master = Master::start();
    let handles = connect(&mut master, "127.0.0.1", port);
    let input: Vec<u8> = (0..=250).cycle().take(20_000_000).collect();
    master.send(handles.stdin, &input);
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert!(served.join().unwrap() == input, "bytes were changed");
    let expected: Vec<u8> = (0..=255).cycle().take(30_000_000).collect();
    assert!(master.of(handles.stdout).bytes == expected, "bytes were changed");
}

#[test]
fn a_refused_connection_says_so_in_one_line() {
    let mut master = Master::start();
    let (_socket, port) = closed_port();
    let handles = connect(&mut master, "127.0.0.1", port);
    assert_eq!(master.exit(handles), ExitStatus::Code(1));
    assert_eq!(master.text(handles.stderr), format!("127.0.0.1:{port}: Connection refused\n"));
    assert_eq!(master.text(handles.stdout), "");
}

#[test]
fn a_name_that_nobody_knows_says_so_in_one_line() {
    let mut command = crate::master::command();
    // Where no server of names can be reached, it is not waited for.
    command.env("RES_OPTIONS", "timeout:1 attempts:1");
    let mut master = Master::start_with(command);
    let handles = connect(&mut master, "no-such-host.invalid", 22);
    assert_eq!(master.exit(handles), ExitStatus::Code(1));
    let expected = "no-such-host.invalid:22: Name or service not known\n";
    assert_eq!(master.text(handles.stderr), expected);
}

#[test]
fn a_target_without_getent_says_so() {
    let mut command = crate::master::command();
    command.env("PATH", "/nonexistent");
    let mut master = Master::start_with(command);
    let handles = connect(&mut master, "no-such-host.invalid", 22);
    assert_eq!(master.exit(handles), ExitStatus::Code(1));
    let said = master.text(handles.stderr);
    assert!(said.contains("no getent") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_reset_is_a_failure() {
    let (port, served) = server(|socket| {
        // Bytes that it never reads make its end a reset.
        socket.peek(&mut [0; 1]).unwrap();
        drop(socket);
    });
    let mut master = Master::start();
    let handles = connect(&mut master, "127.0.0.1", port);
    master.send(handles.stdin, b"unread");
    assert_eq!(master.exit(handles), ExitStatus::Code(1));
    let expected = format!("127.0.0.1:{port}: Connection reset by peer\n");
    assert_eq!(master.text(handles.stderr), expected);
    served.join().unwrap();
}

/// The result of this with a running connection, after which both ends have ended.
fn end_by<T>(act: impl FnOnce(&mut Master, SessionHandles) -> T) -> T {
    let (port, served) = server(|mut socket| {
        socket.write_all(b"x").unwrap();
        socket.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
    });
    let mut master = Master::start();
    let handles = connect(&mut master, "127.0.0.1", port);
    master.until("a byte", |master| master.of(handles.stdout).len == 1);
    let result = act(&mut master, handles);
    // A reset is an end, too.
    assert_ne!(served.join().unwrap(), Err(ErrorKind::WouldBlock));
    result
}

#[test]
fn a_hangup_closes_the_connection() {
    let hang_up = |master: &mut Master, handles| {
        master.hung_up(handles, |master| master.message(handles, &ToSlave::Hangup))
    };
    let status = hangup::status(|| end_by(hang_up));
    // Its output is closed first, and it may see that before the signal.
    assert!([ExitStatus::Signal(1), ExitStatus::Code(0)].contains(&status), "{status:?}");
}

#[test]
fn an_output_that_nobody_wants_ends_the_connection() {
    let status = end_by(|master, handles| {
        master.mux.stop(handles.stdout);
        master.exit(handles)
    });
    assert_eq!(status, ExitStatus::Code(0));
}

#[test]
fn an_idle_connection_keeps_nobody_awake() {
    let (port, served) = server(|mut socket| {
        socket.write_all(b"x").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let mut master = Master::start();
    let handles = connect(&mut master, "127.0.0.1", port);
    master.until("the peer's end", |master| master.of(handles.stdout).ended);
    for child in master.children() {
        wait_until(|| state(child) == Some('S'), "it does not sleep");
    }
    master.until_the_slave_sleeps();
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    served.join().unwrap();
}
