//! M1: the memory of the master for each further idle context.

use std::fs;
use std::time::Duration;

use crate::Bench;
use crate::memory::resident;
use crate::row::{Against, Row};
use crate::site::{Contender, Site};
use fakessh_lab::{Lab, Running};

/// Contexts that are there before the count begins: what the master needs once is not theirs.
const BEFORE: usize = 8;

/// Logins at a time.
const AT_ONCE: usize = 8;

/// How long all of them may take. A guard against hangs only.
const GUARD: Duration = Duration::from_secs(600);

/// M1: connects many times to one account under different names of its host key, which makes them
/// different contexts.
pub(super) fn memory(bench: &Bench) -> Vec<Row> {
    let count = bench.either(200, 12);
    let lab = Lab::start();
    let site = Site::of(&lab, "remote", bench.cipher());
    let known_hosts = fs::read_to_string(lab.known_hosts()).expect("reading known_hosts");
    let every_name = known_hosts.replace("fakessh-lab ", "fakessh-lab,many-* ");
    fs::write(lab.known_hosts(), every_name).expect("writing known_hosts");
    connect(&lab, 0, BEFORE);
    let pid = lab.master().pid;
    let few = resident(pid);
    connect(&lab, BEFORE, count);
    let each = (resident(pid) - few) * 1000.0 / count as f64;
    let row = Row::new(format!("a further idle context, of {count}"), "KB", each)
        .rivals(Some(resident(site.control_master_pid()) * 1000.0), None)
        .target(Against::Nothing, 200.0, None);
    // So that the command that follows finds them alive.
    site.time(Contender::Ours, site.ssh(Contender::Ours, "true"));
    vec![row]
}

/// Connects to so many new names, some at a time.
fn connect(lab: &Lab, from: usize, count: usize) {
    let name = |number: usize| format!("many-{number}");
    for number in from..from + count {
        let alias = format!("HostKeyAlias {}", name(number));
        lab.host_with_key(&name(number), &lab.key(), &[&alias]);
    }
    let config = lab.config_path().display().to_string();
    let numbers: Vec<usize> = (from..from + count).collect();
    let connecting = numbers.chunks(count.div_ceil(AT_ONCE)).map(|numbers| {
        let options = ["connect".into(), "-F".into(), config.clone()].into_iter();
        let names = numbers.iter().map(|&number| name(number));
        lab.fakessh(options.chain(names)).guard(GUARD).start()
    });
    let connecting: Vec<Running> = connecting.collect();
    for running in connecting {
        running.finish().expect_status(0);
    }
}
