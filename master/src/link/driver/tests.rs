use fakessh_protocol::mux::Transmit;

use super::*;
use crate::link::inbox::WORTH_A_PIECE;
use crate::stream::Diagnostics;

/// A driver that nobody runs, and what it would talk to.
struct Played {
    driver: Driver,
    slave: Mux,
    _others: (mpsc::UnboundedSender<LinkRequest>, mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>),
}

impl Played {
    fn new() -> Played {
        let (to_master, incoming) = mpsc::channel(1);
        let (outgoing, from_master) = mpsc::channel(1);
        let stream = ByteStream { incoming, outgoing, diagnostics: Diagnostics::default() };
        let (own, requests) = mpsc::unbounded_channel();
        let keepalive = Keepalive::default();
        let driver = Driver::new(stream, Mux::new(), own.downgrade(), requests, keepalive);
        Played { driver, slave: Mux::new(), _others: (own, to_master, from_master) }
    }

    /// Each side gets what the other one has said so far.
    fn exchange(&mut self) {
        while let Some(Transmit::Control(frame)) = self.driver.streams.mux.transmit() {
            self.slave.receive(&frame).unwrap();
        }
        while let Some(Transmit::Control(frame)) = self.slave.transmit() {
            self.driver.feed(Bytes::copy_from_slice(&frame)).unwrap();
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_probe_counts_also_where_a_tick_of_the_keepalive_sees_it() {
    let mut played = Played::new();
    played.driver.request(LinkRequest::Probe).unwrap();
    assert!(played.driver.probe.is_some());
    played.driver.look().unwrap();
    assert!(played.driver.probe.is_some(), "nothing was heard yet");
    played.exchange();
    played.driver.look().unwrap();
    assert!(played.driver.probe.is_none(), "it is still waited for an answer that has come");
}

#[tokio::test]
async fn a_small_frame_does_not_keep_what_came_with_it() {
    let mut played = Played::new();
    let (small, large) = (Handle(2), Handle(3));
    let (to_reader, mut reader) = super::super::inbox::inbox();
    for handle in [small, large] {
        played.slave.open_sending(handle).unwrap();
    }
    played.driver.streams.mux.open_receiving(large).unwrap();
    played.driver.streams.open_receiving(small, to_reader).unwrap();
    let mut stream = BytesMut::new();
    for (handle, len) in [(large, 30_000), (small, 10)] {
        played.slave.offer(handle, len);
        while let Some(transmit) = played.slave.transmit() {
            let Transmit::Data { header, len, .. } = transmit else { panic!("{transmit:?}") };
            stream.extend_from_slice(&header);
            stream.resize(stream.len() + len, b'x');
        }
    }
    let stream = stream.freeze();
    played.driver.feed(stream.clone()).unwrap();
    let received = reader.more();
    assert!(stream.is_unique(), "the reader's bytes keep the others");
    assert_eq!(received.as_deref(), Some(&[b'x'; 10][..]));
}

#[tokio::test]
async fn a_part_that_is_small_beside_the_rest_does_not_keep_it_either() {
    let mut played = Played::new();
    let handle = Handle(2);
    let (to_reader, mut reader) = super::super::inbox::inbox();
    played.driver.streams.open_receiving(handle, to_reader).unwrap();
    let header = |kind, len| wire::Header { kind, len, handle }.encode();
    let mut stream = header(wire::Kind::Data, WORTH_A_PIECE).to_vec();
    stream.resize(stream.len() + WORTH_A_PIECE, b'x');
    while stream.len() < 64 * 1024 {
        stream.extend(header(wire::Kind::Blocked, 0));
    }
    let stream = Bytes::from(stream);
    played.driver.unread = stream.clone();
    while !played.driver.unread.is_empty() {
        let rest = std::mem::take(&mut played.driver.unread);
        played.driver.feed(rest).unwrap();
    }
    let received = reader.more().unwrap();
    assert!(stream.is_unique(), "the reader's bytes keep the others");
    assert_eq!(received.len(), WORTH_A_PIECE);
}

#[tokio::test]
async fn a_flood_of_frames_is_taken_in_by_turns_and_not_read_for_a_moment() {
    let mut played = Played::new();
    let frame = wire::Header { kind: wire::Kind::Blocked, len: 0, handle: Handle(2) }.encode();
    let all = 100 * share::TURN;
    played.driver.unread = Bytes::from(frame.repeat(all as usize));
    assert!(played.driver.share.rest(Instant::now).is_none());
    for turn in 1..=100 {
        let rest = std::mem::take(&mut played.driver.unread);
        played.driver.feed(rest).unwrap();
        assert_eq!(played.driver.streams.mux.received(), turn * share::TURN);
    }
    assert!(played.driver.unread.is_empty());
    assert!(played.driver.share.rest(Instant::now).is_some_and(|until| until > Instant::now()));
    assert!(!played.driver.streams.mux.wants_transmit(), "a flood of nothing has no answer");
}

#[tokio::test]
async fn messages_are_taken_in_by_fewer() {
    let mut played = Played::new();
    let frame = wire::encode_frame(Handle(4), &ToMaster::Gone).unwrap();
    played.driver.feed(Bytes::from(frame.repeat(1000))).unwrap();
    let received = played.driver.streams.mux.received();
    assert!((10..100).contains(&received), "{received}");
    assert!(!played.driver.unread.is_empty());
}
