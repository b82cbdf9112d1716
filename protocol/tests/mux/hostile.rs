//! A peer that sends what it likes: an error at most, and bounded memory.

use fakessh_protocol::mux::{
    Event, Expecting, INITIAL_WINDOW, MAX_WIDENED, MAX_WINDOW, Mux, MuxError, Transmit,
};
use fakessh_protocol::wire::{Handle, Header, Kind, MAX_DATA, WireError};
use proptest::prelude::*;

const HANDLES: u32 = 8;

/// Bytes of a frame that fits a window so many times.
const PART: usize = 16 * 1024;

fn frame(kind: Kind, handle: Handle, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, len: payload.len(), handle };
    [&header.encode()[..], payload].concat()
}

fn open_mux() -> Mux {
    let mut mux = Mux::new();
    for number in 1..=HANDLES {
        mux.open_sending(Handle(number)).unwrap();
        mux.open_receiving(Handle(number)).unwrap();
    }
    mux
}

/// Gives the mux all bytes, as a driver would.
fn feed(mux: &mut Mux, mut bytes: &[u8]) -> Result<Vec<Event>, MuxError> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let used = match mux.expecting() {
            Expecting::Data(_, len) => {
                let used = len.min(bytes.len());
                mux.took(used);
                used
            }
            Expecting::Control(_) => {
                let (used, event) = mux.receive(bytes)?;
                events.extend(event);
                used
            }
        };
        bytes = &bytes[used..];
    }
    Ok(events)
}

/// Floods the mux with one frame while nothing can be sent, and counts what has piled up.
fn flooded(frame: &[u8], mut mux: Mux) -> usize {
    for _ in 0..10_000 {
        feed(&mut mux, frame).unwrap();
    }
    std::iter::from_fn(|| mux.transmit()).count()
}

/// A frame, mostly one that can be.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let handle = (0..HANDLES + 2).prop_map(Handle);
    let kind = prop_oneof![
        Just(Kind::Data),
        Just(Kind::Eof),
        Just(Kind::Reset),
        Just(Kind::Credit),
        Just(Kind::Stop),
        Just(Kind::Blocked),
        Just(Kind::Message),
        Just(Kind::Ping),
        Just(Kind::Pong),
    ];
    let filler = prop::collection::vec(any::<u8>(), 0..300);
    let valid = (kind, handle, filler).prop_map(|(kind, handle, mut payload)| {
        match kind {
            Kind::Data | Kind::Message => payload.push(1),
            Kind::Credit => {
                payload.resize(4, 0);
                payload[2..].fill(0);
            }
            Kind::Ping | Kind::Pong => payload.resize(8, 0),
            Kind::Eof | Kind::Reset | Kind::Stop | Kind::Blocked => payload.clear(),
        }
        frame(kind, handle, &payload)
    });
    prop_oneof![20 => valid, 1 => prop::collection::vec(any::<u8>(), 1..20)]
}

proptest! {
    #[test]
    fn no_bytes_make_the_mux_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut mux = open_mux();
        let _ = feed(&mut mux, &bytes);
        while mux.transmit().is_some() {}
    }

    #[test]
    fn no_frames_make_the_mux_panic_or_hold_more_than_its_windows(
        frames in prop::collection::vec((any_frame(), any::<bool>(), 0usize..1000), 0..200),
    ) {
        let mut mux = open_mux();
        for (frame, transmits, consumed) in frames {
            if feed(&mut mux, &frame).is_err() {
                break;
            }
            for number in 1..=HANDLES {
                let handle = Handle(number);
                mux.offer(handle, 100);
                mux.consumed(handle, consumed);
                prop_assert!(mux.window(handle) <= MAX_WINDOW as usize);
            }
            if transmits {
                mux.transmit();
            }
        }
        let left = std::iter::from_fn(|| mux.transmit()).take(1_000_000).count();
        prop_assert!(left < 1_000_000);
    }

    #[test]
    fn any_header_is_one_that_can_be_or_an_error(bytes in any::<[u8; 8]>()) {
        if let Ok(header) = Header::decode(bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }
}

#[test]
fn floods_pile_up_nothing_while_the_link_takes_nothing() {
    let handle = Handle(1);
    let ping = frame(Kind::Ping, Handle::LINK, &[7; 8]);
    assert_eq!(flooded(&ping, Mux::new()), 1, "the last ping is answered");
    let blocked = frame(Kind::Blocked, handle, &[]);
    assert_eq!(flooded(&blocked, open_mux()), 0, "nothing was read: nothing is granted");
    let stop = frame(Kind::Stop, handle, &[]);
    assert_eq!(flooded(&stop, open_mux()), 1, "one reset");
    let credit = frame(Kind::Credit, handle, &[1, 0, 0, 0]);
    assert_eq!(flooded(&credit, open_mux()), 0);
}

