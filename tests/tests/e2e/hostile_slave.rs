//! A target whose slave lies in every message, as fast as it can: its link ends with a clear line or
//! costs next to nothing, and other hosts are served meanwhile.

use std::fs;

use fakessh_lab::hostile::{Effect, HostileHost, Mode};
use fakessh_lab::process::Process;
use fakessh_lab::{Client, Lab, Running};

/// Most KiB that the master may grow by for one hostile target.
const GROWTH: u64 = 32 * 1024;

/// Most bytes of the line that says why there is no slave.
const LONGEST_NOTICE: usize = 8192;

/// Commands on the other host while the hostile one does its worst.
const COMMANDS: usize = 5;

/// Lets the largest size so far (`VmHWM`) begin anew.
fn clear_peak(process: &Process) {
    fs::write(format!("/proc/{}/clear_refs", process.pid), "5").unwrap();
}

/// A lab, with a hostile host that its clients know as `hostile`.
fn labs() -> (Lab, HostileHost) {
    let lab = Lab::start();
    let hostile = HostileHost::start(env!("CARGO_BIN_EXE_hostile-slave"));
    hostile.introduce(&lab, "hostile");
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0);
    (lab, hostile)
}

fn config(lab: &Lab) -> String {
    lab.config_path().to_string_lossy().into_owned()
}

fn expect_service(lab: &Lab) {
    for number in 0..COMMANDS {
        let command = format!("echo {number}; cat");
        let done = lab.tool(Client::Fakessh, ["ssh", "remote", &command]).input("in").run();
        done.expect_status(0).expect_out(&format!("{number}\nin")).expect_err("");
    }
}

/// Starts what the hostile host waits for before it begins.
fn provoke(lab: &Lab, effect: Effect) -> Option<Running> {
    let config = config(lab);
    let words: &[&str] = match effect {
        Effect::FloodOfSession => &["ssh", "-F", &config, "hostile", "true"],
        Effect::FloodOfListener => &["ssh", "-F", &config, "-N", "-R", "0:127.0.0.1:9", "hostile"],
        Effect::FloodOfTool => &["run", "-F", &config, "--on", "hostile", "--", "true"],
        _ => return None,
    };
    let null = || fs::File::options().write(true).open("/dev/null").unwrap();
    Some(lab.fakessh(words).stdout(null()).stderr(null()).start())
}

#[test]
fn a_flood_costs_the_master_little_and_other_hosts_are_served() {
    let (lab, hostile) = labs();
    for &mode in Mode::ALL {
        let effect = mode.effect();
        if matches!(effect, Effect::End(_) | Effect::EndOfListener(_) | Effect::NoStart(_)) {
            continue;
        }
        let master = lab.master();
        clear_peak(&master);
        let before = master.memory("VmHWM");
        hostile.behave(mode);
        lab.fakessh(["connect", "-F", &config(&lab), "hostile"]).run().expect_status(0);
        let provoked = provoke(&lab, effect);
        expect_service(&lab);
        let grown = master.memory("VmHWM").saturating_sub(before);
        assert!(grown < GROWTH, "{}: the master has grown by {grown} KiB", mode.name());
        // It may have ended by itself.
        lab.fakessh(["close", "hostile"]).run();
        if let Some(provoked) = provoked {
            assert_ne!(provoked.finish().code(), 0, "{}", mode.name());
        }
        assert_eq!(lab.held(), ["remote"], "{}", mode.name());
    }
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_lie_ends_its_link_with_a_clear_line_and_no_other() {
    let (lab, hostile) = labs();
    let master = lab.master();
    clear_peak(&master);
    let before = master.memory("VmHWM");
    for &mode in Mode::ALL {
        let (words, options): (_, &[&str]) = match mode.effect() {
            Effect::End(words) => (words, &[]),
            Effect::EndOfListener(words) => (words, &["-N", "-R", "1:127.0.0.1:9"]),
            _ => continue,
        };
        hostile.behave(mode);
        // It may lie before the session is there, or after.
        let config = config(&lab);
        let before = ["ssh", "-F", &config].into_iter().chain(options.iter().copied());
        let command = options.is_empty().then_some("true");
        let done = lab.fakessh(before.chain(["hostile"]).chain(command)).run();
        assert!(done.err().contains(words), "{}: {}", mode.name(), done.shown());
        done.expect_fault(255, &["hostile"]);
        lab.fakessh(["close", "hostile"]).run();
        expect_service(&lab);
    }
    let grown = master.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "the master has grown by {grown} KiB");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_target_that_never_begins_to_speak_gets_no_slave() {
    for &mode in Mode::ALL {
        let Effect::NoStart(words) = mode.effect() else { continue };
        let (lab, hostile) = labs();
        hostile.behave(mode);
        let config = config(&lab);
        let done = lab.fakessh(["ssh", "-F", &config, "hostile", "true"]).run();
        let done = done.expect_status(1);
        // Why there is no slave is said once, as one line, whatever the target printed.
        // The shim writes it, and the master what the program says: either may be first.
        let said = done.err();
        let (notices, rest): (Vec<_>, Vec<_>) =
            said.lines().partition(|line| line.starts_with("fakessh: "));
        let [notice] = notices[..] else { panic!("{}", done.shown()) };
        assert!(notice.starts_with("fakessh: hostile: no slave runs there ("), "{}", done.shown());
        // On a slow machine it is not waited for until it has printed too much.
        let is_why = |text: &str| text.contains(words) || text.contains("has not begun to start");
        assert!(is_why(notice) && notice.len() < LONGEST_NOTICE, "{}", done.shown());
        assert_eq!(rest, ["hostile-slave: nothing else runs here"]);
        let list = lab.list();
        let why = list.iter().find_map(|context| context["direct"].as_str());
        assert!(why.is_some_and(is_why), "{}: {list:?}", mode.name());
        lab.fakessh(["close", "hostile"]).run().expect_status(0);
        expect_service(&lab);
        lab.expect_nothing_left();
    }
}
