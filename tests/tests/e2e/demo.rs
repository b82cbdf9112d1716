//! `fakessh demo`, the first command of whoever tries it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use fakessh_lab::files::{listing, write_script};
use fakessh_lab::{Lab, tool};
use rustix::process::Signal;

/// What the demo needs of the system, and what starts it here.
const PROGRAMS: [&str; 10] =
    ["setsid", "sh", "tar", "uname", "head", "mkdir", "chmod", "wc", "rm", "sleep"];

/// A directory with these programs and no others.
fn programs(lab: &Lab) -> PathBuf {
    let dir = lab.local_dir("programs");
    for name in PROGRAMS {
        let mut found = tool::PATH.split(':').map(|dir| PathBuf::from(dir).join(name));
        symlink(found.find(|path| path.exists()).expect(name), dir.join(name)).unwrap();
    }
    dir
}

#[test]
fn the_demo_verifies_what_it_shows_and_leaves_nothing() {
    let lab = Lab::start();
    let done = lab.fakessh(["demo"]).run().expect_status(0).expect_err("");
    let out = done.out();
    let value = |what: &str| {
        let line = out.lines().find(|line| line.trim_start().starts_with(what));
        line.unwrap_or_else(|| panic!("no {what}: {out}")).split_whitespace().last().unwrap()
    };
    assert_eq!((value("logins,"), value("ssh command lines")), ("1", "102"));
    assert!(value("both copies") == "identical", "{out}");
    assert!(out.contains("rsync of ") && out.contains("All of it was verified."), "{out}");
    lab.expect_nothing_left();
}

#[test]
fn the_demo_does_with_ssh_and_tar() {
    let lab = Lab::start();
    let done = lab.fakessh(["demo"]).env("PATH", programs(&lab)).run().expect_status(0);
    let out = done.expect_err("").out();
    assert!(out.contains("ssh and tar (no rsync here)"), "{out}");
    assert!(out.contains("no ssh here") && out.contains("All of it was verified."), "{out}");
    lab.expect_nothing_left();
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let lab = Lab::start();
    let dir = programs(&lab);
    // At the far end it writes file after file where the tree should be.
    let rsync = "#!/bin/sh\nfor last; do :; done\ncase $* in\n--version) ;;\n\
                 *--server*) mkdir -p \"$last\"; echo up >&2\n\
                 while echo >\"$last/file$((n += 1))\"; do :; done ;;\n\
                 *) ssh demo rsync --server \"${last#demo:}\" ;;\nesac\n";
    write_script(&dir.join("rsync"), rsync);
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let running = lab.fakessh(["demo"]).env("PATH", &dir).start();
        running.wait_for_error("up");
        running.signal(signal);
        let done = running.finish().expect_status(status);
        assert_eq!(listing(&lab.dir().join("tmp")), [""; 0], "{}", done.shown());
    }
    lab.expect_nothing_left();
}
