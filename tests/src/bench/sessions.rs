//! R1, C1: many sessions, one after another and at the same time.

use crate::Bench;
use crate::order::Order;
use crate::rounds::Rounds;
use crate::row::{Against, Row};
use crate::site::{Contender, Site};
use fakessh_lab::Lab;

/// Commands under way at a time.
const AT_ONCE: usize = 32;

/// R1: commands that end in a second.
pub(super) fn rate(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    let count = bench.either(640, 64);
    let turns = [(Contender::Ours, 1), (Contender::ControlMaster, 1), (Contender::Ssh, 1)];
    let rounds = Rounds::take(bench.either(5, 1), &site.turns(&turns), |contender| {
        // A login takes a hundred times as long: as many commands as keep all places busy will do.
        let count = if contender == Contender::Ssh { AT_ONCE } else { count };
        site.rate(contender, site.ssh(contender, "true"), count, AT_ONCE)
    });
    let row = Row::new(format!("ssh h true, {AT_ONCE} at a time"), "/s", rounds.ours()).higher();
    let row = row.rivals(rounds.control_master(), rounds.ssh()).before(rounds.before());
    vec![row.target(Against::ControlMaster, 3.0, None)]
}

/// C1: sessions at once on one connection, where the server allows ten, and where it allows one.
pub(super) fn at_once(bench: &Bench) -> Vec<Row> {
    [10, 1].map(|allowed| at_once_of(bench, allowed)).into()
}

fn at_once_of(bench: &Bench, allowed: u32) -> Row {
    let wanted = bench.either(1000, 50);
    let lab = Lab::builder().max_sessions(allowed).start();
    let site = Site::of(&lab, "remote", bench.cipher());
    let logins = lab.logins();
    let program = |contender| site.ssh(contender, "echo up; read -r line");
    let ours = site.hold(Contender::Ours, program(Contender::Ours), wanted).len();
    assert_eq!(lab.logins(), logins, "logins that we added");
    site.order(Contender::Ours, &Order::Release);
    // Where the connection takes no more, ssh would log in anew. That is no session on it.
    let mut held = program(Contender::ControlMaster);
    held.words.insert(1, "-oProxyCommand=false".into());
    let rival =
        site.hold(Contender::ControlMaster, held, wanted.min(4 * allowed as usize + 4)).len();
    site.order(Contender::ControlMaster, &Order::Release);
    Row::new(format!("sessions at once of {wanted}, MaxSessions {allowed}"), "", ours as f64)
        .rivals(Some(rival as f64), None)
        .higher()
        .target(Against::Nothing, wanted as f64, wanted as f64)
}
