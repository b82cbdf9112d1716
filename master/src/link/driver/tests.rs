use super::*;
use crate::stream::Diagnostics;

/// A driver that nobody runs, and what it would talk to.
struct Played {
    driver: Driver,
    slave: Mux,
    _others: (mpsc::UnboundedSender<Command>, mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>),
}

impl Played {
    fn new() -> Played {
        let (to_master, incoming) = mpsc::channel(1);
        let (outgoing, from_master) = mpsc::channel(1);
        let stream = ByteStream { incoming, outgoing, diagnostics: Diagnostics::default() };
        let (own, commands) = mpsc::unbounded_channel();
        let keepalive = Keepalive::default();
        let driver = Driver::new(stream, Mux::new(), own.downgrade(), commands, keepalive);
        Played { driver, slave: Mux::new(), _others: (own, to_master, from_master) }
    }

    /// Each side gets what the other one has said so far.
    fn exchange(&mut self) {
        while let Some(Transmit::Control(frame)) = self.driver.mux.transmit() {
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
    played.driver.command(Command::Probe).unwrap();
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
    let (to_reader, mut reader) = mpsc::unbounded_channel();
    for handle in [small, large] {
        played.driver.mux.open_receiving(handle).unwrap();
        played.slave.open_sending(handle).unwrap();
    }
    played.driver.inboxes.insert(small, to_reader);
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
    let received = reader.try_recv();
    assert!(stream.is_unique(), "the reader's bytes keep the others");
    assert_eq!(received, Ok(Chunk::Data(Bytes::from_static(&[b'x'; 10]))));
}
