//! H1: what another host feels of a target that sends what it can.

use std::path::{Path, PathBuf};

use crate::Bench;
use crate::memory::resident;
use crate::rounds::median;
use crate::row::{Against, Row};
use crate::site::{Contender, Site, own_program};
use fakessh_lab::hostile::{Effect, HostileHost, Mode};
use fakessh_lab::{Lab, Running};

/// The name under which the hostile host is known.
const NAME: &str = "hostile";

/// What a mode has cost.
struct Cost {
    mode: Mode,
    /// Time of a command on the other host, over the same just before and after the flood.
    times: f64,
    /// Megabytes that the master has grown by.
    memory: f64,
}

/// H1: a command on one host while another one floods its link, over the same without; and what
/// the master takes more. The worst of all floods counts.
pub(super) fn flood(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    let lab = site.lab();
    let hostile = HostileHost::start(&program().to_string_lossy());
    hostile.introduce(lab, NAME);
    hostile.give_way();
    let each = bench.either(40, 5);
    let mut quiet = Vec::new();
    let mut before = commands(&site, each);
    let modes: Vec<Mode> = Mode::ALL.iter().copied().filter(|mode| is_flood(*mode)).collect();
    let costs: Vec<Cost> = modes
        .into_iter()
        .map(|mode| {
            let small = resident(lab.master().pid);
            hostile.behave(mode);
            let flood = begin(lab, mode);
            let (mut times, mut memory) = (Vec::new(), 0.0);
            for _ in 0..each {
                times.push(commands(&site, 1));
                memory = f64::max(memory, resident(lab.master().pid) - small);
            }
            lab.fakessh(["close", NAME]).run();
            end(flood);
            let time = median(&times).expect("at least one command");
            // The machine may be slower now than it was at first.
            let after = commands(&site, each);
            let idle = f64::midpoint(before, after);
            quiet.push(idle);
            before = after;
            Cost { mode, times: time / idle, memory }
        })
        .collect();
    let most = |figure: fn(&Cost) -> f64| {
        costs.iter().max_by(|one, other| figure(one).total_cmp(&figure(other))).expect("a flood")
    };
    let all = |figure: fn(&Cost) -> f64| {
        let each = costs.iter().map(|cost| format!("{} {:.1}", cost.mode.name(), figure(cost)));
        each.collect::<Vec<_>>().join(", ")
    };
    let (slowest, largest) = (most(|cost| cost.times), most(|cost| cost.memory));
    let idle = median(&quiet).expect("a flood");
    vec![
        Row::new("ssh h true beside a hostile target, over idle", "x", slowest.times)
            .target(Against::Nothing, 2.0, None)
            .note(format!("{idle:.1} ms idle; times that: {}", all(|cost| cost.times))),
        Row::new("what the master takes for a hostile target", "MB", largest.memory)
            .target(Against::Nothing, 32.0 * 1.048_576, None)
            .note(all(|cost| cost.memory)),
    ]
}

fn is_flood(mode: Mode) -> bool {
    matches!(mode.effect(), Effect::Flood | Effect::FloodOfSession | Effect::FloodOfTool)
}

/// Milliseconds of a command on the other host.
fn commands(site: &Site, count: usize) -> f64 {
    let ours = Contender::Ours;
    let times: Vec<f64> = (0..count).map(|_| site.time(ours, site.ssh(ours, "true"))).collect();
    median(&times).expect("at least one command")
}

/// Lets the hostile host begin.
fn begin(lab: &Lab, mode: Mode) -> Option<Running> {
    let config = lab.config_path().to_string_lossy().into_owned();
    let connect = ["connect", "-F", &config, NAME];
    lab.fakessh(connect).run().expect_status(0);
    let words: &[&str] = match mode.effect() {
        Effect::FloodOfSession => &["ssh", "-F", &config, NAME, "true"],
        Effect::FloodOfTool => &["run", "-F", &config, "--on", NAME, "--", "true"],
        _ => return None,
    };
    let null = std::fs::File::options().write(true).open("/dev/null").expect("/dev/null");
    let errors = null.try_clone().expect("another descriptor");
    Some(lab.fakessh(words).stdout(null).stderr(errors).start())
}

fn end(flood: Option<Running>) {
    if let Some(mut flood) = flood {
        flood.wait();
    }
}

/// The program `hostile-slave`, which is built with this one.
fn program() -> PathBuf {
    Path::new(&own_program()).with_file_name("hostile-slave")
}
