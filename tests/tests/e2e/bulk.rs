//! Much data: across rekeys, and beside a reader that does not read.

use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::time::Duration;

use fakessh_lab::{Client, Lab, both_clients, pattern, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Many times what may be on the way to a program that does not read.
const FAR_TOO_MUCH: usize = 64 << 20;

/// How long a pipe must have taken nothing to count as full. On a slow machine less may be on the
/// way by then: that fails no test.
const QUIET: Duration = Duration::from_secs(3);

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

/// Whether a pipe has room.
fn can_take_more(pipe: &PipeWriter) -> bool {
    poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&Timespec::default())).unwrap() > 0
}

both_clients! {
    fn two_hundred_megabytes_come_back_unharmed_across_rekeys(client) {
        let lab = Lab::builder().sshd("RekeyLimit 16M").sshd("LogLevel DEBUG1").start();
        there_and_back(&lab, client, 200 << 20);
        let keys = lab.log().count("SSH2_MSG_NEWKEYS received");
        assert!(keys > 10, "{keys} exchanges of keys");
        assert_eq!(lab.logins(), 1);
    }

    fn a_reader_that_stops_stops_its_own_session_and_no_other(client) {
        let lab = Lab::start();
        let (stopped, output) = std::io::pipe().unwrap();
        let words = ["bash", "-c", "ssh remote 'cat /dev/zero' & read line; \
                      ssh remote 'head -c 50000000 /dev/zero' | wc -c >&2; \
                      ssh remote 'echo short' >&2; kill $!; wait"];
        let far_end = output.try_clone().unwrap();
        let tool = lab.tool(client, words).stdout(OwnedFd::from(output)).input_open();
        let mut running = tool.start();
        wait_until(|| !can_take_more(&far_end), "the pipe that nobody reads is not full");
        running.write(b"\n").unwrap();
        let done = running.finish();
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
    let sent = fill(&input_end, FAR_TOO_MUCH);
    assert!(sent > 0, "nothing was taken");
    assert!(sent < FAR_TOO_MUCH, "{sent} bytes went somewhere though nobody read them");
    drop(running);
}

/// Writes to a pipe until nothing has been taken from it for [`QUIET`], or until it has taken
/// this many bytes. Gives how many it took.
fn fill(pipe: &PipeWriter, enough: usize) -> usize {
    let flags = fcntl_getfl(pipe).unwrap();
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).unwrap();
    let block = vec![0; 64 << 10];
    let quiet = Timespec::try_from(QUIET).unwrap();
    let mut sent = 0;
    while sent < enough {
        match rustix::io::write(pipe, &block) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&quiet)).unwrap() == 0 {
                    break;
                }
            }
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    sent
}
