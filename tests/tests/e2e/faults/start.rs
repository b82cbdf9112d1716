//! What goes wrong once while a slave is being started, and must not count for ever.

use std::fs;

use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Finished, Lab, wait_until};

/// A target that does this with the first starts of a slave, as many as there are numbers.
fn first_starts(numbers: &str, what: &str) -> Lab {
    let command = format!(
        "case $SSH_ORIGINAL_COMMAND in (*fakessh*) for n in {numbers}; do \
         mkdir -m 777 $LAB/remote/$n 2>/dev/null && {{ {what}; exit 1; }}; done;; esac; \
         eval \"$SSH_ORIGINAL_COMMAND\""
    );
    Lab::builder().sshd(&format!("ForceCommand {command}")).start()
}

/// What a killed server process looks like to its client.
const CUT: &str = "kill -9 $PPID; sleep 1";

fn ours(lab: &Lab) -> Finished {
    lab.tool(Client::Fakessh, ["ssh", "remote", "echo in"])
        .run()
        .expect_status(0)
        .expect_out("in\n")
}

/// Holds that what needs a slave is done, on the connection that is there.
#[track_caller]
fn expect_a_slave_where_one_is_needed(lab: &Lab) {
    let logins = lab.logins();
    lab.run(["--on", "remote"], ["sh", "-c", "echo on"]).run().expect_status(0).expect_out("on\n");
    assert_eq!(lab.direct(), None);
    assert_eq!(lab.logins(), logins);
}

#[test]
fn a_connection_that_is_cut_once_before_a_slave_starts_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    let lab = first_starts("1", CUT);
    // The next connection has the slave, and nobody is told.
    ours(&lab).expect_err("");
    assert_eq!((lab.logins(), lab.direct()), (2, None));
    lab.expect_nothing_left();
}

#[test]
fn a_server_that_ends_its_connection_with_the_first_session_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    // The command that starts a slave is the one that names it.
    let what = "case $SSH_ORIGINAL_COMMAND in (*fakessh*) kill -9 $PPID; sleep 1;; esac; \
                eval \"$SSH_ORIGINAL_COMMAND\"";
    let lab = Lab::builder().sshd(&format!("ForceCommand {what}")).start();
    // Twice it is tried; from then on it is known.
    for logins in [3, 1] {
        let before = lab.logins();
        ours(&lab);
        assert_eq!(lab.logins() - before, logins);
        let said = lab.direct().expect("no slave");
        assert!(said.contains("the first session"), "{said}");
        lab.kill_connections();
        lab.expect_no_connections();
    }
    let run = lab.run(["--on", "remote"], ["true"]).run();
    run.expect_fault(255, &["remote", "slave"]);
    lab.expect_nothing_left();
}

#[test]
fn a_network_that_has_cut_twice_takes_no_slave_from_who_needs_one_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    let lab = first_starts("1 2", CUT);
    ours(&lab);
    lab.kill_connections();
    lab.expect_no_connections();
    ours(&lab);
    assert!(lab.direct().is_some());
    expect_a_slave_where_one_is_needed(&lab);
    lab.expect_nothing_left();
}

#[test]
fn a_start_that_failed_for_want_of_something_is_tried_again_with_fakessh() {
    let lab = first_starts("1", "echo sh: 1: Cannot fork >&2");
    let said = ours(&lab).err();
    assert!(said.contains("Cannot fork"), "{said}");
    expect_a_slave_where_one_is_needed(&lab);
    lab.expect_nothing_left();
}

#[test]
fn a_connection_that_is_cut_under_a_start_is_said_to_be_lost_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    let lab = Lab::start();
    let home = &lab.account().home;
    // The first byte of the slave has come: the master knows that the start has begun.
    let head = format!(
        "#!/bin/sh\ncase $* in (*zero*) exec /usr/bin/head \"$@\";; esac\n\
         [ -e {0} ] && exec /usr/bin/head \"$@\"\n\
         /usr/bin/head -c 1 >/dev/null; echo >{0}; exec cat >/dev/null\n",
        home.join("begun").display()
    );
    fs::create_dir(home.join("bin")).unwrap();
    write_script(&home.join("bin/head"), &head);
    fs::write(home.join(".bashrc"), "PATH=$HOME/bin:$PATH\n").unwrap();
    let running = lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).start();
    wait_until(|| home.join("begun").exists(), "no start begins");
    lab.kill_connections();
    running.finish().expect_fault(255, &["remote", "lost", "a slave was just", "try again"]);
    ours(&lab).expect_err("");
    assert_eq!(lab.direct(), None);
    lab.expect_nothing_left();
}
