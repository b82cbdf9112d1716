//! How long connections are held, what ends them, and who is asked before they are used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Client, Gate, Lab, Running, files, wait_until};
use serde_json::Value;

/// Seconds for which a login is held where nobody says anything.
const LOGIN: u64 = 8 * 3600;

/// Seconds for which what is behind sudo is held.
const PRIVILEGE: u64 = 15 * 60;

/// Connects, with these options.
#[track_caller]
fn connect(lab: &Lab, options: &[&str], destination: &str) {
    let config = lab.config_path().display().to_string();
    let words = [&["connect", "-F", &config], options, &[destination]].concat();
    lab.fakessh(words).run().expect_status(0).expect_err("");
}

/// What `ls` says of a context.
#[track_caller]
fn listed(lab: &Lab, name: &str, field: &str) -> Value {
    let list = lab.list();
    let found = list.iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:?}"))[field].clone()
}

/// A run that is in the middle of a session.
fn start_session(lab: &Lab, options: &[&str], destination: &str) -> (Running, Gate) {
    let gate = Gate::new(lab);
    let command = format!("echo up; cat {}", gate.path());
    let before = [options, &[destination]].concat();
    let mut running = lab.run(before, ["ssh", "remote", &command]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    (running, gate)
}

fn lab_with_sudo() -> Lab {
    Lab::builder().another_account().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start()
}

#[test]
fn an_idle_connection_ends_after_the_time_that_was_asked_for() {
    let lab = Lab::start();
    connect(&lab, &[], "remote");
    assert_eq!(listed(&lab, "remote", "persist"), LOGIN);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let end = listed(&lab, "remote", "ends_at").as_u64().unwrap();
    assert!((now.as_secs() + 1..=now.as_secs() + LOGIN).contains(&end), "{end}");
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(
        table.contains("ENDS IN") && (table.contains("7h59m") || table.contains("8h00m")),
        "{table}"
    );
    // For ever, and then for a second: who asks last is right.
    connect(&lab, &["--persist", "yes"], "remote");
    assert_eq!(
        (listed(&lab, "remote", "persist"), listed(&lab, "remote", "ends_at")),
        (Value::Null, Value::Null)
    );
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(table.contains("never"), "{table}");
    connect(&lab, &["--persist=1s"], "remote");
    lab.wait_for_log(&["remote (@1): closed: not used for 1s"]);
    assert_eq!((lab.held().len(), lab.logins()), (0, 1));
    // The next one who comes has another login.
    connect(&lab, &[], "remote");
    assert_eq!(lab.logins(), 2);
    lab.fakessh(["connect", "--persist", "soon", "remote"]).run().expect_status(255);
    lab.expect_nothing_left();
}

#[test]
fn what_is_used_does_not_end_and_the_last_use_renews() {
    let lab = Lab::start();
    let (running, gate) = start_session(&lab, &["--persist", "no"], "remote");
    assert_eq!(listed(&lab, "remote", "busy"), true);
    assert_eq!(listed(&lab, "remote", "ends_at"), Value::Null);
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(table.contains("in use"), "{table}");
    gate.open("whole");
    running.finish().expect_status(0).expect_out("up\nwhole").expect_err("");
    lab.wait_for_event("closed", &[("context", "remote")]);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_live_run_holds_what_it_uses_and_its_end_lets_go() {
    let lab = Lab::start();
    let gate = Gate::new(&lab);
    let script = format!("ssh remote true; echo up; cat {}", gate.path());
    let mut running = lab.run(["--persist", "1", "remote"], ["sh", "-c", &script]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    assert_eq!(listed(&lab, "remote", "persist"), LOGIN);
    gate.open("");
    running.finish().expect_status(0);
    lab.wait_for_log(&["remote (@1): closed: not used for 1s"]);
    lab.expect_nothing_left();
}

#[test]
fn fakessh_ssh_takes_the_time_among_the_options_of_ssh() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    let words = ["ssh", "-F", &config, "--persist", "1", "remote", "echo here"];
    lab.fakessh(words).run().expect_status(0).expect_out("here\n").expect_err("");
    lab.wait_for_log(&["remote (@1): closed: not used for 1s"]);
    let words = ["ssh", "-F", &config, "--persist", "never", "remote", "true"];
    lab.fakessh(words).run().expect_fault(255, &["'never' is no time"]);
    lab.expect_nothing_left();
}

#[test]
fn what_is_behind_sudo_ends_early_and_what_it_hung_on_begins_to_be_idle() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = lab_with_sudo();
    connect(&lab, &[], "remote+sudo");
    assert_eq!(listed(&lab, "remote+sudo", "persist"), PRIVILEGE);
    assert_eq!(listed(&lab, "remote", "persist"), LOGIN);
    assert_eq!(listed(&lab, "remote", "busy"), true);
    lab.configure("persist = \"1h\"\n[hop.sudo]\npersist = 1\n");
    connect(&lab, &[], "remote+sudo");
    lab.wait_for_log(&["remote+sudo (@2): closed: not used for 1s"]);
    assert_eq!(lab.held(), ["remote"]);
    assert_eq!(listed(&lab, "remote", "persist"), 3600);
    assert_eq!(listed(&lab, "remote", "busy"), false);
    // A rule for the route that a name stands for comes before the one for the kind of hop.
    lab.configure("[hop.sudo]\npersist = 1\n[route.r]\nvia = \"remote+sudo\"\npersist = \"2h\"\n");
    connect(&lab, &[], "r");
    assert_eq!(listed(&lab, "remote+sudo", "persist"), 7200);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn lock_closes_what_is_behind_sudo_and_leaves_a_login_by_key() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = lab_with_sudo();
    lab.fakessh(["lock"]).run().expect_status(0).expect_out("").expect_err("");
    let (running, gate) = start_session(&lab, &[], "remote+sudo");
    connect(&lab, &[], &format!("remote+sudo:{}", lab.other().name));
    lab.fakessh(["lock", "--idle"]).run().expect_status(0).expect_err("");
    assert_eq!(lab.held(), ["remote", "remote+sudo"]);
    lab.fakessh(["lock"]).run().expect_status(0).expect_out("").expect_err("");
    running.finish().expect_fault(255, &[]);
    assert_eq!(lab.held(), ["remote"]);
    drop(gate);
    lab.wait_for_event("closed", &[("context", "remote+sudo"), ("why", "locked")]);
    lab.expect_nothing_left();
}

#[test]
fn lock_closes_a_login_for_which_something_was_typed() {
    if !root_for("an account with a password") {
        return;
    }
    let lab = Lab::builder().password().start();
    let askpass = Askpass::new(&lab, "askpass", &[PASSWORD]);
    let run = || askpass.for_tool(lab.tool(Client::Fakessh, ["ssh", "remote", "true"]));
    run().run().expect_status(0);
    run().run().expect_status(0);
    assert_eq!((askpass.count(), lab.logins()), (1, 1));
    lab.fakessh(["lock"]).run().expect_status(0);
    assert_eq!(lab.held().len(), 0);
    run().run().expect_status(0);
    assert_eq!((askpass.count(), lab.logins()), (2, 2));
    lab.expect_nothing_left();
}

#[test]
fn lock_ends_what_is_just_being_connected_to() {
    if !root_for("rules of sudo") {
        return;
    }
    // The start of the first slave is held up, as a slow login holds it up.
    let command = "case $SSH_ORIGINAL_COMMAND in (*fakessh*) : >$LAB/remote/started; \
                   until [ -e $LAB/remote/go ]; do sleep .02; done;; esac; \
                   eval \"$SSH_ORIGINAL_COMMAND\"";
    let builder = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD);
    let lab = builder.sshd(&format!("ForceCommand {command}")).start();
    let config = lab.config_path().display().to_string();
    let connecting = lab.fakessh(["connect", "-F", &config, "remote+sudo"]).start();
    wait_until(|| lab.remote_dir().join("started").exists(), "no start begins");
    lab.fakessh(["lock"]).run().expect_status(0);
    fs::write(lab.remote_dir().join("go"), "").unwrap();
    connecting.finish().expect_fault(255, &["remote+sudo", "locked"]);
    assert_eq!(lab.held(), ["remote"]);
    lab.expect_nothing_left();
}

