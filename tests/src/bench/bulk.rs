//! T1, T2: bulk through pipes, as `tar | ssh h tar x` has it.

use crate::Bench;
use crate::order::{Answer, Direction, Order, Program};
use crate::rounds::{Rounds, median};
use crate::row::{Against, Row};
use crate::site::{Contender, Site, program_on_target, rivals_of, tell};
use fakessh_lab::Lab;
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;

/// Bytes of one transfer.
const FULL: u64 = 1 << 30;

/// Bytes of one transfer in the short form.
const SHORT: u64 = 32 << 20;

/// T1: up.
pub(super) fn up(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    transfers(bench, &site, Direction::Up, "cat >/dev/null")
}

/// T2: down.
pub(super) fn down(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    let bytes = bench.either(FULL, SHORT);
    let command = format!("{} --produce {bytes}", program_on_target(site.lab()));
    transfers(bench, &site, Direction::Down, &command)
}

/// T3: through `+sudo`, against a ControlMaster that stays at the host.
pub(super) fn behind_sudo(bench: &Bench) -> Vec<Row> {
    let lab = lab_with_sudo();
    let site = Site::behind(&lab, "remote", "remote+sudo", bench.cipher());
    let command = format!("{} --produce {}", program_on_target(&lab), bench.either(FULL, SHORT));
    let up = transfers(bench, &site, Direction::Up, "cat >/dev/null");
    let down = transfers(bench, &site, Direction::Down, &command);
    let rows = up.into_iter().chain(down).filter(|row| row.against == Against::ControlMaster);
    rows.map(|row| {
        let what = format!("{} through +sudo", row.what);
        Row { what, ..row }.target(Against::ControlMaster, 1.0, None)
    })
    .collect()
}

/// A server whose account may become root, on a terminal.
pub(super) fn lab_with_sudo() -> Lab {
    Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start()
}

fn transfers(bench: &Bench, site: &Site, direction: Direction, command: &str) -> Vec<Row> {
    let bytes = bench.either(FULL, SHORT);
    let turns = [(Contender::Ours, 1), (Contender::ControlMaster, 1), (Contender::Ssh, 1)];
    let rounds = Rounds::take(bench.either(11, 1), &site.turns(&turns), |contender| {
        site.throughput(contender, site.ssh(contender, command), direction, bytes)
    });
    let name = if direction == Direction::Up { "up" } else { "down" };
    let size = bench.either("1 GiB", "32 MiB");
    let row = Row::new(format!("{size} {name}"), "MB/s", rounds.ours()).higher();
    let row = row.rivals(rounds.control_master(), rounds.ssh()).before(rounds.before());
    let cipher = format!("{} for both rivals", bench.cipher());
    vec![
        row.clone().target(Against::ControlMaster, 1.5, 1.0).note(cipher),
        Row { what: format!("{size} {name}, against ssh"), ..row }.target(Against::Ssh, 1.0, None),
    ]
}

/// The cipher with which plain `ssh` takes the most bytes up.
pub(super) fn fastest_cipher(bench: &Bench) -> String {
    let lab = bench.lab();
    let bytes = bench.either(256 << 20, 16 << 20);
    let config = format!("-F{}", lab.config_path().display());
    let ciphers =
        ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"];
    let mut driver = rivals_of(lab);
    let mut times = ciphers.map(|cipher| (cipher, Vec::new()));
    for _ in 0..bench.either(3, 1) {
        for (cipher, times) in &mut times {
            let option = format!("-oCiphers={cipher}");
            let words = ["/usr/bin/ssh", &config, &option, "remote", "cat >/dev/null"];
            let order = Order::Time { program: Program::new(words), input: bytes };
            if let Answer::Took { nanoseconds, .. } = tell(&mut driver, &order) {
                times.push(nanoseconds as f64);
            }
        }
    }
    driver.close_stdin();
    driver.wait();
    let time = |times: &[f64]| median(times).unwrap_or(f64::INFINITY);
    let best = times.iter().min_by(|one, other| time(&one.1).total_cmp(&time(&other.1)));
    best.map(|(cipher, _)| (*cipher).to_owned()).expect("one of three ciphers")
}
