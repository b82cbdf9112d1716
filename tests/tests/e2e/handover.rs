//! What is left to the real `ssh` goes where, and as, a session of the run would.

use std::path::Path;

use fakessh_lab::privilege::root_for;
use fakessh_lab::{Finished, Lab, SharedLab, Tool};

static LAB: SharedLab = SharedLab::new(Lab::start);

/// A second configuration, in which everything is otherwise.
fn other_config(lab: &Lab) -> String {
    let path = lab.local_dir("other").join("config");
    let text = "Host *\n  User conf\n  Port 71\n  ProxyJump confjump\n  IdentityFile ~/conf\n";
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What the real ssh says with these words.
fn real(lab: &Lab, words: &[&str]) -> Finished {
    lab.program(["/usr/bin/ssh"].iter().chain(words)).run()
}

/// A run whose hosts come from the command line of the `ssh` in it.
fn run(lab: &Lab, options: &[&str], words: &[&str]) -> Tool {
    let before = ["run"].into_iter().chain(options.iter().copied()).chain(["--"]);
    lab.fakessh(before.chain(words.iter().copied()))
}

#[test]
fn the_configuration_is_that_of_a_session_for_each_option_of_a_run() {
    let lab = LAB.get();
    let (conf, other) = (lab.config_path().display().to_string(), other_config(&lab));
    // Options of the run, words of the tool's ssh, and those with which the real ssh alone knows the
    // same.
    let (conf, other) = (conf.as_str(), other.as_str());
    for (options, words, same) in [
        (&["-F", other][..], &["remote"][..], &["-F", other, "remote"][..]),
        (&["-F", other], &["-F", conf, "remote"], &["-F", conf, "remote"]),
        (&["-l", "run"], &["-F", conf, "remote"], &["-F", conf, "-l", "run", "remote"]),
        (
            &["-l", "run"],
            &["-F", conf, "-l", "own", "remote"],
            &["-F", conf, "-l", "own", "remote"],
        ),
        (&["-l", "run"], &["own@h"], &["own@h"]),
        (&["-l", "run"], &["--", "own@h"], &["own@h"]),
        (&["-p", "7"], &["h"], &["-p", "7", "h"]),
        (&["-p", "7"], &["h", "-p", "8"], &["-p", "8", "h"]),
        (&["-p", "7"], &["ssh://h:8"], &["-p", "8", "h"]),
        (&["-i", "/run"], &["h"], &["-i", "/run", "h"]),
        (&["-i", "/run"], &["-i", "/own", "h"], &["-i", "/own", "-i", "/run", "h"]),
        (&["-J", "run"], &["h"], &["-J", "run", "h"]),
        (&["-J", "run"], &["-J", "own", "h"], &["-J", "own", "h"]),
        (&["-J", "run"], &["-oProxyJump=own", "h"], &["-J", "own", "h"]),
        (&["-J", "run"], &["-oProxyCommand=own", "h"], &["-oProxyCommand=own", "h"]),
        (&["-oProxyCommand=run"], &["-J", "own", "h"], &["-J", "own", "h"]),
        (&["-oUser=run"], &["-F", other, "h"], &["-F", other, "-l", "run", "h"]),
        (&["-oCiphers=aes256-ctr"], &["h"], &["-oCiphers=aes256-ctr", "h"]),
        (&["-oCiphers=aes256-ctr"], &["-caes128-ctr", "h"], &["-oCiphers=aes128-ctr", "h"]),
        (
            &["-oStrictHostKeyChecking=yes", "-oUserKnownHostsFile=/dev/null"],
            &["-F", conf, "remote"],
            &[
                "-F",
                conf,
                "-oStrictHostKeyChecking=yes",
                "-oUserKnownHostsFile=/dev/null",
                "remote",
            ],
        ),
    ] {
        let expected = real(&lab, &[&["-G"], same].concat()).expect_status(0);
        let asked = [&["ssh", "-G"], words].concat();
        let done = run(&lab, options, &asked).run();
        assert_eq!(done.err(), expected.err(), "{options:?} {words:?}");
        assert_eq!(done.out(), expected.out(), "{options:?} {words:?}");
    }
}

/// Holds that a terminal is given as by the real ssh, with these options of a run.
#[track_caller]
fn expect_terminal(lab: &Lab, options: &[&str], words: &[&str], code: i32, out: &str) {
    let conf = lab.config_path().display().to_string();
    let command = "test -t 0 && id -un";
    let direct = [&["-F", &conf, "-tt"], words, options, &[command]].concat();
    let expected = real(lab, &direct);
    assert_eq!((expected.code(), expected.out().trim_end()), (code, out), "the lab: {direct:?}");
    let options = [&["-F", &conf], options].concat();
    let asked = [&["ssh", "-tt"], words, &[command]].concat();
    let done = run(lab, &options, &asked).run();
    assert_eq!((done.code(), done.out().trim_end()), (code, out), "{options:?}: {}", done.shown());
}

#[test]
fn a_terminal_is_given_where_and_as_the_run_says() {
    if !root_for("another account") {
        return;
    }
    let lab = Lab::builder().another_account().start();
    let other = lab.other().name.clone();
    expect_terminal(&lab, &["-l", &other], &["remote"], 0, &other);
    expect_terminal(&lab, &["-o", &format!("User={other}")], &["remote"], 0, &other);
    let account = lab.account().name.clone();
    expect_terminal(&lab, &["-l", &other], &[&format!("{account}@remote")], 0, &account);
    // Nothing of this may be passed over.
    let logins = lab.logins();
    for options in [
        &["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=/dev/null"][..],
        &["-p", "1"],
        &["-J", "nowhere.invalid"],
        &[
            "-o",
            "IdentityFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "PubkeyAuthentication=no",
        ],
    ] {
        let options = [options, &["-o", "BatchMode=yes"]].concat();
        expect_terminal(&lab, &options, &["remote"], 255, "");
    }
    assert_eq!(lab.logins(), logins);
    lab.expect_nothing_left();
}

#[test]
fn the_configuration_of_a_mapped_name_is_that_of_its_destination() {
    let lab = LAB.get();
    let conf = lab.config_path().display().to_string();
    // An option that nobody else sets, and that of the tool which counts for nothing.
    let (of_run, own) = ("-oServerAliveInterval=1017", "-oServerAliveInterval=1018");
    let expected = real(&lab, &["-F", &conf, of_run, "-G", "remote"]).expect_status(0);
    let expect_same = |done: Finished| {
        done.expect_status(0).expect_out(&expected.out()).expect_err(&expected.err())
    };
    expect_same(lab.run([of_run, "remote"], ["ssh", "-G", own, "remote"]).run());
    expect_same(lab.run([of_run, "--route", "db=remote"], ["ssh", "-G", "db"]).run());
    // The paths are those of whoever started the run.
    let name = Path::new(&conf).file_name().unwrap().to_str().unwrap();
    let script = "cd / && ssh -G remote";
    let elsewhere = lab.fakessh(["run", "-F", name, of_run, "remote", "--", "sh", "-c", script]);
    expect_same(elsewhere.directory(Path::new(&conf).parent().unwrap()).run());
    let route = format!("db={}@remote", lab.account().name);
    for (host, words) in [("other", ["other"]), ("own@db", ["own"])] {
        let done = lab.run(["--route", &route], ["ssh", "-G", host]).run();
        done.expect_fault(255, &words).expect_out("");
    }
}

#[test]
fn a_route_has_no_configuration() {
    if !root_for("rules of sudo") {
        return;
    }
    let rules = fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
    let lab = Lab::builder().etc("sudoers.d/lab", rules).start();
    let done = lab.run(["remote+sudo"], ["ssh", "-G", "remote"]).run();
    done.expect_fault(255, &["remote+sudo", "-G"]).expect_out("");
    // A name of the user's own is one, too.
    lab.configure("[route.root]\nvia = \"remote+sudo\"\n\n[route.plain]\nvia = \"remote\"\n");
    let conf = lab.config_path().display().to_string();
    run(&lab, &["-F", &conf], &["ssh", "-G", "root"]).run().expect_fault(255, &["remote+sudo"]);
    let expected = real(&lab, &["-F", &conf, "-G", "remote"]).expect_status(0);
    let done = run(&lab, &["-F", &conf], &["ssh", "-G", "plain"]).run();
    done.expect_out(&expected.out());
    // What a host's own configuration says of a name of the run is wrong.
    let done = lab.run(["--on", "remote", "--route", "db=remote"], ["ssh", "-G", "db"]).run();
    done.expect_fault(255, &["-G"]).expect_out("");
    lab.expect_nothing_left();
}
