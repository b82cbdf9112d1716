//! Both ends of a link, with drivers that keep payload in queues and check the rules as they go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

use fakessh_protocol::mux::{
    Event, Expecting, INITIAL_WINDOW, MAX_WIDENED, MAX_WINDOW, Mux, Transmit,
};
use fakessh_protocol::wire::{self, Handle, Header, Kind, MAX_DATA};
use serde::{Deserialize, Serialize};

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// What the ends say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    /// I send on this handle from now on.
    ISend(Handle),
    /// You send on this handle from now on.
    YouSend(Handle),
    /// The so-manieth message from here.
    Number(u64),
}

/// How a stream ended, as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
    Stopped,
}

/// What a driver keeps of a handle it sends on.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Offered and not yet sent.
    pub(crate) ready: VecDeque<u8>,
    pub(crate) offered: u64,
    pub(crate) sent: u64,
    pub(crate) finished: bool,
    pub(crate) end: Option<End>,
}

/// What a driver keeps of a handle it receives on.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) received: u64,
    pub(crate) held: usize,
    pub(crate) stopped: bool,
    pub(crate) end: Option<End>,
}

/// One end with its driver.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) mux: Mux,
    pub(crate) sources: BTreeMap<Handle, Source>,
    pub(crate) sinks: BTreeMap<Handle, Sink>,
    /// Bytes on their way to the other end.
    pipe: Vec<u8>,
    said: u64,
    heard: u64,
    /// Messages given to the mux that have not come out of it.
    unsent_messages: usize,
    /// Data frames sent, by handle, in order.
    pub(crate) turns: Vec<Handle>,
}

/// Bytes that all streams are cut from, each handle's from a place of its own: wrong bytes, wrong
/// order and wrong handles all show. A prime length, so that no frame size divides it.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(65_521).collect()
});

/// Bytes `from..from + len` of a handle's stream.
fn stream(handle: Handle, from: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let mut at = (from as usize + handle.0 as usize * 7919) % PATTERN.len();
    while bytes.len() < len {
        let take = (PATTERN.len() - at).min(len - bytes.len());
        bytes.extend_from_slice(&PATTERN[at..at + take]);
        at = 0;
    }
    bytes
}

/// Both ends.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    a: Peer,
    b: Peer,
    opened: u32,
}

impl Pair {
    pub(crate) fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// `side` opens a handle, to send or to receive on, and tells the other end.
    pub(crate) fn open(&mut self, side: Side, sends: bool) -> Handle {
        self.opened += 1;
        let handle = Handle(self.opened);
        self.peer(side).open(handle, sends);
        handle
    }

    /// Moves at most `len` bytes of what `from` has sent to the other end. Returns how many.
    pub(crate) fn deliver(&mut self, from: Side, len: usize) -> usize {
        let pipe = &mut self.peer(from).pipe;
        let bytes: Vec<u8> = pipe.drain(..len.min(pipe.len())).collect();
        self.peer(from.other()).take(&bytes);
        bytes.len()
    }

    /// Sends, delivers and, where `consuming`, consumes everything until nothing moves any more.
    pub(crate) fn settle(&mut self, consuming: bool) {
        loop {
            let mut moved = false;
            for side in [Side::A, Side::B] {
                let peer = self.peer(side);
                if consuming {
                    peer.consume_all();
                }
                while peer.transmit() {
                    moved = true;
                }
                moved |= self.deliver(side, usize::MAX) > 0;
            }
            if !moved {
                return;
            }
        }
    }

