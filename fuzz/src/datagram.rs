//! One datagram of a shim or of its master, with or without descriptors.

use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fakessh_unix::datagram::{MAX_DESCRIPTORS, MAX_PAYLOAD, try_receive};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

/// The first byte says which descriptors go along: how many, and whether the last one is a memory
/// file with the rest of the input, and sealed. The rest is the datagram.
pub fn datagram(input: &[u8]) {
    let Some((&control, bytes)) = input.split_first() else { return };
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .expect("a pair of sockets");
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for _ in 0..usize::from(control & 15).min(MAX_DESCRIPTORS + 1) {
        descriptors.push(near.try_clone().expect("another descriptor"));
    }
    let has_file = control & 16 != 0;
    let is_sealed = control & 32 != 0;
    if has_file {
        descriptors.truncate(MAX_DESCRIPTORS);
        descriptors.push(memory_file(bytes, is_sealed));
    }
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    // In the form of a memory file there is one byte, and what follows is in the file.
    let shown = if has_file && bytes.first() == Some(&1) { &bytes[..1] } else { bytes };
    send(far.as_fd(), shown, &borrowed);
    match try_receive(near.as_fd()) {
        Ok(Some(datagram)) => {
            assert!(datagram.payload.len() <= MAX_PAYLOAD);
            match shown {
                [0, payload @ ..] => {
                    assert_eq!(datagram.payload, payload);
                    assert_eq!(datagram.descriptors.len(), descriptors.len());
                }
                [1] => {
                    assert!(is_sealed, "a file was believed that may change");
                    assert_eq!(datagram.payload, bytes);
                    assert_eq!(datagram.descriptors.len(), descriptors.len() - 1);
                }
                other => panic!("{other:?} was believed"),
            }
            assert!(datagram.descriptors.len() <= MAX_DESCRIPTORS);
        }
        Ok(None) => assert!(shown.is_empty(), "taken for the end"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}"),
    }
}

fn memory_file(bytes: &[u8], is_sealed: bool) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"fuzz", flags).expect("a memory file");
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).expect("writing to memory");
        rest = &rest[written..];
    }
    if is_sealed {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).expect("sealing");
    }
    file
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::DONTWAIT)
        .expect("a datagram that fits");
}
