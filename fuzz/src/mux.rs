//! A mux between a driver that does anything and a peer that sends anything.

use std::collections::HashMap;

use fakessh_protocol::mux::{Expecting, MAX_WINDOW, Mux, Transmit};
use fakessh_protocol::wire::{HEADER_LEN, Handle, Header, Kind, MAX_DATA};

/// Most actions of the driver that an input holds; they are repeated.
const MAX_ACTIONS: usize = 64;

/// The first byte says how many actions of the driver follow; the rest is what the peer sends.
pub fn mux(input: &[u8]) {
    let Some((&count, rest)) = input.split_first() else { return };
    let (actions, mut link) = rest.split_at(rest.len().min(usize::from(count) % MAX_ACTIONS));
    let mut driver = Driver::default();
    for (turn, &action) in actions.iter().cycle().take(link.len() + actions.len()).enumerate() {
        driver.act(action);
        let (now, later) = link.split_at(link.len().min(1 + turn * 37 % 23));
        link = later;
        if !driver.receive(now) {
            break;
        }
        driver.check();
    }
    if driver.receive(link) {
        driver.check();
    }
    // Whatever the peer did, what it made us say has an end.
    let bound = 1000 + 10 * (input.len() + driver.offered / MAX_DATA);
    for _ in 0..bound {
        if !driver.transmit() {
            return;
        }
    }
    panic!("more than {bound} frames of {} bytes", input.len());
}

#[derive(Default)]
struct Driver {
    mux: Mux,
    /// Bytes held, by handle that is open to receive.
    held: HashMap<Handle, usize>,
    offered: usize,
    broken: bool,
}

impl Driver {
    fn act(&mut self, action: u8) {
        let handle = Handle(u32::from(action >> 4));
        match action & 15 {
            0 => drop(self.mux.open_sending(handle)),
            1 => self.open_receiving(handle),
            2 => self.offer(handle, 1000),
            3 => self.offer(handle, 300_000),
            4 => self.mux.finish(handle),
            5 => self.mux.reset(handle),
            6 => self.mux.stop(handle),
            7 => self.consume(handle, 1),
            8 => self.consume(handle, usize::MAX),
            9 => drop(self.mux.tick()),
            10 => self.mux.probe(),
            11 => self.mux.message(handle, &action).expect("it is one byte"),
            12 => self.forget(handle),
            13 => drop(self.transmit()),
            14 => while self.transmit() {},
            _ => {}
        }
    }

    fn open_receiving(&mut self, handle: Handle) {
        if self.mux.open_receiving(handle).is_ok() {
            self.held.insert(handle, 0);
        }
    }

    /// As one that the peer was not told of: no bytes of it are on the way.
    fn forget(&mut self, handle: Handle) {
        if !matches!(self.mux.expecting(), Expecting::Data(coming, _) if coming == handle) {
            self.mux.forget(handle);
            self.held.remove(&handle);
        }
    }

    fn offer(&mut self, handle: Handle, len: usize) {
        self.offered += len;
        self.mux.offer(handle, len);
    }

    fn consume(&mut self, handle: Handle, len: usize) {
        if let Some(held) = self.held.get_mut(&handle) {
            *held -= len.min(*held);
            self.mux.consumed(handle, len);
        }
    }

    /// Takes bytes of the link. False where the peer broke the protocol.
    fn receive(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.broken {
            let used = match self.mux.expecting() {
                Expecting::Data(handle, remaining) => {
                    let used = remaining.min(bytes.len());
                    self.mux.took(used);
                    *self.held.get_mut(&handle).expect("the handle is open") += used;
                    used
                }
                Expecting::Control(wanted) => match self.mux.receive(bytes) {
                    Ok((used, _)) => {
                        assert!(wanted > 0 && used > 0);
                        used
                    }
                    Err(_) => {
                        self.broken = true;
                        return false;
                    }
                },
            };
            bytes = &bytes[used..];
        }
        !self.broken
    }

    fn transmit(&mut self) -> bool {
        let wanted = self.mux.wants_transmit();
        let Some(transmit) = self.mux.transmit() else { return false };
        assert!(wanted);
        match transmit {
            Transmit::Control(frame) => {
                let header = *frame.first_chunk::<HEADER_LEN>().expect("a frame has a header");
                let header = Header::decode(header).expect("what we send can be read");
                assert_eq!(frame.len(), HEADER_LEN + header.len);
            }
            Transmit::Data { header, handle, len } => {
                let decoded = Header::decode(header).expect("what we send can be read");
                assert_eq!(decoded, Header { kind: Kind::Data, len, handle });
                assert!(len <= MAX_DATA);
            }
        }
        true
    }

    /// Nothing is held beyond its window.
    fn check(&mut self) {
        let mux = &self.mux;
        self.held.retain(|&handle, _| mux.is_receiving(handle));
        for (&handle, &held) in &self.held {
            let window = mux.window(handle);
            assert!(held <= window && window <= MAX_WINDOW as usize);
        }
    }
}