    /// What must hold once everything was sent, delivered and consumed.
    pub(crate) fn check_settled(&mut self) {
        for (sender, receiver) in [(&self.a, &self.b), (&self.b, &self.a)] {
            assert_eq!(receiver.heard, sender.said, "messages are missing");
            assert!(!sender.mux.wants_transmit() && sender.pipe.is_empty());
            for (handle, source) in &sender.sources {
                let sink = receiver.sinks.get(handle).expect("the opening message came");
                let open = (sender.mux.is_sending(*handle), receiver.mux.is_receiving(*handle));
                assert_eq!(open.0, open.1, "{handle:?} is open at one end only");
                match source.end {
                    None => {
                        assert!(open.0 && sink.end.is_none() && !source.finished && !sink.stopped);
                        assert_eq!(sink.received, source.offered, "{handle:?} is stuck");
                    }
                    Some(End::Eof) => {
                        assert!(!open.0);
                        assert_eq!(sink.received, source.offered);
                        assert!(sink.stopped || sink.end == Some(End::Eof));
                    }
                    Some(End::Reset) => {
                        assert!(!open.0);
                        assert_eq!(sink.received, source.sent);
                        assert!(sink.stopped || sink.end == Some(End::Reset));
                    }
                    Some(End::Stopped) => {
                        assert!(!open.0 && sink.stopped && sink.end.is_none());
                        assert_eq!(sink.received, source.sent);
                    }
                }
            }
        }
    }
}

impl Peer {
    fn open(&mut self, handle: Handle, sends: bool) {
        if sends {
            self.mux.open_sending(handle).unwrap();
            self.sources.insert(handle, Source::default());
            self.say(&Word::ISend(handle));
        } else {
            self.mux.open_receiving(handle).unwrap();
            self.sinks.insert(handle, Sink::default());
            self.say(&Word::YouSend(handle));
        }
    }

    pub(crate) fn message(&mut self) {
        self.said += 1;
        self.say(&Word::Number(self.said));
    }

    fn say(&mut self, word: &Word) {
        self.mux.message(Handle::LINK, word).unwrap();
        self.unsent_messages += 1;
    }

    pub(crate) fn offer(&mut self, handle: Handle, len: usize) {
        let Some(source) = self.sources.get_mut(&handle) else { return };
        if source.end.is_none() && !source.finished {
            source.ready.extend(&stream(handle, source.offered, len));
            source.offered += len as u64;
            self.mux.offer(handle, len);
        }
    }

    pub(crate) fn finish(&mut self, handle: Handle) {
        let Some(source) = self.sources.get_mut(&handle) else { return };
        if source.end.is_none() {
            source.finished = true;
            self.mux.finish(handle);
        }
    }

    pub(crate) fn reset(&mut self, handle: Handle) {
        let Some(source) = self.sources.get_mut(&handle) else { return };
        if source.end.is_none() {
            source.end = Some(End::Reset);
            source.ready.clear();
        }
        self.mux.reset(handle);
    }

    pub(crate) fn stop(&mut self, handle: Handle) {
        let Some(sink) = self.sinks.get_mut(&handle) else { return };
        if sink.end.is_none() {
            sink.stopped = true;
        }
        self.mux.stop(handle);
    }

    pub(crate) fn consume(&mut self, handle: Handle, len: usize) {
        let Some(sink) = self.sinks.get_mut(&handle) else { return };
        let len = len.min(sink.held);
        sink.held -= len;
        self.mux.consumed(handle, len);
    }

    pub(crate) fn consume_all(&mut self) {
        for (handle, sink) in &mut self.sinks {
            self.mux.consumed(*handle, std::mem::take(&mut sink.held));
        }
    }

