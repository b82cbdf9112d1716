use std::fs::File;
use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn round_trip(payload: &[u8]) -> Vec<u8> {
    let (near, far) = pair();
    send(near.as_fd(), payload, &[]).unwrap();
    let datagram = receive(far.as_fd()).unwrap().unwrap();
    assert!(datagram.descriptors.is_empty());
    datagram.payload
}

#[test]
fn payloads_around_the_inline_limit_arrive_whole() {
    for len in [0, 1, MAX_INLINE - 1, MAX_INLINE, MAX_INLINE + 1, 1024 * 1024, MAX_PAYLOAD] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        assert!(round_trip(&payload) == payload, "{len} bytes");
    }
}

#[test]
fn more_than_the_limits_is_refused_before_it_is_sent() {
    let (near, far) = pair();
    let error = send(near.as_fd(), &vec![0; MAX_PAYLOAD + 1], &[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let many = [near.as_fd(); MAX_DESCRIPTORS + 1];
    let error = send(near.as_fd(), b"x", &many).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let error = try_receive(far.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn descriptors_arrive_in_order_and_close_on_exec_with_either_form() {
    for len in [5, MAX_INLINE + 1] {
        let (near, far) = pair();
        let pipes: Vec<_> =
            (0..MAX_DESCRIPTORS).map(|_| pipe_with(PipeFlags::CLOEXEC).unwrap()).collect();
        let ends: Vec<_> = pipes.iter().map(|(_, write)| write.as_fd()).collect();
        send(near.as_fd(), &vec![7; len], &ends).unwrap();
        let datagram = receive(far.as_fd()).unwrap().unwrap();
        assert_eq!(datagram.payload.len(), len);
        assert_eq!(datagram.descriptors.len(), MAX_DESCRIPTORS);
        for (index, descriptor) in datagram.descriptors.into_iter().enumerate() {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            File::from(descriptor).write_all(&[index as u8]).unwrap();
            let mut byte = [255];
            File::from(pipes[index].0.try_clone().unwrap()).read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], index as u8);
        }
    }
}

#[test]
fn a_closed_far_end_is_the_end_and_a_broken_pipe() {
    let (near, far) = pair();
    drop(far);
    assert!(receive(near.as_fd()).unwrap().is_none());
    assert_eq!(send(near.as_fd(), b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_full_socket_would_block_and_takes_more_once_it_is_read() {
    let (near, far) = pair();
    let mut sent = 0;
    let error = loop {
        match try_send(near.as_fd(), &[0; 4096], &[]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(!is_shortage(&error));
    let sender = std::thread::spawn(move || send(near.as_fd(), b"last", &[]));
    for _ in 0..sent {
        assert_eq!(receive(far.as_fd()).unwrap().unwrap().payload.len(), 4096);
    }
    assert_eq!(receive(far.as_fd()).unwrap().unwrap().payload, b"last");
    sender.join().unwrap().unwrap();
}

fn refused(form: u8, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> String {
    let (near, far) = pair();
    transmit_parts(near.as_fd(), form, payload, descriptors, SendFlags::NOSIGNAL).unwrap();
    let error = receive(far.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    error.to_string()
}

#[test]
fn memory_files_are_not_believed() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let unsealed = rustix::fs::memfd_create(c"test", flags).unwrap();
    assert!(refused(IN_MEMORY_FILE, &[], &[unsealed.as_fd()]).contains("not sealed"));

    let huge = rustix::fs::memfd_create(c"test", flags).unwrap();
    rustix::fs::ftruncate(&huge, MAX_PAYLOAD as u64 + 1).unwrap();
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&huge, seals).unwrap();
    assert!(refused(IN_MEMORY_FILE, &[], &[huge.as_fd()]).contains("too large"));

    let (read, _write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    assert!(refused(IN_MEMORY_FILE, &[], &[read.as_fd()]).contains("not sealed"));
    assert!(refused(IN_MEMORY_FILE, &[], &[]).contains("missing"));
    assert!(refused(9, b"x", &[]).contains("form"));
}

#[test]
fn a_datagram_over_the_inline_limit_is_refused_and_not_cut() {
    assert!(refused(INLINE, &vec![0; MAX_INLINE + 1], &[]).contains("cut short"));
}

#[test]
fn descriptors_over_the_limit_are_refused_and_closed() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let many = [write.as_fd(); MAX_DESCRIPTORS + 1];
    assert!(refused(INLINE, b"x", &many).contains("too many"));
    drop(write);
    // All copies are closed: the reader sees the end.
    assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
}

/// Runs a test of this file in a process of its own, which may open no more descriptors than it
/// has and `spare`. False in that process.
fn in_a_process_at_its_limit(test: &str) -> bool {
    if std::env::var_os("AT_THE_LIMIT").is_some() {
        return false;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--test-threads=1"]).env("AT_THE_LIMIT", "1");
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

#[test]
fn the_first_descriptors_arrive_where_there_is_no_room_for_all() {
    if in_a_process_at_its_limit(
        "datagram::tests::the_first_descriptors_arrive_where_there_is_no_room_for_all",
    ) {
        return;
    }
    for (len, room) in [(5, 0), (5, 1), (5, 3), (MAX_INLINE + 1, 1), (MAX_INLINE + 1, 3)] {
        let (near, far) = pair();
        let pipes: Vec<_> = (0..3).map(|_| pipe_with(PipeFlags::CLOEXEC).unwrap()).collect();
        let mut ends: Vec<_> = pipes.iter().map(|(_, write)| write.as_fd()).collect();
        if len < MAX_INLINE {
            ends.push(near.as_fd());
        }
        send(near.as_fd(), &vec![7; len], &ends).unwrap();
        // Everything that is free but so many.
        let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let mut taken = Vec::new();
        while let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(&near, 0) {
            taken.push(fd);
        }
        taken.truncate(taken.len() - room);
        let error = receive(far.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let cut = error.downcast::<CutShort>().unwrap();
        assert_eq!(cut.descriptors.len(), room);
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        for (descriptor, end) in cut.descriptors.iter().zip(&ends) {
            assert_eq!(inode(descriptor.as_fd()), inode(*end));
        }
    }
}

#[test]
fn messages_round_trip_and_garbage_is_refused() {
    use fakessh_protocol::message::FromShim;
    let (near, far) = pair();
    send_message(near.as_fd(), &FromShim::Signal(15), &[]).unwrap();
    let (message, _) = receive_message::<FromShim>(far.as_fd()).unwrap().unwrap();
    assert_eq!(message, FromShim::Signal(15));
    send(near.as_fd(), &[200; 10], &[]).unwrap();
    let error = receive_message::<FromShim>(far.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);

    let bytes = inline_bytes(&FromShim::Signal(2)).unwrap();
    rustix::net::send(&near, &bytes, SendFlags::NOSIGNAL).unwrap();
    let (message, _) = receive_message::<FromShim>(far.as_fd()).unwrap().unwrap();
    assert_eq!(message, FromShim::Signal(2));
}

proptest! {
    #[test]
    fn any_payload_round_trips(payload in proptest::collection::vec(any::<u8>(), 0..70_000)) {
        prop_assert!(round_trip(&payload) == payload);
    }

    #[test]
    fn no_raw_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (near, far) = pair();
        rustix::net::send(&near, &bytes, SendFlags::NOSIGNAL).unwrap();
        let _ = receive_message::<fakessh_protocol::message::ToShim>(far.as_fd());
    }
}
