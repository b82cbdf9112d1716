//! Many connections at once, and some that stand still.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fakessh_lab::port::ClosedPort;
use fakessh_lab::process::{Process, descendants};
use fakessh_lab::{Client, Lab, both_clients, wait_until};

use super::{allocated, connect, echo_server, end_quietly, exchange, session};

/// Connections at once. ssh has as many descriptors as it is given, and not more.
fn count(client: Client) -> usize {
    match client {
        Client::Ssh => 100,
        Client::Fakessh => 1000,
    }
}

/// What a connection sends: no two the same.
fn bytes(number: usize) -> Vec<u8> {
    (0..20_000).map(|at: usize| (at.wrapping_mul(31) + number) as u8).collect()
}

/// A server that gives back what it reads as soon as it has it.
fn mirror() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let copy = move || {
                let mut writer = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut &stream, &mut writer);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            };
            let small = thread::Builder::new().stack_size(128 * 1024);
            small.spawn(copy).unwrap();
        }
    });
    port
}

/// Has so many connections open at once, all of which carry their own bytes.
fn crowd(port: u16, count: usize) {
    let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(port)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&bytes(number)[..10_000]).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut answer = vec![0; 10_000];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == bytes(number)[..10_000], "connection {number}");
    }
    // All of them are open now.
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&bytes(number)[10_000..]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    for (number, mut stream) in streams.into_iter().enumerate() {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer == bytes(number)[10_000..], "connection {number}");
    }
}

fn descriptors(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.pid)).map_or(0, Iterator::count)
}

/// What our processes hold: descriptors of the master and the slave, and processes below them and
/// below the session's own.
fn held(lab: &Lab, session: u32) -> Vec<usize> {
    let (master, slaves) = (lab.master(), lab.slaves());
    let slave = slaves.iter().min_by_key(|slave| slave.pid).unwrap();
    vec![
        descriptors(&master),
        descriptors(slave),
        descendants(master.pid).len(),
        descendants(slave.pid).len(),
        descendants(session).len(),
    ]
}

both_clients! {
    fn a_thousand_connections_at_once(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), mirror());
        let local = format!("{}:127.0.0.1:{there}", here.number());
        let remote = format!("0:127.0.0.1:{there}");
        let session = session(&lab, client, &["-L", &local, "-R", &remote]);
        let remote = allocated(&session);
        // What is kept for the next time is there.
        crowd(here.number(), 3);
        crowd(remote, 3);
        let ours = client == Client::Fakessh;
        let before = ours.then(|| held(&lab, session.pid()));
        for port in [here.number(), remote] {
            crowd(port, count(client));
            if let Some(before) = &before {
                let given_back = || {
                    held(&lab, session.pid()).iter().zip(before).all(|(now, then)| now <= then)
                };
                wait_until(given_back, "something is kept of connections that have ended");
            }
        }
        end_quietly(session);
        lab.expect_nothing_left();
    }

    fn who_never_reads_stops_itself_alone(client) {
        for is_direct in [false, true] {
            let builder = Lab::builder();
            let lab = if is_direct { builder.sshd("ForceCommand cat") } else { builder }.start();
            let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let silent_port = silent.local_addr().unwrap().port();
            let port = echo_server();
            let (here, stuck) = (ClosedPort::any(), ClosedPort::any());
            let options = [
                format!("-L{}:127.0.0.1:{port}", here.number()),
                format!("-L{}:127.0.0.1:{silent_port}", stuck.number()),
                format!("-R0:127.0.0.1:{silent_port}"),
            ];
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let mut session = session(&lab, client, &options);
            let stuck_there = allocated(&session);
            // One sends to a peer there that never reads, one to such a peer here. Where no slave
            // runs, such a peer here holds up the others of the connection (docs/forwarding.md).
            let mut ports = vec![stuck.number(), stuck_there];
            if is_direct && client == Client::Fakessh {
                ports.pop();
            }
            let written = Arc::new(AtomicUsize::new(0));
            let writers: Vec<_> = ports
                .into_iter()
                .map(|port| {
                    let mut stream = connect(port);
                    let closer = stream.try_clone().unwrap();
                    let (peer, _) = silent.accept().unwrap();
                    let written = written.clone();
                    let writing = thread::spawn(move || {
                        while let Ok(len) = stream.write(&[7; 65536]) {
                            written.fetch_add(len, Ordering::Relaxed);
                        }
                    });
                    (writing, closer, peer)
                })
                .collect();
            // They stand still when a whole exchange has not moved them.
            let big = "x".repeat(1_000_000);
            let mut before = usize::MAX;
            wait_until(
                || {
                    assert!(exchange(connect(here.number()), &big) == format!("got {big}"));
                    let now = written.load(Ordering::Relaxed);
                    std::mem::replace(&mut before, now) == now && now > 0
                },
                "who never reads takes all",
            );
            assert!(before < 200_000_000, "{before} bytes are kept for who does not read");
            session.write(b"still\n").unwrap();
            assert_eq!(session.read_line().as_deref(), Some("still"));
            for (writing, closer, peer) in writers {
                drop(peer);
                let _ = closer.shutdown(std::net::Shutdown::Both);
                writing.join().unwrap();
            }
            assert_eq!(exchange(connect(here.number()), "then"), "got then");
            end_quietly(session);
            lab.expect_nothing_left();
        }
    }
}
