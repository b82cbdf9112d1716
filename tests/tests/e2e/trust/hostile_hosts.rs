//! A route comes from a person. Hosts and URLs that mean harm go through every tool, in every way
//! that a shim can be reached, and the program that they try to run is never run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Lab, Tool, binary, tool};

/// The hosts and URLs, each with what it tries.
const CORPUS: &str = include_str!("hostile_hosts.txt");

/// Gives them to the tools.
const DRIVER: &str = include_str!("hostile_hosts.py");

/// Fewest entries that are worth the name.
const FEWEST: usize = 60;

/// How long one way with all of its some thousand commands may take. A guard against hangs only.
const GUARD: Duration = Duration::from_secs(300);

/// A lab with a held root, a canary, and a configuration that shows each host to a shell.
struct Stage {
    lab: Lab,
    corpus: PathBuf,
    canary: PathBuf,
    driver: PathBuf,
    ran: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
        let ways = ["ProxyCommand /bin/false %h %n %r", "Match exec \"test %n = nobody\""];
        lab.host("* !remote", &ways.map(str::to_owned));
        lab.configure("[route.alias]\nvia = \"remote\"\n");
        // Where the account on the target gets to as well.
        let theirs = lab.remote_dir();
        let [corpus, canary, driver, ran] =
            ["corpus", "canary", "driver.py", "ran"].map(|name| theirs.join(name));
        fs::write(&corpus, CORPUS).unwrap();
        fs::write(&driver, DRIVER).unwrap();
        fs::write(&ran, "").unwrap();
        // The account on the target runs tools as well.
        fs::set_permissions(&ran, PermissionsExt::from_mode(0o666)).unwrap();
        let script = format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\nexec \"$@\"\n", ran.display());
        write_script(&canary, &script);
        let config = lab.config_path().display().to_string();
        let connect = ["connect", "-F", &config, "remote+sudo"];
        lab.fakessh(connect).run().expect_status(0);
        Stage { lab, corpus, canary, driver, ran }
    }

    /// The words of the driver.
    fn driver(&self) -> Vec<String> {
        let words = [&self.driver, &self.corpus, &self.canary].map(|it| it.display().to_string());
        [vec!["python3".to_owned()], words.to_vec()].concat()
    }

    /// Runs the tools, in a directory that holds what patterns look for.
    fn expect_no_execution(&self, tool: Tool) {
        let here = self.lab.local_dir("checkout");
        // A tool on the target starts in the account's home.
        for directory in [&here, &self.lab.account().home] {
            fs::copy(&self.canary, directory.join("evil.sh")).unwrap();
        }
        let done = tool.directory(here).guard(GUARD).run().expect_status(0);
        let entries = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = entries.count();
        assert!(entries >= FEWEST, "only {entries} entries");
        let lines = done.out();
        assert!(lines.starts_with(&format!("{entries} entries, ")), "{}", done.shown());
        assert_eq!(lines.lines().count(), 1, "something got somewhere: {}", done.shown());
        assert_eq!(fs::read_to_string(&self.ran).unwrap(), "", "the canary was run");
        // The tools did get to a host that they may, so that it was not for want of a way.
        assert_eq!(self.lab.held(), ["remote", "remote+sudo"]);
    }
}

#[test]
fn the_canary_is_run_if_a_person_asks_for_it() {
    let stage = if root_for("rules of sudo") { Stage::new() } else { return };
    let route = format!("local+exec:{}", stage.canary.display());
    stage.lab.fakessh(["ssh", &route, "echo in"]).run().expect_status(0).expect_out("in\n");
    assert!(
        fs::read_to_string(&stage.ran).unwrap().starts_with(&stage.canary.display().to_string())
    );
}

#[test]
fn hostile_names_run_nothing_in_a_run_without_a_destination() {
    let stage = if root_for("rules of sudo") { Stage::new() } else { return };
    let words = [stage.driver(), vec!["all".into()]].concat();
    stage.expect_no_execution(stage.lab.run([""; 0], words));
}

#[test]
fn hostile_names_run_nothing_in_a_run_with_a_destination() {
    let stage = if root_for("rules of sudo") { Stage::new() } else { return };
    stage.expect_no_execution(stage.lab.run(["remote"], stage.driver()));
}

#[test]
fn hostile_names_run_nothing_in_a_run_with_routes() {
    let stage = if root_for("rules of sudo") { Stage::new() } else { return };
    let before = ["--route", "b=remote", "--route", "c=remote+sudo"];
    stage.expect_no_execution(stage.lab.run(before, stage.driver()));
}

#[test]
fn hostile_names_run_nothing_on_a_target() {
    let stage = if root_for("rules of sudo") { Stage::new() } else { return };
    let before = ["--on", "remote", "--route", "b=remote"];
    stage.expect_no_execution(stage.lab.run(before, stage.driver()));
}

#[test]
fn hostile_names_run_nothing_where_the_program_is_linked_as_ssh() {
    let stage = if root_for("rules of sudo") { Stage::new() } else { return };
    let links = stage.lab.local_dir("links");
    for name in ["ssh", "scp", "sftp"] {
        symlink(binary::fakessh(), links.join(name)).unwrap();
    }
    let config = stage.lab.config_path().display().to_string();
    let words = [stage.driver(), vec!["all".into(), "-F".into(), config]].concat();
    let path = format!("{}:{}", links.display(), tool::PATH);
    stage.expect_no_execution(stage.lab.program(words).env("PATH", path));
}
