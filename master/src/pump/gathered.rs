//! Pieces that are written together.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Most bytes that are gathered before they are written: what a pipe holds (pipe(7)).
const MOST: usize = 64 * 1024;

/// Most pieces that are gathered, and that one call writes. However small they are: counting must
/// cost less than writing.
pub(super) const PIECES: usize = 16;

/// Pieces that came one by one, and go out in one call: each call that gives a sleeping reader
/// something wakes it, and may cost a change of processes.
#[derive(Debug, Default)]
pub struct Gathered(VecDeque<Bytes>);

impl Gathered {
    /// Adds a piece behind the others.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.0.push_back(piece);
        }
    }

    /// Whether there is enough for a call.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= PIECES || self.remaining() >= MOST
    }

    /// Takes the first piece off.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }
}

impl From<Bytes> for Gathered {
    fn from(piece: Bytes) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.push(piece);
        gathered
    }
}

impl Buf for Gathered {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.0);
        pairs.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.0.front_mut() {
            let here = count.min(piece.len());
            piece.advance(here);
            count -= here;
            if !piece.is_empty() {
                break;
            }
            self.0.pop_front();
        }
        assert!(count == 0, "advanced beyond the end");
    }
}
