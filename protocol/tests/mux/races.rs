//! Ends that cross on the way, and credit that comes late.

use fakessh_protocol::mux::{INITIAL_WINDOW, Mux, MuxError, Transmit};
use fakessh_protocol::wire::{Handle, Header, Kind};

use crate::pair::{End, Pair, Side};

const HANDLE: Handle = Handle(5);

/// What the two ends do to one handle, and what the sender and the receiver see of its end.
fn crossing(act: impl Fn(&mut Pair, Handle)) -> (Option<End>, Option<End>) {
    let mut pair = Pair::default();
    let handle = pair.open(Side::A, true);
    pair.settle(true);
    pair.peer(Side::A).offer(handle, 100);
    act(&mut pair, handle);
    pair.settle(true);
    pair.check_settled();
    (pair.peer(Side::A).sources[&handle].end, pair.peer(Side::B).sinks[&handle].end)
}

#[test]
fn stop_crosses_the_end_of_file() {
    let ends = crossing(|pair, handle| {
        pair.peer(Side::A).finish(handle);
        while pair.peer(Side::A).transmit() {}
        pair.peer(Side::B).stop(handle);
    });
    assert_eq!(ends, (Some(End::Eof), None));
}

#[test]
fn stop_crosses_a_reset() {
    let ends = crossing(|pair, handle| {
        pair.peer(Side::A).reset(handle);
        pair.peer(Side::B).stop(handle);
    });
    assert_eq!(ends, (Some(End::Reset), None));
}

#[test]
fn stop_comes_between_finish_and_the_end_of_file() {
    let ends = crossing(|pair, handle| {
        pair.peer(Side::A).finish(handle);
        pair.peer(Side::A).transmit();
        pair.peer(Side::B).stop(handle);
        pair.peer(Side::B).transmit();
        pair.deliver(Side::B, usize::MAX);
    });
    assert_eq!(ends, (Some(End::Stopped), None));
}

#[test]
fn stop_behind_the_end_of_file_is_nothing() {
    let ends = crossing(|pair, handle| {
        pair.peer(Side::A).finish(handle);
        pair.settle(true);
        pair.peer(Side::B).stop(handle);
    });
    assert_eq!(ends, (Some(End::Eof), Some(End::Eof)));
}

#[test]
fn a_reset_behind_the_end_of_file_is_nothing() {
    let ends = crossing(|pair, handle| {
        pair.peer(Side::A).finish(handle);
        while pair.peer(Side::A).transmit() {}
        pair.peer(Side::A).reset(handle);
    });
    assert_eq!(ends, (Some(End::Eof), Some(End::Eof)));
}

#[test]
fn a_reset_cuts_a_stream_that_was_finished_and_not_yet_sent() {
    let ends = crossing(|pair, handle| {
        pair.peer(Side::A).finish(handle);
        pair.peer(Side::A).reset(handle);
    });
    assert_eq!(ends, (Some(End::Reset), Some(End::Reset)));
}

#[test]
fn credit_and_stop_for_a_handle_that_is_closed_here_are_nothing() {
    let mut mux = Mux::new();
    for (kind, payload) in
        [(Kind::Credit, &[1, 0, 0, 0][..]), (Kind::Stop, &[]), (Kind::Blocked, &[])]
    {
        assert_eq!(mux.receive(&frame(kind, payload)).unwrap().1, None);
    }
    assert_eq!(mux.transmit(), None);
}

#[test]
fn a_sender_out_of_credit_says_so_once_and_goes_on_with_credit() {
    let mut mux = Mux::new();
    mux.open_sending(HANDLE).unwrap();
    mux.offer(HANDLE, INITIAL_WINDOW as usize + 10);
    let mut sent = 0;
    while let Some(Transmit::Data { len, .. }) = mux.transmit() {
        sent += len;
    }
    // The frame that ended the loop was the one that says so.
    assert_eq!(sent, INITIAL_WINDOW as usize);
    mux.offer(HANDLE, 1);
    mux.finish(HANDLE);
    assert_eq!(mux.transmit(), None);
    mux.receive(&frame(Kind::Credit, &0u32.to_le_bytes())).unwrap();
    assert_eq!(mux.transmit(), None, "a grant of nothing is no news");
    mux.receive(&frame(Kind::Credit, &11u32.to_le_bytes())).unwrap();
    assert!(matches!(mux.transmit(), Some(Transmit::Data { len: 11, .. })));
    assert_eq!(mux.transmit(), Some(Transmit::Control(frame(Kind::Eof, &[]).into())));
}

#[test]
fn a_forgotten_handle_leaves_no_word_and_can_be_opened_again() {
    let mut mux = Mux::new();
    mux.open_sending(HANDLE).unwrap();
    mux.open_receiving(HANDLE).unwrap();
    mux.offer(HANDLE, 10);
    mux.forget(HANDLE);
    assert_eq!(mux.transmit(), None);
    assert!(!mux.is_sending(HANDLE) && !mux.is_receiving(HANDLE));
    mux.open_sending(HANDLE).unwrap();
    mux.open_receiving(HANDLE).unwrap();
    assert_eq!(mux.open_sending(HANDLE), Err(MuxError::OpenedTwice(HANDLE)));
    assert_eq!(mux.open_receiving(HANDLE), Err(MuxError::OpenedTwice(HANDLE)));
    assert_eq!(mux.open_sending(Handle::LINK), Err(MuxError::OpenedTwice(Handle::LINK)));
}

#[test]
fn a_grant_in_line_is_not_the_next_handles_of_the_same_number() {
    let mut mux = Mux::new();
    for _ in 0..2 {
        mux.open_receiving(HANDLE).unwrap();
        for _ in 0..8 {
            mux.receive(&data(32_768)).unwrap();
            mux.took(32_768);
        }
        mux.consumed(HANDLE, 8 * 32_768);
        mux.receive(&frame(Kind::Eof, &[])).unwrap();
    }
    mux.open_receiving(HANDLE).unwrap();
    assert_eq!(mux.transmit(), None);
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, len: payload.len(), handle: HANDLE };
    [&header.encode()[..], payload].concat()
}

/// The header of a data frame.
fn data(len: usize) -> Vec<u8> {
    Header { kind: Kind::Data, len, handle: HANDLE }.encode().to_vec()
}
