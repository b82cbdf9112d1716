//! K1: from nothing to the end of the first command.

use std::cell::RefCell;

use crate::Bench;
use crate::order::{Answer, Order, Program};
use crate::rounds::Rounds;
use crate::row::{Against, Row};
use crate::site::{Contender, FASTEST_EXCHANGE, rivals_of, tell};
use fakessh_lab::binary;

/// Login with a slave, and the first command, against `ssh h true` as it comes: with no master at
/// all, and with one that runs already. Then against rivals that were told to use the cheapest key
/// exchange and cipher.
pub(super) fn cold(bench: &Bench) -> Vec<Row> {
    let cipher = bench.cipher();
    let lab = bench.lab();
    let config = lab.config_path().display().to_string();
    let control = lab.dir().join("user/control-cold").display().to_string();
    let fakessh = binary::fakessh().display().to_string();
    let before_dir = lab.before_dir().display().to_string();
    let rivals = RefCell::new(rivals_of(lab));
    let time =
        |program: Program| match tell(&mut rivals.borrow_mut(), &Order::Time { program, input: 0 })
        {
            Answer::Took { nanoseconds, .. } => nanoseconds as f64 / 1e6,
            other => panic!("the driver answered {other:?}"),
        };
    let ciphers = format!("-oCiphers={cipher}");
    let fastest = [&*ciphers, FASTEST_EXCHANGE];
    let first = |contender, options: &[&str]| match contender {
        Contender::Ours => time(Program::new([
            &*fakessh, "run", "-F", &config, "remote", "--", "ssh", "remote", "true",
        ])),
        Contender::Before => {
            let program = binary::before().expect("an older build").display().to_string();
            let words =
                ["run", "-F", &config, "remote", "--", "ssh", "remote", "true"].map(str::to_owned);
            let mut program = Program::new(std::iter::once(program).chain(words));
            program.environment.push(("FAKESSH_DIR".into(), before_dir.clone()));
            time(program)
        }
        Contender::ControlMaster => {
            let way = ["/usr/bin/ssh", "-F", &config, "-S", &control];
            let master = ["-M", "-oControlPersist=yes", "remote", "true"];
            let words = way.into_iter().chain(options.iter().copied()).chain(master);
            let took = time(Program::new(words));
            let exit = way.into_iter().chain(["-O", "exit", "remote"]);
            lab.program(exit).run().expect_status(0);
            took
        }
        Contender::Ssh => {
            let way = ["/usr/bin/ssh", "-F", &config];
            time(Program::new(way.iter().chain(options).chain(&["remote", "true"]).copied()))
        }
    };
    let mut turns = vec![(Contender::Ours, 1), (Contender::ControlMaster, 1), (Contender::Ssh, 1)];
    turns.extend(binary::before().map(|_| (Contender::Before, 1)));
    let cases: [(&str, &[&str], &[&str]); 3] = [
        ("from no master", &["stop"], &[]),
        ("from a master", &["close", "--all"], &[]),
        ("against the cheapest exchange", &["close", "--all"], &fastest),
    ];
    let rows = cases.map(|(name, before, options)| {
        let rounds = Rounds::take(bench.either(11, 2), &turns, |contender| {
            match (contender, binary::before()) {
                (Contender::Ours, _) => _ = lab.fakessh(before).run(),
                (Contender::Before, Some(program)) => {
                    _ = lab.fakessh_before(&program, before).run()
                }
                _ => {}
            }
            first(contender, options)
        });
        let row = Row::new(format!("login and ssh h true, {name}"), "ms", rounds.ours());
        let row = row.rivals(rounds.control_master(), rounds.ssh()).before(rounds.before());
        if options.is_empty() { row.target(Against::Ssh, 0.6, 0.8) } else { row }
    });
    rivals.borrow_mut().close_stdin();
    rivals.borrow_mut().wait();
    rows.into()
}
