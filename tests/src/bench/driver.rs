//! The process that starts and times clients. One runs for each contender, ours as the tool of a
//! `fakessh run`, so that all three do the same with what a tool has: a `PATH` and descriptors.

use std::io::{self, BufRead, Write};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::command;
use crate::held::Held;
use crate::order::{Answer, Order, Program};
use crate::stream;

/// How long an order may take before the driver gives up and ends. A guard against hangs only.
const GUARD: Duration = Duration::from_secs(180);

/// Follows orders until its standard input ends.
pub(super) fn main() -> ExitCode {
    raise_descriptor_limit();
    let mut held = Held::default();
    let mut stdout = io::stdout();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = match serde_json::from_str(&line) {
            Ok(order) => guarded(&line, || follow(order, &mut held)),
            Err(error) => Answer::Failed(format!("an order that makes no sense: {error}")),
        };
        let Ok(mut answer) = serde_json::to_vec(&answer) else { break };
        answer.push(b'\n');
        if stdout.write_all(&answer).and_then(|()| stdout.flush()).is_err() {
            break;
        }
    }
    held.release();
    ExitCode::SUCCESS
}

fn follow(order: Order, held: &mut Held) -> Answer {
    let done = match order {
        Order::Time { program, input } => time(&program, input)
            .map(|(took, output)| Answer::Took { nanoseconds: took.as_nanos() as u64, output }),
        Order::Rate { program, count, at_once } => rate(&program, count, at_once)
            .map(|took| Answer::Took { nanoseconds: took.as_nanos() as u64, output: 0 }),
        Order::Hold { program, count } => {
            held.hold(&program, count).map(|pids| Answer::Held { pids })
        }
        Order::Pour { program, direction } => held.pour(&program, direction).map(|()| Answer::Done),
        Order::Stall { program, count, direction, bytes } => {
            held.stall(&program, count, direction, bytes).map(|()| Answer::Done)
        }
        Order::Release => {
            held.release();
            Ok(Answer::Done)
        }
    };
    done.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

/// Ends the process if `act` does not come to an end: whoever gave the order sees that.
fn guarded<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let (done, ended) = channel::<()>();
    let what = what.to_owned();
    let guard = thread::spawn(move || {
        if ended.recv_timeout(GUARD) == Err(RecvTimeoutError::Timeout) {
            eprintln!("no end within {GUARD:?}: {what}");
            std::process::exit(1);
        }
    });
    let result = act();
    drop(done);
    _ = guard.join();
    result
}

/// Runs a client to its end, and says how long it took and how many bytes it wrote.
fn time(program: &Program, input: u64) -> io::Result<(Duration, u64)> {
    let mut command = command(program)?;
    if input > 0 {
        command.stdin(Stdio::piped());
    }
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let writer = child.stdin.take().map(|mut pipe| {
        // A client that fails ends this; its status says so.
        thread::spawn(move || _ = stream::write(&mut pipe, input))
    });
    let output = match child.stdout.take() {
        Some(mut pipe) => stream::read(&mut pipe, u64::MAX)?,
        None => 0,
    };
    let status = child.wait()?;
    let took = begun.elapsed();
    if let Some(writer) = writer {
        _ = writer.join();
    }
    if !status.success() {
        return Err(io::Error::other(format!("{:?}: {status}", program.words)));
    }
    Ok((took, output))
}

/// Runs a client `count` times, `at_once` at a time.
fn rate(program: &Program, count: usize, at_once: usize) -> io::Result<Duration> {
    let started = AtomicUsize::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        let work = || {
            while started.fetch_add(1, Ordering::Relaxed) < count {
                time(program, 0)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err(io::Error::other("a worker panicked"));
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(panicked))
    })?;
    Ok(begun.elapsed())
}

/// A thousand clients with two pipes each are more than the usual limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