#[test]
fn who_only_says_that_it_waits_gets_no_wider_window() {
    let mut mux = open_mux();
    let handle = Handle(1);
    for _ in 0..100 {
        feed(&mut mux, &frame(Kind::Blocked, handle, &[])).unwrap();
        while mux.transmit().is_some() {}
    }
    assert_eq!(mux.window(handle), INITIAL_WINDOW as usize);
}

#[test]
fn windows_of_a_link_grow_within_one_budget_and_give_it_back() {
    let mut mux = Mux::new();
    let handles: Vec<Handle> = (1..=64).map(Handle).collect();
    let widen = |mux: &mut Mux, handle| {
        for _ in 0..400 {
            feed(mux, &frame(Kind::Data, handle, &[0; MAX_DATA])).unwrap();
            mux.consumed(handle, MAX_DATA);
            feed(mux, &frame(Kind::Blocked, handle, &[])).unwrap();
            while mux.transmit().is_some() {}
        }
    };
    for &handle in &handles {
        mux.open_receiving(handle).unwrap();
        widen(&mut mux, handle);
    }
    assert_eq!(mux.window(handles[0]), MAX_WINDOW as usize);
    let windows: usize = handles.iter().map(|&handle| mux.window(handle)).sum();
    assert!(windows <= handles.len() * INITIAL_WINDOW as usize + MAX_WIDENED);
    let last = handles[63];
    assert_eq!(mux.window(last), INITIAL_WINDOW as usize);
    feed(&mut mux, &frame(Kind::Eof, handles[0], &[])).unwrap();
    widen(&mut mux, last);
    assert!(mux.window(last) > INITIAL_WINDOW as usize);
}

#[test]
fn frames_that_break_the_rules_are_errors() {
    let handle = Handle(1);
    let unknown = Handle(99);
    for kind in [Kind::Eof, Kind::Reset] {
        let error = feed(&mut open_mux(), &frame(kind, unknown, &[])).unwrap_err();
        assert_eq!(error, MuxError::NotOpen(unknown));
    }
    let error = feed(&mut open_mux(), &frame(Kind::Data, unknown, &[0])).unwrap_err();
    assert_eq!(error, MuxError::NotOpen(unknown));

    let mut mux = open_mux();
    for _ in 0..INITIAL_WINDOW as usize / PART {
        feed(&mut mux, &frame(Kind::Data, handle, &[0; PART])).unwrap();
    }
    let error = feed(&mut mux, &frame(Kind::Data, handle, &[0])).unwrap_err();
    assert_eq!(error, MuxError::OverCredit(handle));

    for granted in [MAX_WINDOW, u32::MAX] {
        let error = feed(&mut open_mux(), &frame(Kind::Credit, handle, &granted.to_le_bytes()));
        assert_eq!(error.unwrap_err(), MuxError::CreditOverflow(handle));
    }

    let error = feed(&mut open_mux(), &[77; 8]).unwrap_err();
    assert_eq!(error, MuxError::Wire(WireError::UnknownKind(77)));
    for (kind, len) in
        [(Kind::Eof, 1), (Kind::Credit, 5), (Kind::Ping, 0), (Kind::Data, MAX_DATA + 1)]
    {
        let header = Header { kind, len, handle }.encode();
        let error = feed(&mut open_mux(), &header).unwrap_err();
        assert_eq!(error, MuxError::Wire(WireError::BadLength { kind, len }));
    }
}

#[test]
fn bytes_that_cross_a_stop_count_against_the_credit_all_the_same() {
    let mut mux = open_mux();
    let handle = Handle(1);
    mux.stop(handle);
    mux.stop(handle);
    assert!(matches!(mux.transmit(), Some(Transmit::Control(_))));
    assert_eq!(mux.transmit(), None, "stop is said once");
    for _ in 0..INITIAL_WINDOW as usize / PART {
        feed(&mut mux, &frame(Kind::Data, handle, &[0; PART])).unwrap();
        mux.consumed(handle, PART);
    }
    assert_eq!(mux.transmit(), None);
    let error = feed(&mut mux, &frame(Kind::Data, handle, &[0])).unwrap_err();
    assert_eq!(error, MuxError::OverCredit(handle));
}
