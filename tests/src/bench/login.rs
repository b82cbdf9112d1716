//! K1: from nothing to the end of the first command.

use std::cell::RefCell;

use super::Bench;
use super::order::{Answer, Order, Program};
use super::rounds::Rounds;
use super::row::{Against, Row};
use super::site::{Contender, FASTEST_EXCHANGE, rivals_of, tell};
use crate::binary;

/// Login with a slave, and the first command, against `ssh h true`: with no master at all, and
/// with one that runs already.
pub(super) fn cold(bench: &Bench) -> Vec<Row> {
    let cipher = bench.cipher();
    let lab = bench.lab();
    let config = lab.config_path().display().to_string();
    let control = lab.dir().join("user/control-cold").display().to_string();
    let fakessh = binary::fakessh().display().to_string();
    let rivals = RefCell::new(rivals_of(lab));
    let time =
        |program: Program| match tell(&mut rivals.borrow_mut(), &Order::Time { program, input: 0 })
        {
            Answer::Took { nanoseconds, .. } => nanoseconds as f64 / 1e6,
            other => panic!("the driver answered {other:?}"),
        };
    let ciphers = format!("-oCiphers={cipher}");
    let first = |contender| match contender {
        Contender::Ours => time(Program::new([
            &*fakessh, "run", "-F", &config, "remote", "--", "ssh", "remote", "true",
        ])),
        Contender::ControlMaster => {
            let way = ["/usr/bin/ssh", "-F", &config, "-S", &control];
            let master =
                ["-M", "-oControlPersist=yes", &ciphers, FASTEST_EXCHANGE, "remote", "true"];
            let took = time(Program::new(way.into_iter().chain(master)));
            let exit = way.into_iter().chain(["-O", "exit", "remote"]);
            lab.program(exit).run().expect_status(0);
            took
        }
        Contender::Ssh => time(Program::new([
            "/usr/bin/ssh",
            "-F",
            &config,
            &ciphers,
            FASTEST_EXCHANGE,
            "remote",
            "true",
        ])),
    };
    let turns = [(Contender::Ours, 1), (Contender::ControlMaster, 1), (Contender::Ssh, 1)];
    let cases = [("no master", &["stop"] as &[&str]), ("a master", &["close", "--all"])];
    let rows = cases.map(|(name, before)| {
        let rounds = Rounds::take(bench.either(11, 2), &turns, |contender| {
            if contender == Contender::Ours {
                lab.fakessh(before).run();
            }
            first(contender)
        });
        let row = Row::new(format!("login and ssh h true, from {name}"), "ms", rounds.ours());
        let row = row.rivals(rounds.control_master(), rounds.ssh());
        row.target(Against::Ssh, 0.6, 0.8)
    });
    rivals.borrow_mut().close_stdin();
    rivals.borrow_mut().wait();
    rows.into()
}