#[test]
fn each_use_is_confirmed_by_who_opened_the_run_and_not_by_its_tool() {
    let lab = Lab::start();
    lab.configure("[route.prod]\nvia = \"remote\"\nconfirm = true\n");
    let yes = lab.dir().join("user/yes");
    files::write_script(&yes, "#!/bin/sh\necho yes\n");
    // The tool would answer itself.
    let script = format!(
        "SSH_ASKPASS='{}' SSH_ASKPASS_REQUIRE=force ssh remote 'echo used; exit 3'",
        yes.display()
    );
    let run = || lab.run(["prod"], ["sh", "-c", &script]);
    let words = ["remote", "confirmed", "nobody to ask"];
    run().run().expect_fault(255, &words).expect_out("");
    let no = Askpass::new(&lab, "no", &["no"]);
    no.for_tool(run()).run().expect_fault(255, &["remote", "not allowed"]).expect_out("");
    let askpass = Askpass::new(&lab, "yes-and-no", &["yes", "", "YES", "y"]);
    for _ in 0..3 {
        askpass.for_tool(run()).run().expect_status(3).expect_out("used\n");
    }
    askpass.for_tool(run()).run().expect_status(255).expect_out("");
    assert_eq!(askpass.count(), 4);
    let asked = askpass.asked();
    assert!(asked.contains("\"sh\"") && asked.contains("echo used; exit 3"), "{asked}");
    // Another name for the same connection does not lead around it.
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_fault(255, &words);
    lab.wait_for_event("refused", &[("what", "remote")]);
    // A command of the person's own is answered where it runs.
    let config = lab.config_path().display().to_string();
    let own = || lab.fakessh(["ssh", "-F", &config, "prod", "echo own"]);
    own().run().expect_fault(255, &words);
    askpass.for_tool(own()).run().expect_fault(255, &["not allowed"]);
    let askpass = Askpass::new(&lab, "own", &["yes"]);
    askpass.for_tool(own()).run().expect_status(0).expect_out("own\n");
    lab.expect_nothing_left();
}

