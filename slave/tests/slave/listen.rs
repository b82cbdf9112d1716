//! Ports that the slave listens on for the master, and the connections that come in there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use fakessh_lab::{GUARD, wait_until};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::forward::{Listen, ListenAddress};
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Accepted, ProgramKind, Spawn, ToShim, ToSlave};
use fakessh_protocol::wire::Handle;

use crate::master::Master;

fn listen(port: u16) -> ToSlave {
    let address = ListenAddress::Tcp { host: Some("127.0.0.1".into()), port };
    ToSlave::Listen(Listen { address, unlink: false, mask: 0o177 })
}

/// The handles of a request, far from those of programs.
fn row(number: u32) -> SessionHandles {
    SessionHandles::of(Handle(4000 + 4 * number))
}

impl Master {
    /// Has the slave listen; returns the port.
    fn port(&mut self, handles: SessionHandles) -> u16 {
        self.message(handles, &listen(0));
        self.until("a port", |master| master.listening.contains_key(&handles.control));
        self.listening[&handles.control]
    }

    fn next_accepted(&mut self) -> Accepted {
        self.until("a connection", |master| !master.accepted.is_empty());
        self.accepted.pop_front().unwrap()
    }

    /// Both directions have ended well.
    fn end(&mut self, handles: SessionHandles) {
        self.mux.finish(handles.stdout);
        self.mux.finish(handles.stderr);
        self.outcome(handles, ToShim::Exited(ExitStatus::Code(0)));
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream
}

#[test]
fn a_connection_goes_both_ways_and_each_way_ends_by_itself() {
    let mut master = Master::start();
    let port = master.port(row(0));
    let mut peer = connect(port);
    peer.write_all(b"question").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let Accepted { listener, handles, from } = master.next_accepted();
    assert_eq!(listener, row(0).control);
    assert_eq!(from, peer.local_addr().unwrap().to_string());
    master.until("its end", |master| master.of(handles.stdin).ended);
    assert_eq!(master.text(handles.stdin), "question");
    master.send(handles.stdout, b"answer");
    master.end(handles);
    let mut answer = String::new();
    let reading = std::thread::spawn(move || peer.read_to_string(&mut answer).map(|_| answer));
    let children = |master: &Master| master.children().len();
    master.run("true", b"");
    assert_eq!(reading.join().unwrap().unwrap(), "answer");
    let mut rest = 2;
    while rest > 1 {
        master.run("true", b"");
        rest = children(&master);
    }
}

#[test]
fn a_connection_that_failed_is_reset() {
    let mut master = Master::start();
    let port = master.port(row(0));
    for outcome in ["failed", "lost"] {
        let mut peer = connect(port);
        let handles = master.next_accepted().handles;
        if outcome == "failed" {
            let failed = ToShim::Failed(Failure::other("it failed"));
            master.message(handles, &ToSlave::ToShim(failed));
            master.run("true", b"");
        } else {
            master.to_slave = None;
            master.until_closed();
        }
        assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn connections_go_on_when_nothing_more_is_taken() {
    let mut master = Master::start();
    let port = master.port(row(0));
    let mut peer = connect(port);
    let handles = master.next_accepted().handles;
    master.message(row(0), &ToSlave::Hangup);
    master.run("true", b"");
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    master.send(handles.stdout, b"still");
    master.run("true", b"");
    let mut still = [0; 5];
    peer.read_exact(&mut still).unwrap();
    assert_eq!(&still, b"still");
    drop(peer);
    master.until("its end", |master| master.of(handles.stdin).ended);
    master.end(handles);
    // The handle may be used again.
    assert_ne!(master.port(row(0)), 0);
}

#[test]
fn what_can_not_be_listened_on_is_refused_and_nothing_else() {
    let mut master = Master::start();
    let port = master.port(row(0));
    master.message(row(1), &listen(port));
    master.until("a refusal", |master| master.refusals.contains_key(&row(1).control));
    let why = &master.refusals[&row(1).control].message;
    assert_eq!(why, &format!("bind [127.0.0.1]:{port}: Address already in use"));
    let address = ListenAddress::Tcp { host: Some("localhost.example".into()), port: 0 };
    let named = ToSlave::Listen(Listen { address, unlink: false, mask: 0 });
    master.message(row(2), &named);
    master.until("a refusal", |master| master.refusals.contains_key(&row(2).control));
    assert!(master.refusals[&row(2).control].message.contains("no IP address"));
    let _peer = connect(port);
    master.next_accepted();
}

#[test]
fn a_handle_that_is_in_use_ends_the_link() {
    let program = || ProgramKind::Shell(b"sleep 1000".to_vec());
    let spawn =
        |handles| ToSlave::Spawn(Spawn { handles, program: program(), setup: Default::default() });
    // A listener's handle for another one, and for a program.
    for second in [listen(0), spawn(row(0))] {
        let mut master = Master::start();
        master.port(row(0));
        master.message(row(0), &second);
        assert_eq!(master.until_closed().code(), Some(255));
    }
    // A program's for a listener, and one that is the slave's to pick.
    for handles in [None, Some(SessionHandles::of(Handle(1 << 31)))] {
        let mut master = Master::start();
        let handles = handles.unwrap_or_else(|| master.shell("sleep 1000"));
        master.message(handles, &listen(0));
        assert_eq!(master.until_closed().code(), Some(255));
    }
}

#[test]
fn an_end_closes_the_ports() {
    let mut master = Master::start();
    let port = master.port(row(0));
    drop(master);
    let is_closed = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err();
    wait_until(is_closed, "the port is listened on");
}
