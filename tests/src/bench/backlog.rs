//! B1: memory while producers outrun consumers that have stopped.

use std::thread::sleep;
use std::time::{Duration, Instant};

use fakessh_protocol::mux::{INITIAL_WINDOW, MAX_WIDENED};

use crate::Bench;
use crate::memory::resident;
use crate::order::{Direction, Order};
use crate::row::{Against, Row};
use crate::site::{Contender, Site, program_on_target};
use fakessh_lab::Lab;

/// Sessions whose consumer has stopped.
const SESSIONS: usize = 100;

/// Bytes that each consumer takes before it stops: so many that its window has grown.
const FULL: u64 = 4 << 20;

/// The same in the short form.
const SHORT: u64 = 1 << 20;

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(200);

/// What master and slave may hold beside the windows, in MB.
const BESIDE: f64 = 20.0;

/// B1: a hundred sessions each way.
pub(super) fn memory(bench: &Bench) -> Vec<Row> {
    let directions = [(Direction::Down, "down"), (Direction::Up, "up")];
    directions.map(|(direction, name)| one_way(bench, direction, name)).into()
}

fn one_way(bench: &Bench, direction: Direction, name: &str) -> Row {
    let lab = Lab::builder().max_sessions(1000).start();
    let site = Site::of(&lab, "remote", bench.cipher());
    let program = program_on_target(&lab);
    let bytes = bench.either(FULL, SHORT);
    let command = match direction {
        Direction::Down => format!("{program} --produce {}", u64::MAX),
        Direction::Up => format!("head -c {bytes} >/dev/null; exec sleep 1000"),
    };
    let stall = |contender| {
        let program = site.ssh(contender, &command);
        Order::Stall { program, count: SESSIONS, direction, bytes }
    };
    let time = Duration::from_secs(bench.either(60, 4)) / 2;
    let ours = most_resident(&site, Contender::Ours, &stall(Contender::Ours), time, || {
        let slaves: f64 = lab.slaves().iter().map(|slave| resident(slave.pid)).sum();
        resident(lab.master().pid) + slaves
    });
    let pid = site.control_master_pid();
    let rival = Contender::ControlMaster;
    let rival = most_resident(&site, rival, &stall(rival), time / 4, || resident(pid));
    let windows = SESSIONS as f64 * f64::from(INITIAL_WINDOW) + MAX_WIDENED as f64;
    let bound = windows / 1e6 + BESIDE;
    Row::new(format!("{SESSIONS} stopped readers {name}, master and slave"), "MB", ours)
        .rivals(Some(rival), None)
        .target(Against::Nothing, bound, None)
}

/// The most that `look` sees while the sessions of a contender are stalled.
fn most_resident(
    site: &Site,
    contender: Contender,
    stall: &Order,
    time: Duration,
    look: impl Fn() -> f64,
) -> f64 {
    site.order(contender, stall);
    let until = Instant::now() + time;
    let mut most = 0.0;
    while Instant::now() < until {
        most = f64::max(most, look());
        sleep(LOOK);
    }
    site.order(contender, &Order::Release);
    most
}
