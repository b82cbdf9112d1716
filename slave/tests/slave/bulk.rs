//! Much at once, and readers that stop.

use std::time::Instant;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::ToSlave;
use fakessh_protocol::mux::INITIAL_WINDOW;

use crate::master::{Master, sum};

const HUNDRED_MEGABYTES: usize = 100_000_000;

/// Bytes without a pattern that a lost or doubled page would go unnoticed in.
fn noise(len: usize, seed: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn echo(master: &mut Master, line: &str) {
    let handles = master.shell(line);
    master.forget(handles.stdout);
    let (mut seed, mut sent, mut sent_sum) = (88_172_645_463_325_252, 0, 0);
    let started = Instant::now();
    while sent < HUNDRED_MEGABYTES {
        let part = noise(999_983.min(HUNDRED_MEGABYTES - sent), &mut seed);
        sent += part.len();
        sent_sum = sum(sent_sum, &part);
        master.send(handles.stdin, &part);
        master.until("room", |master| master.unsent(handles.stdin) < 2_000_000);
    }
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    println!("{line}: {} ms", started.elapsed().as_millis());
    let received = master.of(handles.stdout);
    assert_eq!((received.len, received.sum), (sent, sent_sum));
}

#[test]
fn a_hundred_megabytes_come_back_unharmed() {
    let mut master = Master::start();
    echo(&mut master, "cat");
    assert!(master.memory("VmHWM") < 32_000_000, "{}", master.memory("VmHWM"));
}

#[test]
fn programs_with_odd_block_sizes_come_back_unharmed() {
    let mut master = Master::start();
    echo(&mut master, "dd bs=7777 2>/dev/null");
}

#[test]
fn a_reader_that_stops_stops_only_its_own_session() {
    let mut master = Master::start();
    let idle = master.memory("VmRSS");
    let sessions: Vec<_> = (0..20)
        .map(|_| {
            let handles = master.shell("echo $$ >&2; kill -STOP $$; wc -c");
            master.send(handles.stdin, &vec![b'x'; 1_000_000]);
            handles
        })
        .collect();
    // Whatever credit there is gets used up.
    master.until("the windows are full", |master| {
        let window = INITIAL_WINDOW as usize;
        sessions.iter().all(|handles| master.unsent(handles.stdin) + window <= 1_000_000)
    });
    for _ in 0..20 {
        assert_eq!(master.run("cat", b"free").1, "free");
    }
    // Who goes on first, and stops then, stays so.
    for handles in &sessions {
        master.until_stopped(*handles);
    }
    let grown = master.memory("VmRSS") - idle;
    assert!(grown < 20 * 2 * INITIAL_WINDOW as usize + 4_000_000, "{grown}");
    for handles in sessions {
        master.mux.finish(handles.stdin);
        master.message(handles, &ToSlave::Signal(18));
        master.exit(handles);
        assert_eq!(master.text(handles.stdout).trim(), "1000000");
    }
}

#[test]
fn an_output_that_nobody_takes_stops_only_its_own_session() {
    let mut master = Master::start();
    let handles = master.shell("yes");
    master.hold(handles.stdout);
    master.until("a used-up window", |master| {
        master.of(handles.stdout).len >= INITIAL_WINDOW as usize
    });
    for _ in 0..20 {
        assert_eq!(master.run("cat", b"free").1, "free");
    }
    assert_eq!(master.of(handles.stdout).len, INITIAL_WINDOW as usize);
    // A pipe that has bytes and no credit must not keep the slave awake.
    master.until_the_slave_sleeps();
    assert!(master.memory("VmRSS") < 8_000_000);
    master.mux.stop(handles.stdout);
    assert_eq!(master.exit(handles), ExitStatus::Signal(13));
}
