//! Routes that are wrong, and routes that break.

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Finished, Lab, SharedLab};
use rustix::process::Signal;

static LAB: SharedLab = SharedLab::new(Lab::start);

/// `fakessh run ROUTE -- true`, which fails.
#[track_caller]
fn refused(lab: &Lab, route: &str) -> String {
    let done: Finished = lab.run([route], ["true"]).run().expect_status(255).expect_out("");
    let said = done.err();
    assert!(said.starts_with("fakessh: "), "{route}: {said}");
    said
}

#[test]
fn a_mistake_in_a_route_is_shown_with_a_caret() {
    let lab = Lab::start();
    for (route, under) in [
        ("remote++sudo", '+'),
        ("remote+docker:", ':'),
        ("remote+sudp:root", 's'),
        ("remote+nsenter:x12", 'x'),
        ("remote+chroot:relative", 'r'),
        ("remote+local", 'l'),
    ] {
        let said = refused(&lab, route);
        let lines: Vec<&str> = said.lines().collect();
        let carets = lines.iter().position(|line| line.trim_start().starts_with('^'));
        let carets = carets.unwrap_or_else(|| panic!("{route}: no caret in\n{said}"));
        assert!(lines[carets - 1].contains(route), "{route}: no route above the caret\n{said}");
        let column = lines[carets].find('^').unwrap();
        let above = lines[carets - 1].chars().nth(column);
        // Where something is missing, the caret may stand behind the end.
        assert!(above.is_none() || above == Some(under), "{route}: under {above:?}\n{said}");
    }
    assert!(refused(&lab, "remote+sudp:root").contains("sudo"), "what it could have been");
    for route in ["", "+remote", "remote+"] {
        refused(&lab, route);
    }
    assert_eq!(lab.logins(), 0, "nothing was tried");
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_line() {
    let lab = Lab::start();
    for (text, words) in [
        ("[route.db]\nvia = \"remote\"\nvja = \"x\"\n", &["vja", "config.toml", "3"][..]),
        ("[rute.db]\nvia = \"remote\"\n", &["rute", "config.toml", "1"]),
        ("[route.db]\nvia = \"remote++sudo\"\n", &["config.toml", "2"]),
        ("[route.db\n", &["config.toml", "1"]),
    ] {
        lab.configure(text);
        let said = refused(&lab, "db");
        for word in words {
            assert!(said.contains(word), "no {word:?} in\n{said}");
        }
    }
}

#[test]
fn routes_that_lead_in_circles_are_refused() {
    let lab = Lab::start();
    lab.configure(
        "[route.aa]\nvia = \"bb+sudo\"\n[route.bb]\nvia = \"cc\"\n[route.cc]\nvia = \"aa\"\n",
    );
    let said = refused(&lab, "aa");
    for name in ["aa", "bb", "cc", "config.toml"] {
        assert!(said.contains(name), "no {name} in\n{said}");
    }
    assert_eq!(lab.logins(), 0);
    // They are no matter for who names none of them, and lead to no host of that name.
    lab.run([""; 0], ["ssh", "remote", "echo in"]).run().expect_status(0).expect_out("in\n");
    let done = lab.run([""; 0], ["ssh", "aa", "true"]).run();
    done.expect_fault(255, &["aa", "circle", "config.toml"]);
}

#[test]
fn a_hop_that_does_not_exist_on_the_target_is_said_so() {
    let lab = LAB.get();
    for (route, words) in [
        ("remote+podman:app", &["podman"][..]),
        ("remote+exec:/no/such/program", &["/no/such/program"]),
        ("remote+exec:true", &["exec:true"]),
        ("remote+exec:echo nonsense; exit 3", &["nonsense"]),
        ("remote+nowhere.invalid", &["nowhere.invalid"]),
        ("remote+127.0.0.1:1", &["127.0.0.1:1"]),
    ] {
        let done = lab.run([route], ["ssh", "remote", "true"]).run();
        done.expect_fault(255, words).expect_out("");
    }
    let done = lab.run(["remote"], ["ssh", "remote", "echo in"]).run();
    done.expect_status(0).expect_out("in\n");
    assert_eq!(lab.logins(), 1);
}

#[test]
fn a_hop_that_is_killed_ends_its_sessions_and_comes_again() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let words = ["ssh", "remote", "echo up; sleep 1000"];
    for name in ["sudo", "slave"] {
        let mut running = lab.run(["remote+sudo"], words).start();
        assert_eq!(running.read_line().as_deref(), Some("up"));
        let killed: Vec<_> = match name {
            "sudo" => {
                lab.processes().into_iter().filter(|it| it.command.starts_with("sudo ")).collect()
            }
            _ => root_slaves(&lab),
        };
        assert!(!killed.is_empty(), "no {name} to kill in {:?}", lab.processes());
        // sudo passes the signal on: killed, it would leave the slave, which can go on.
        let signal = if name == "sudo" { Signal::TERM } else { Signal::KILL };
        killed.iter().for_each(|process| process.signal(signal));
        running.finish().expect_fault(255, &["remote+sudo"]);
        assert_eq!(lab.held(), ["remote"]);
    }
    let done = lab.run(["remote+sudo"], ["ssh", "remote", "id -un"]).run();
    done.expect_status(0).expect_out("root\n");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

/// The slaves of root.
fn root_slaves(lab: &Lab) -> Vec<fakessh_lab::process::Process> {
    use std::os::unix::fs::MetadataExt;
    let owner = |pid: u32| std::fs::metadata(format!("/proc/{pid}")).map(|it| it.uid());
    lab.slaves()
        .into_iter()
        .filter(|process| owner(process.pid).is_ok_and(|uid| uid == 0))
        .collect()
}

#[test]
fn a_lost_parent_is_255_and_one_line_for_all_that_hangs_on_it() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let script = "ssh remote 'echo up; sleep 1000'; echo $?";
    let mut running = lab.run(["remote+sudo"], ["sh", "-c", script]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    lab.kill_connections();
    let done = running.finish().expect_fault(0, &["remote"]);
    done.expect_out("up\n255\n");
    assert_eq!(lab.held(), [""; 0]);
    lab.expect_nothing_left();
}

#[test]
fn another_user_is_refused_with_the_route_that_would_do_it() {
    let lab = LAB.get();
    let done = lab.run(["remote"], ["ssh", "root@remote", "true"]).run();
    done.expect_fault(255, &["remote+sudo"]).expect_out("");
}
