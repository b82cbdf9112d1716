//! Whatever the order of actions and the split of bytes: all that was offered arrives, once and
//! in order, and every handle comes to its end.

use fakessh_protocol::wire::Handle;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::pair::{Pair, Side};

/// Something that a driver or the network does.
#[derive(Clone, Debug)]
enum Action {
    Open { sends: bool },
    Offer(Index, usize),
    Finish(Index),
    Reset(Index),
    Stop(Index),
    Consume(Index, usize),
    Message,
    Look,
    Probe,
    Transmit(usize),
    Deliver(usize),
}

/// Lengths around the limits, and small ones.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..40, 1usize..70_000, Just(65_528), Just(65_529), 200_000usize..1_000_000]
}

/// What moves bytes and ends nothing.
fn moving() -> impl Strategy<Value = Action> {
    let handle = any::<Index>;
    prop_oneof![
        2 => any::<bool>().prop_map(|sends| Action::Open { sends }),
        8 => (handle(), length()).prop_map(|(handle, len)| Action::Offer(handle, len)),
        6 => (handle(), length()).prop_map(|(handle, len)| Action::Consume(handle, len)),
        2 => Just(Action::Message),
        1 => Just(Action::Look),
        1 => Just(Action::Probe),
        8 => (1usize..20).prop_map(Action::Transmit),
        8 => length().prop_map(Action::Deliver),
    ]
}

fn ending() -> impl Strategy<Value = Action> {
    let handle = any::<Index>;
    prop_oneof![
        handle().prop_map(Action::Finish),
        handle().prop_map(Action::Reset),
        handle().prop_map(Action::Stop),
    ]
}

fn actions(action: impl Strategy<Value = Action>) -> impl Strategy<Value = Vec<(Side, Action)>> {
    let side = prop_oneof![Just(Side::A), Just(Side::B)];
    prop::collection::vec((side, action), 1..250)
}

fn pick<'a>(handles: impl Iterator<Item = &'a Handle>, index: &Index) -> Option<Handle> {
    let handles: Vec<Handle> = handles.copied().collect();
    (!handles.is_empty()).then(|| handles[index.index(handles.len())])
}

fn act(pair: &mut Pair, side: Side, action: &Action) {
    let peer = pair.peer(side);
    match action {
        Action::Open { sends } => {
            pair.open(side, *sends);
        }
        Action::Offer(index, len) => {
            if let Some(handle) = pick(peer.sources.keys(), index) {
                peer.offer(handle, *len);
            }
        }
        Action::Finish(index) => {
            if let Some(handle) = pick(peer.sources.keys(), index) {
                peer.finish(handle);
            }
        }
        Action::Reset(index) => {
            if let Some(handle) = pick(peer.sources.keys(), index) {
                peer.reset(handle);
            }
        }
        Action::Stop(index) => {
            if let Some(handle) = pick(peer.sinks.keys(), index) {
                peer.stop(handle);
            }
        }
        Action::Consume(index, len) => {
            if let Some(handle) = pick(peer.sinks.keys(), index) {
                peer.consume(handle, *len);
            }
        }
        Action::Message => peer.message(),
        Action::Look => {
            peer.mux.tick();
        }
        Action::Probe => peer.mux.probe(),
        Action::Transmit(frames) => {
            for _ in 0..*frames {
                peer.transmit();
            }
        }
        Action::Deliver(len) => {
            pair.deliver(side, *len);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn everything_offered_arrives_once_and_in_order(actions in actions(moving())) {
        let mut pair = Pair::default();
        for (side, action) in &actions {
            act(&mut pair, *side, action);
        }
        pair.settle(true);
        pair.check_settled();
    }

    #[test]
    fn every_handle_ends_whoever_ends_it_and_when(actions in actions(prop_oneof![10 => moving(), 1 => ending()])) {
        let mut pair = Pair::default();
        for (side, action) in &actions {
            act(&mut pair, *side, action);
        }
        pair.settle(true);
        pair.check_settled();
    }

    #[test]
    fn a_reader_that_never_reads_stops_its_own_handle_only(
        stuck in 300_000usize..3_000_000,
        flowing in 300_000usize..3_000_000,
        split in 1000usize..100_000,
    ) {
        let mut pair = Pair::default();
        let (stopped, read) = (pair.open(Side::A, true), pair.open(Side::A, true));
        pair.peer(Side::A).offer(stopped, stuck);
        pair.peer(Side::A).offer(read, flowing);
        while pair.peer(Side::B).sinks.get(&read).is_none_or(|sink| sink.received < flowing as u64) {
            let sent = pair.peer(Side::A).transmit();
            let moved = pair.deliver(Side::A, split) > 0;
            pair.peer(Side::B).consume(read, usize::MAX);
            prop_assert!(sent || moved || pair.peer(Side::B).mux.wants_transmit(), "stuck");
            while pair.peer(Side::B).transmit() {}
            pair.deliver(Side::B, usize::MAX);
        }
        pair.settle(false);
        let window = fakessh_protocol::mux::INITIAL_WINDOW as usize;
        prop_assert_eq!(pair.peer(Side::B).sinks[&stopped].held, window);
        pair.settle(true);
        pair.check_settled();
    }

    #[test]
    fn bytes_that_come_one_at_a_time_are_the_same_bytes(len in 1usize..5000) {
        let mut pair = Pair::default();
        let up = pair.open(Side::A, true);
        pair.peer(Side::A).offer(up, len);
        pair.peer(Side::A).finish(up);
        while pair.peer(Side::A).transmit() {}
        for _ in 0..len + 100 {
            pair.deliver(Side::A, 1);
        }
        prop_assert_eq!(pair.peer(Side::B).sinks[&up].received, len as u64);
        pair.settle(true);
        pair.check_settled();
    }
}
