//! The benchmarks: fakessh against ControlMaster and against a login each time, in one run on one
//! machine.
//!
//! Absolute times drift from run to run by half, so a measure is a ratio: the contenders take
//! turns, each is a whole process from its start to its end, and medians are compared. The
//! rivals are configured as well as they can be: the fastest cipher, sessions enough, no wrapper
//! in between.
//!
//! A `site` is one server with the three contenders. Each has a `driver`, a process that
//! starts and times clients when it is told to; ours runs under `fakessh run`, as any tool does.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a measure that can't be taken panics, and the next one is taken"
)]

mod arguments;
mod backlog;
mod bulk;
mod client;
mod contexts;
mod driver;
mod files;
mod forward;
mod held;
mod hostile;
mod latency;
mod login;
mod measure;
mod memory;
mod order;
mod report;
mod rounds;
mod row;
mod sessions;
mod site;
mod stream;

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::arguments::{Arguments, Parsed};
use crate::report::Report;
use fakessh_lab::Lab;

/// What all measures of one run share.
struct Bench {
    short: bool,
    lab: OnceCell<Lab>,
    cipher: OnceCell<String>,
}

impl Bench {
    /// The server that most measures use: it allows a connection more sessions than the rivals
    /// need, so that none of them has to log in again.
    fn lab(&self) -> &Lab {
        self.lab.get_or_init(|| Lab::builder().max_sessions(1000).start())
    }

    /// The cipher with which `ssh` is fastest on this machine.
    fn cipher(&self) -> &str {
        self.cipher.get_or_init(|| bulk::fastest_cipher(self))
    }

    /// One number for the full form, another for the short one.
    fn either<T>(&self, full: T, short: T) -> T {
        if self.short { short } else { full }
    }
}

/// The program `bench`: see [`arguments::usage`]. Fails if a measure could not be taken, and
/// never for what it measured.
fn main() -> ExitCode {
    match arguments::parse(std::env::args().skip(1)) {
        Ok(Parsed::Measure(arguments)) => measure(&arguments),
        Ok(Parsed::Driver) => driver::main(),
        Ok(Parsed::Produce(bytes)) => stream::produce(bytes),
        Ok(Parsed::Help) => {
            print!("{}", arguments::usage());
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            eprintln!("bench: {mistake}\n{}", arguments::usage());
            ExitCode::from(2)
        }
    }
}

fn measure(arguments: &Arguments) -> ExitCode {
    let bench = Bench { short: arguments.short, lab: OnceCell::new(), cipher: OnceCell::new() };
    let mut report = Report::default();
    for measure in measure::ALL {
        if !arguments.selects(measure.id) {
            continue;
        }
        eprint!("{} {} ...", measure.id, measure.title);
        let begun = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| (measure.take)(&bench))) {
            Ok(rows) => report.add(measure.id, rows),
            Err(_) => report.miss(measure.id, measure.title),
        }
        eprintln!(" {:.1} s", begun.elapsed().as_secs_f64());
    }
    println!("{report}");
    if let Some(path) = &arguments.json
        && let Err(error) = std::fs::write(path, report.to_json())
    {
        eprintln!("bench: can't write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
