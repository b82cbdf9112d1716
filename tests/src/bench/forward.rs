//! T4: connections that are forwarded by `-L`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::rounds::Rounds;
use crate::row::{Against, Row};
use crate::site::{Contender, Site};
use crate::stream;
use fakessh_lab::port::ClosedPort;
use fakessh_lab::{Client, Running, wait_until};

/// How long a session lives at most. A guard against hangs only.
const GUARD: Duration = Duration::from_secs(1800);

/// What a client asks the server for.
const BULK: u8 = b'b';
const ONE_BYTE: u8 = b'1';

/// T4: one stream down, and connections of one byte.
pub(super) fn local(bench: &Bench) -> Vec<Row> {
    let bytes = bench.either(1 << 30, 32 << 20);
    let site = Site::open(bench);
    let port = serve(bytes);
    let contenders = [Contender::Ours, Contender::ControlMaster, Contender::Ssh];
    let sessions = contenders.map(|contender| session(&site, contender, port));
    let port_of = |contender| {
        let at = contenders.iter().position(|other| *other == contender);
        sessions[at.expect("a contender that has a session")].0
    };
    let turns = contenders.map(|contender| (contender, 1));
    let streams = Rounds::take(bench.either(11, 1), &turns, |contender| {
        let begun = Instant::now();
        let mut stream = ask(port_of(contender), BULK);
        let count = stream::read(&mut stream, u64::MAX).expect("a stream");
        assert_eq!(count, bytes, "bytes are missing");
        bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
    });
    let bytes_of_one = Rounds::take(bench.either(300, 20), &turns, |contender| {
        let begun = Instant::now();
        let mut stream = ask(port_of(contender), ONE_BYTE);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert_eq!(answer, [ONE_BYTE]);
        begun.elapsed().as_secs_f64() * 1e3
    });
    let size = bench.either("1 GiB", "32 MiB");
    let bulk = Row::new(format!("{size} down through -L"), "MB/s", streams.ours()).higher();
    let one = Row::new("connect, one byte, close through -L", "ms", bytes_of_one.ours());
    vec![
        bulk.rivals(streams.control_master(), streams.ssh()).target(Against::Either, 1.0, None),
        one.rivals(bytes_of_one.control_master(), bytes_of_one.ssh()).target(
            Against::Either,
            1.0,
            None,
        ),
    ]
}

/// A server that answers a first byte, and its port.
fn serve(bytes: u64) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut asked = [0];
                if stream.read_exact(&mut asked).is_ok() {
                    // Whoever leaves early says so itself.
                    let _ = match asked[0] {
                        BULK => stream::write(&mut stream, bytes),
                        byte => stream.write_all(&[byte]),
                    };
                }
            });
        }
    });
    port
}

fn ask(port: u16, what: u8) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream.write_all(&[what]).expect("a connection that takes a byte");
    stream
}

/// A contender's session that forwards a port to this one, and that port.
fn session(site: &Site, contender: Contender, to: u16) -> (u16, Running) {
    let here = ClosedPort::any();
    let forward = format!("{}:127.0.0.1:{to}", here.number());
    let mut words = site.ssh_words(contender);
    words.extend(["-N".into(), "-L".into(), forward, site.host().into()]);
    let client = if contender.is_fakessh() { Client::Fakessh } else { Client::Ssh };
    let running = site.lab().tool(client, words).input_open().guard(GUARD).start();
    let is_there = || TcpStream::connect((Ipv4Addr::LOCALHOST, here.number())).is_ok();
    wait_until(is_there, "a forward does not come");
    (here.number(), running)
}
