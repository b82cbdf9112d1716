//! Ports and sockets that are forwarded: `-L`, `-R`, `-D` and `-W`.

mod ends;
mod listening;
mod many;
mod places;
mod shared;
mod streams;
mod words;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use fakessh_lab::running::Running;
use fakessh_lab::{Client, GUARD, Lab};

/// Serves connections: reads all of each, and gives it back with a word before it. So no byte comes
/// back before the end of what was sent has arrived.
fn echo(mut stream: impl Read + Write) {
    let mut bytes = Vec::new();
    if stream.read_to_end(&mut bytes).is_ok() {
        let _ = stream.write_all(&[b"got ", &bytes[..]].concat());
    }
}

/// A server that runs [`echo`] on a port of its own.
fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    port
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream
}

/// Sends this, ends, and reads all that comes back.
fn exchange(mut stream: TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A session with these options, that lasts until its input ends.
fn session(lab: &Lab, client: Client, options: &[&str]) -> Running {
    let words = ["ssh"].iter().chain(options).chain(&["remote", "cat"]);
    is_up(lab.tool(client, words).input_open().start())
}

/// Waits until a session runs that gives back what it reads: its forwards are there then.
fn is_up(mut session: Running) -> Running {
    session.write(b"up\n").unwrap();
    assert_eq!(session.read_line().as_deref(), Some("up"), "{}", session.errors());
    session
}

fn end(mut session: Running) {
    session.close_stdin();
    session.finish().expect_status(0).expect_err("");
}

/// The port that the target has picked for the `-R` of this session.
fn allocated(session: &Running) -> u16 {
    session.wait_for_error(" for remote forward to ");
    let errors = session.errors();
    let port = errors.split("Allocated port ").nth(1).and_then(|rest| rest.split(' ').next());
    port.unwrap().parse().unwrap()
}

/// A connection to a port of 127.0.0.1 by SOCKS 5 on this port, or what was answered instead.
fn try_socks(socks: u16, port: u16) -> Result<TcpStream, Vec<u8>> {
    let [high, low] = port.to_be_bytes();
    let mut stream = connect(socks);
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 0]);
    stream.write_all(&[&[5, 1, 0, 3, 9][..], b"localhost", &[high, low]].concat()).unwrap();
    let mut answer = [0; 10];
    match stream.read_exact(&mut answer) {
        Ok(()) if answer[..2] == [5, 0] => Ok(stream),
        _ => Err(answer.to_vec()),
    }
}

fn socks_to(socks: u16, port: u16) -> TcpStream {
    try_socks(socks, port).unwrap()
}

/// Sends this to a Unix socket, ends, and reads all that comes back.
fn exchange_unix(path: &Path, text: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Ends a session that may have said something.
fn end_quietly(mut session: Running) {
    session.close_stdin();
    session.finish().expect_status(0);
}

/// Whether a port of this machine refuses connections.
fn refuses(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
