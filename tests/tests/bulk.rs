//! Much data: across rekeys, and beside a reader that does not read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::os::fd::OwnedFd;
use std::time::Duration;

use fakessh_tests::{Client, Lab, both_clients, pattern};

/// Sends this many bytes through `cat` on the target and back, and checks each of them.
fn there_and_back(lab: &Lab, client: Client, bytes: u64) {
    let (input, input_end) = std::io::pipe().unwrap();
    let (output_end, output) = std::io::pipe().unwrap();
    let running = lab
        .tool(client, ["ssh", "remote", "cat"])
        .stdin(OwnedFd::from(input))
        .stdout(OwnedFd::from(output))
        .guard(Duration::from_secs(300))
        .start();
    let writer = std::thread::spawn(move || pattern::write(input_end, bytes));
    let came = pattern::check(output_end).unwrap();
    running.finish().expect_status(0);
    writer.join().unwrap().unwrap();
    assert_eq!(came, bytes);
}

both_clients! {
    fn two_hundred_megabytes_come_back_unharmed(client) {
        there_and_back(&Lab::start(), client, 200 << 20);
    }

    fn a_reader_that_stops_stops_its_own_session_and_no_other(client) {
        let lab = Lab::start();
        let (stopped, output) = std::io::pipe().unwrap();
        let words = ["bash", "-c", "ssh remote 'cat /dev/zero' & \
                      ssh remote 'head -c 50000000 /dev/zero' | wc -c >&2; \
                      ssh remote 'echo short' >&2; kill $!; wait"];
        let done = lab.tool(client, words).stdout(OwnedFd::from(output)).run();
        assert_eq!(done.err().lines().take(2).collect::<Vec<_>>(), ["50000000", "short"]);
        drop(stopped);
    }
}

#[test]
fn five_gigabytes_cross_rekeys_there_and_back_with_fakessh() {
    let lab = Lab::start();
    there_and_back(&lab, Client::Fakessh, 5 << 30);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_writer_that_is_not_read_does_not_fill_memory_with_fakessh() {
    let lab = Lab::start();
    // The program never reads: what is on the way is bounded by credit, and then the writer waits.
    let (input, input_end) = std::io::pipe().unwrap();
    let mut running = lab
        .tool(Client::Fakessh, ["ssh", "remote", "echo up; exec sleep 1000"])
        .stdin(OwnedFd::from(input))
        .start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let result = pattern::write(input_end, 1 << 30);
        _ = sender.send(result.is_ok());
    });
    // The writer goes on only if somebody takes a gigabyte.
    let ended = receiver.recv_timeout(Duration::from_secs(5));
    assert!(ended.is_err(), "a gigabyte went somewhere though nobody read it");
    drop(running);
}
