//! M2: the memory of what waits. Also what all measures of memory look at.

use fakessh_lab::process::Process;

use crate::Bench;
use crate::order::Order;
use crate::rounds::median;
use crate::row::{Against, Row};
use crate::site::{Contender, Site};

/// M2: a shim that waits, a slave that has nothing to do.
pub(super) fn idle(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    let command = "echo up; read -r line";
    let resident_of = |contender| {
        let pids = site.hold(contender, site.ssh(contender, command), 3);
        assert_eq!(pids.len(), 3, "sessions that came up");
        let total: f64 = pids.iter().map(|&pid| resident(pid)).sum();
        site.order(contender, &Order::Release);
        total / 3.0
    };
    let shim = resident_of(Contender::Ours);
    let [client, ssh] = [Contender::ControlMaster, Contender::Ssh].map(resident_of);
    let slaves = site.lab().slaves();
    let slave: Vec<f64> = slaves.iter().map(|slave| resident(slave.pid)).collect();
    let slave = median(&slave).expect("a slave that runs");
    let control_master = resident(site.control_master_pid());
    vec![
        Row::new("a client that waits", "MB", shim).rivals(Some(client), Some(ssh)).target(
            Against::Nothing,
            1.5,
            2.0,
        ),
        Row::new("an idle slave", "MB", slave).target(Against::Nothing, 2.0, 2.5),
        Row::new("a master with one idle context", "MB", resident(site.lab().master().pid))
            .rivals(Some(control_master), None),
    ]
}

/// Megabytes (10^6 bytes) that a process has in memory now.
///
/// # Panics
/// If there is no such process.
pub(super) fn resident(pid: u32) -> f64 {
    let process = Process::open(pid).expect("a process to look at");
    process.memory("VmRSS") as f64 * 1.024 / 1000.0
}
