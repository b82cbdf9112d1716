//! What the benchmarks tell a driver, and what it answers: JSON, a line a message.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A client to start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Program {
    /// Its words; the first is looked up on the driver's `PATH`.
    pub(super) words: Vec<String>,
    /// Variables on top of the driver's own.
    pub(super) environment: Vec<(String, String)>,
    /// Where it is started, if not where the driver is.
    pub(super) directory: Option<PathBuf>,
}

impl Program {
    /// A program of these words.
    pub(super) fn new(words: impl IntoIterator<Item = impl Into<String>>) -> Program {
        Program { words: words.into_iter().map(Into::into).collect(), ..Program::default() }
    }

    /// With one word more.
    pub(super) fn word(mut self, word: impl Into<String>) -> Program {
        self.words.push(word.into());
        self
    }
}

/// Which way bytes go, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Direction {
    Up,
    Down,
}

/// What a driver is to do. Each order has one answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Run it to its end, with `input` bytes on its standard input: [`Answer::Took`].
    Time {
        /// What.
        program: Program,
        /// Bytes on its standard input; none is `/dev/null`.
        input: u64,
    },
    /// Run it `count` times, so many at a time: [`Answer::Took`].
    Rate {
        /// What.
        program: Program,
        /// How often.
        count: usize,
        /// How many at a time.
        at_once: usize,
    },
    /// Start it `count` times and wait until each has written something or has ended; those that
    /// wrote are held with their standard input open: [`Answer::Held`].
    Hold {
        /// What.
        program: Program,
        /// How often.
        count: usize,
    },
    /// Start it and move bulk until [`Order::Release`]: [`Answer::Done`] when it flows.
    Pour {
        /// What.
        program: Program,
        /// Which way.
        direction: Direction,
    },
    /// Start it `count` times, move so many bytes with each, and then stop reading (or, upwards,
    /// go on writing into a pipe that nobody reads) until [`Order::Release`]: [`Answer::Done`].
    Stall {
        /// What.
        program: Program,
        /// How often.
        count: usize,
        /// Which way.
        direction: Direction,
        /// Bytes read from each before the stop.
        bytes: u64,
    },
    /// End all that is held, poured or stalled: [`Answer::Done`].
    Release,
}

/// What came of an order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It ran to its end with status 0.
    Took {
        /// From before it was started until it was waited for, by the monotonic clock.
        nanoseconds: u64,
        /// Bytes that it wrote.
        output: u64,
    },
    /// These are up.
    Held {
        /// Process ids of the clients.
        pids: Vec<u32>,
    },
    /// It is done.
    Done,
    /// It could not be done, or a client failed.
    Failed(String),
}