#[test]
fn a_tool_that_ends_while_somebody_is_asked_ends_the_run() {
    let lab = Lab::start();
    lab.configure("[route.prod]\nvia = \"remote\"\nconfirm = true\n");
    let terminal = fakessh_lab::Terminal::new();
    let gate = Gate::new(&lab);
    let script = format!("ssh remote true & cat {}; kill -9 $!", gate.path());
    let running = lab.run(["prod"], ["sh", "-c", &script]).on_terminal(&terminal).start();
    terminal.wait_for("Allow it (yes/no)?");
    gate.open("");
    // Nobody has answered.
    running.finish().expect_status(0);
    lab.expect_no_run_directories();
    lab.expect_nothing_left();
}

/// Signs the lab's key for so long, and lets the server believe nothing else.
fn certify(lab: &Lab, seconds: u32) {
    let ca = lab.dir().join("user/ca");
    if !ca.exists() {
        fakessh_lab::files::keygen(&ca);
        let public = fs::read_to_string(ca.with_extension("pub")).unwrap();
        let file = lab.dir().join("server/authorized_keys");
        fs::write(&file, format!("cert-authority {public}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let key: &Path = &lab.key().with_extension("pub");
    let signed = Command::new("ssh-keygen")
        .arg("-q")
        .arg("-s")
        .arg(&ca)
        .args(["-I", "lab", "-n", &lab.account().name, "-V", &format!("-1m:+{seconds}s")])
        .arg(key)
        .status();
    assert!(signed.unwrap().success());
}

#[test]
fn a_certificates_end_is_the_connections_end_and_not_that_of_what_runs() {
    let lab = Lab::start();
    certify(&lab, 20);
    let (running, gate) = start_session(&lab, &["--persist", "yes"], "remote");
    certify(&lab, 3600);
    // The connection of the ended certificate is not used any more, though a session keeps it.
    lab.wait_for_log(&["remote (@1)", "its certificate has ended"]);
    connect(&lab, &[], "remote");
    assert_eq!((lab.logins(), lab.held()), (2, vec!["remote".to_owned(), "remote".to_owned()]));
    let ends = |index: usize| lab.list()[index]["ends_at"].as_u64();
    assert_eq!(ends(0), None, "in use");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(ends(1).unwrap() <= now.as_secs() + 3600, "the certificate ends before the login");
    gate.open("whole");
    running.finish().expect_status(0).expect_out("up\nwhole").expect_err("");
    lab.wait_for_event("closed", &[("id", "@1"), ("why", "the certificate has ended")]);
    assert_eq!(lab.held(), ["remote"]);
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0).expect_err("");
    assert_eq!(lab.logins(), 2);
    lab.expect_nothing_left();
}