    /// Sends one frame into the pipe. False where there was none.
    pub(crate) fn transmit(&mut self) -> bool {
        let expected = self.mux.wants_transmit();
        let Some(transmit) = self.mux.transmit() else { return false };
        assert!(expected, "a driver would not have asked");
        match transmit {
            Transmit::Control(frame) => {
                let (header, payload) = frame.split_first_chunk().unwrap();
                let header = Header::decode(*header).unwrap();
                assert_eq!(header.len, payload.len());
                match header.kind {
                    Kind::Message => self.unsent_messages -= 1,
                    Kind::Eof => {
                        let source = self.sources.get_mut(&header.handle).unwrap();
                        assert!(source.finished && source.ready.is_empty());
                        source.end = Some(End::Eof);
                        assert!(!self.mux.is_sending(header.handle));
                    }
                    _ => {}
                }
                self.pipe.extend(frame.iter());
            }
            Transmit::Data { header, handle, len } => {
                assert_eq!(self.unsent_messages, 0, "bulk went before a message");
                let decoded = Header::decode(header).unwrap();
                assert_eq!((decoded.kind, decoded.handle, decoded.len), (Kind::Data, handle, len));
                assert!((1..=MAX_DATA).contains(&len));
                let source = self.sources.get_mut(&handle).unwrap();
                assert!(source.end.is_none(), "bytes behind the end");
                self.pipe.extend(header);
                let later = source.ready.split_off(len);
                self.pipe.extend_from_slice(source.ready.make_contiguous());
                source.ready = later;
                source.sent += len as u64;
                self.turns.push(handle);
            }
        }
        true
    }

    /// Takes bytes of the link.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.mux.expecting() {
                Expecting::Data(handle, len) => {
                    let (now, later) = bytes.split_at(len.min(bytes.len()));
                    bytes = later;
                    self.payload(handle, now);
                }
                Expecting::Control(len) => {
                    assert!(len > 0);
                    let (used, event) = self.mux.receive(bytes).expect("the peer is honest");
                    assert!(used > 0);
                    bytes = &bytes[used..];
                    if let Some(event) = event {
                        self.event(event);
                    }
                }
            }
        }
        self.check_memory();
    }

    fn payload(&mut self, handle: Handle, bytes: &[u8]) {
        self.mux.took(bytes.len());
        let sink = self.sinks.get_mut(&handle).unwrap();
        assert!(sink.end.is_none(), "bytes behind the end");
        let right = stream(handle, sink.received, bytes.len());
        assert!(bytes == right, "wrong bytes on {handle:?} behind {}", sink.received);
        sink.received += bytes.len() as u64;
        if !sink.stopped {
            sink.held += bytes.len();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Message(handle, payload) => {
                assert_eq!(handle, Handle::LINK);
                match wire::decode(&payload).unwrap() {
                    Word::ISend(handle) => {
                        self.mux.open_receiving(handle).unwrap();
                        self.sinks.insert(handle, Sink::default());
                    }
                    Word::YouSend(handle) => {
                        self.mux.open_sending(handle).unwrap();
                        self.sources.insert(handle, Source::default());
                    }
                    Word::Number(number) => {
                        self.heard += 1;
                        assert_eq!(number, self.heard, "messages out of order");
                    }
                }
            }
            Event::Eof(handle) => self.sink_ended(handle, End::Eof),
            Event::Reset(handle) => self.sink_ended(handle, End::Reset),
            Event::Stopped(handle) => {
                let source = self.sources.get_mut(&handle).unwrap();
                assert_eq!(source.end.replace(End::Stopped), None, "stopped behind the end");
                source.ready.clear();
                assert!(!self.mux.is_sending(handle));
            }
        }
    }

    fn sink_ended(&mut self, handle: Handle, end: End) {
        let sink = self.sinks.get_mut(&handle).unwrap();
        assert!(!sink.stopped, "who has said stop hears no more");
        assert_eq!(sink.end.replace(end), None);
        assert!(!self.mux.is_receiving(handle));
    }

    /// No handle holds more than its window, and all windows stay within their bounds.
    fn check_memory(&self) {
        let mut widened = 0;
        for (handle, sink) in &self.sinks {
            if self.mux.is_receiving(*handle) {
                let window = self.mux.window(*handle);
                assert!(sink.held <= window, "{handle:?} holds {} of {window}", sink.held);
                assert!((INITIAL_WINDOW..=MAX_WINDOW).contains(&(window as u32)));
                widened += window - INITIAL_WINDOW as usize;
            }
        }
        assert!(widened <= MAX_WIDENED);
    }
}
