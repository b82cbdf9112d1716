//! L1, L2, L3: how long `ssh h true` takes, as a whole process.

use std::time::Duration;

use crate::Bench;
use crate::order::{Direction, Order};
use crate::rounds::Rounds;
use crate::row::{Against, Row};
use crate::site::{Contender, Site};
use fakessh_lab::Relay;

/// How late the relay of L2 is in each direction.
const DELAY: Duration = Duration::from_millis(25);

/// L1: on loopback.
pub(super) fn loopback(bench: &Bench) -> Vec<Row> {
    let rounds = commands(&Site::open(bench), bench.either(150, 10), bench.either(10, 5));
    let row = Row::new("ssh h true", "ms", rounds.ours());
    let row = row.rivals(rounds.control_master(), rounds.ssh()).before(rounds.before());
    vec![row.target(Against::ControlMaster, 0.35, 0.5)]
}

/// L2: behind a path of 50 ms.
pub(super) fn far(bench: &Bench) -> Vec<Row> {
    let relay = Relay::start(bench.lab().port(), DELAY);
    bench.lab().host_through("far", relay.port(), &[]);
    let site = Site::of(bench.lab(), "far", bench.cipher());
    let rounds = commands(&site, bench.either(40, 4), bench.either(8, 4));
    let row = Row::new("ssh h true, 50 ms round trip", "ms", rounds.ours());
    let row = row.rivals(rounds.control_master(), rounds.ssh()).before(rounds.before());
    vec![row.target(Against::ControlMaster, 0.50, 0.55)]
}

/// Lets all three run `true`; ssh, which is slow, in each so-many-th round.
fn commands(site: &Site, rounds: usize, ssh_every: usize) -> Rounds {
    let turns = [(Contender::Ours, 1), (Contender::ControlMaster, 1), (Contender::Ssh, ssh_every)];
    Rounds::take(rounds, &site.turns(&turns), |contender| {
        site.time(contender, site.ssh(contender, "true"))
    })
}

/// L3: while another session of the same context moves bulk, over idle.
pub(super) fn beside_bulk(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    let directions =
        [(Direction::Up, "up", "cat >/dev/null"), (Direction::Down, "down", "cat /dev/zero")];
    directions
        .map(|(direction, name, command)| slowdown(bench, &site, direction, name, command))
        .into()
}

fn slowdown(bench: &Bench, site: &Site, direction: Direction, name: &str, command: &str) -> Row {
    let rounds = bench.either(5, 1);
    let each = bench.either(15, 5);
    let turns = [(Contender::Ours, 1), (Contender::ControlMaster, 1)];
    let commands = |contender| {
        let times: Vec<f64> =
            (0..each).map(|_| site.time(contender, site.ssh(contender, "true"))).collect();
        crate::rounds::median(&times).expect("at least one command")
    };
    let idle = Rounds::take(rounds, &turns, commands);
    // The bulk of one contender must not be in the way of the other.
    let busy = Rounds::take(rounds, &turns, |contender| {
        let program = site.ssh(contender, command);
        site.order(contender, &Order::Pour { program, direction });
        let time = commands(contender);
        site.order(contender, &Order::Release);
        time
    });
    let rival = busy.control_master().zip(idle.control_master()).map(|(busy, idle)| busy / idle);
    let row = Row::new(
        format!("ssh h true beside bulk {name}, over idle"),
        "x",
        busy.ours() / idle.ours(),
    );
    row.rivals(rival, None).target(Against::Nothing, 3.0, None).note(format!(
        "ours {:.1} ms busy, {:.1} idle; ControlMaster {:.1} busy, {:.1} idle",
        busy.ours(),
        idle.ours(),
        busy.control_master().unwrap_or_default(),
        idle.control_master().unwrap_or_default(),
    ))
}
