//! Connections that report how they stand: a clean end is told apart from every other.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Connection, Peer, ProgramKind};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, Signal, kill_process};

use crate::connection::{closed_port, server};
use crate::master::Master;

fn connect(master: &mut Master, peer: Peer) -> SessionHandles {
    master.spawn(ProgramKind::Connection(Connection { peer, reports: true }), &[])
}

fn tcp(master: &mut Master, port: u16) -> SessionHandles {
    connect(master, Peer::Tcp { host: "127.0.0.1".to_owned(), port })
}

/// Waits until the connection has said this, and nothing else.
fn until_said(master: &mut Master, handles: SessionHandles, text: &str) {
    master.until(text, |master| master.text(handles.stderr).len() >= text.len());
    assert_eq!(master.text(handles.stderr), text);
}

#[test]
fn a_clean_end_is_reported_before_the_output_ends_and_input_goes_on() {
    let (port, served) = server(|mut socket| {
        socket.write_all(b"all").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        read
    });
    let mut master = Master::start();
    let handles = tcp(&mut master, port);
    until_said(&mut master, handles, "connected\nend\n");
    master.until("the peer's end", |master| master.of(handles.stdout).ended);
    master.send(handles.stdin, b"more");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(
        (served.join().unwrap(), master.text(handles.stdout)),
        (b"more".into(), "all".into())
    );
}

#[test]
fn a_connection_is_there_before_anything_comes() {
    let (port, served) = server(|mut socket| socket.read_to_end(&mut Vec::new()).unwrap());
    let mut master = Master::start();
    let handles = tcp(&mut master, port);
    until_said(&mut master, handles, "connected\n");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stderr), "connected\nend\n");
    assert_eq!(served.join().unwrap(), 0);
}

#[test]
fn why_there_is_no_connection_has_a_kind() {
    let dir = tempfile::tempdir().unwrap();
    let unheard = dir.path().join("unheard");
    drop(UnixListener::bind(&unheard).unwrap());
    let unix = |path: &std::path::Path| Peer::Unix(path.as_os_str().as_bytes().to_vec());
    let closed = closed_port();
    let refused = Peer::Tcp { host: "127.0.0.1".to_owned(), port: closed.1 };
    let unknown = Peer::Tcp { host: "-no-name".to_owned(), port: 1 };
    let mut master = Master::start();
    for (peer, said) in [
        (refused, "failed connect Connection refused\n"),
        (unknown, "failed resolve Name or service not known\n"),
        (unix(&dir.path().join("none")), "failed not_found No such file or directory\n"),
        (unix(&unheard), "failed connect Connection refused\n"),
        (unix(dir.path()), "failed connect Connection refused\n"),
    ] {
        let handles = connect(&mut master, peer);
        assert_eq!(master.exit(handles), ExitStatus::Code(1));
        assert_eq!(master.text(handles.stderr), said);
        assert_eq!(master.text(handles.stdout), "");
    }
}

#[test]
fn a_reset_is_reported_as_one_and_never_as_an_end() {
    let (port, served) = server(|mut socket| {
        socket.write_all(b"half").unwrap();
        socket.read_exact(&mut [0]).unwrap();
        set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    });
    let mut master = Master::start();
    let handles = tcp(&mut master, port);
    master.until("bytes", |master| master.text(handles.stdout) == "half");
    master.send(handles.stdin, b"x");
    assert_eq!(master.exit(handles), ExitStatus::Code(1));
    assert_eq!(master.text(handles.stderr), "connected\nreset Connection reset by peer\n");
    served.join().unwrap();
}

#[test]
fn a_connection_that_is_killed_reports_no_end() {
    let (port, served) = server(|mut socket| socket.read_to_end(&mut Vec::new()).is_ok());
    let mut master = Master::start();
    let before = master.children();
    let handles = tcp(&mut master, port);
    until_said(&mut master, handles, "connected\n");
    let new = master.children().into_iter().find(|child| !before.contains(child)).unwrap();
    kill_process(Pid::from_raw(new as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(master.exit(handles), ExitStatus::Signal(9));
    assert_eq!(master.text(handles.stderr), "connected\n");
    served.join().unwrap();
}

#[test]
fn a_unix_socket_has_a_path_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(OsStr::from_bytes(b"socket \xff"));
    let listener = UnixListener::bind(&path).unwrap();
    let served = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        socket.write_all(&read).unwrap();
    });
    let mut master = Master::start();
    let handles = connect(&mut master, Peer::Unix(path.as_os_str().as_bytes().to_vec()));
    let bytes: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    master.send(handles.stdin, &bytes);
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert!(master.of(handles.stdout).bytes == bytes, "bytes were changed");
    assert_eq!(master.text(handles.stderr), "connected\nend\n");
    served.join().unwrap();
}

#[test]
fn what_was_written_arrives_though_nobody_reads_any_more() {
    let (port, served) = server(|mut socket| {
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        read.len()
    });
    let mut master = Master::start();
    let handles = tcp(&mut master, port);
    until_said(&mut master, handles, "connected\n");
    master.mux.stop(handles.stdout);
    master.send(handles.stdin, &vec![b'x'; 5_000_000]);
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(served.join().unwrap(), 5_000_000);
    // Nobody reads an end, so none is claimed.
    assert_eq!(master.text(handles.stderr), "connected\n");
}
