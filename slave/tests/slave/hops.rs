//! The real sudo and su, with passwords and terminals. Root only: they need accounts and rules.

use std::process::Command;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::HelperTerminal::{Controlling, Whole};
use fakessh_protocol::message::{Secret, ToSlave};

use crate::account::{Account, PASSWORD, Sudoers, directory};
use crate::far::{Far, carrying, start};
use crate::master::{MARKER, Master, copy_slave};
use fakessh_lab::privilege::root_for;

const PROMPT: &str = "0f1e2d3c4b5a";

/// A slave that runs as this account.
fn start_as(account: &Account) -> Master {
    // Where the account can read it, as it could one of its own.
    let directory = directory();
    let copy = directory.path().join("slave");
    copy_slave(&copy);
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", &account.name, "--regid", &account.name, "--init-groups"]);
    setpriv.arg("--reset-env").arg(&copy).args([MARKER, "022", "-"]);
    Master::start_with(setpriv)
}

fn answer(master: &mut Master, handles: SessionHandles, prompt: &str) {
    master.until("a prompt", |master| {
        assert!(!master.exits.contains_key(&handles.control), "{}", master.text(handles.stderr));
        master.text(handles.stderr).contains(prompt)
    });
    master.message(handles, &ToSlave::Type(Secret(PASSWORD.to_owned())));
}

/// What every far slave must be able to do.
fn prove(far: &mut Far, user: &str) {
    assert_eq!(far.master.hello.as_ref().unwrap().user, user);
    let (status, stdout, stderr) = far.master.run("id -un; echo err >&2; exit 7", b"");
    assert_eq!(
        (status, stdout, stderr),
        (ExitStatus::Code(7), format!("{user}\n"), "err\n".into())
    );
    let all: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let echo = far.master.shell("cat");
    far.master.send(echo.stdin, &all);
    far.master.mux.finish(echo.stdin);
    assert_eq!(far.master.exit(echo), ExitStatus::Code(0));
    assert!(far.master.of(echo.stdout).bytes == all, "bytes were changed");
}

fn sudo(defaults: &str, user: Option<&Account>) {
    let account = Account::new();
    let name = &account.name;
    let logs = directory();
    let _sudoers = Sudoers::new(&format!(
        "{name} ALL=(ALL:ALL) ALL\nDefaults:{name} timestamp_timeout=0,{defaults}\n\
         Defaults:{name} iolog_dir={}\n",
        logs.path().display()
    ));
    let user = user.map_or("root", |user| &user.name);
    let mut near = start_as(&account);
    let start = start();
    let argv = ["sudo", "-H", "-u", user, "-p", PROMPT, "--", "/bin/sh", "-c", &start];
    let handles = near.spawn(carrying(&argv, Controlling), &[("LC_ALL", "C")]);
    answer(&mut near, handles, PROMPT);
    let mut far = Far::over(near, handles);
    prove(&mut far, user);
    // The near link is as good as before, and the helper ends with the far one.
    let (mut near, status) = far.end();
    assert_eq!(status, ExitStatus::Code(0), "{}", near.text(handles.stderr));
    assert_eq!(near.run("echo fine", b"").1, "fine\n");
}

#[test]
fn sudo_with_requiretty() {
    if root_for("accounts and sudoers") {
        sudo("requiretty,!use_pty", None);
    }
}

#[test]
fn sudo_with_use_pty() {
    if root_for("accounts and sudoers") {
        sudo("requiretty,use_pty,umask=0077,umask_override", None);
    }
}

#[test]
fn sudo_with_logged_input_and_output() {
    if root_for("accounts and sudoers") {
        sudo("requiretty,use_pty,log_input,log_output", None);
    }
}

#[test]
fn sudo_as_another_user_with_logged_input_and_output() {
    if root_for("accounts and sudoers") {
        sudo("requiretty,use_pty,log_input,log_output", Some(&Account::new()));
    }
}

#[test]
fn sudo_as_another_user_with_requiretty() {
    if root_for("accounts and sudoers") {
        sudo("requiretty,!use_pty", Some(&Account::new()));
    }
}

#[test]
fn su_has_the_whole_terminal() {
    if !root_for("accounts") {
        return;
    }
    let (account, other) = (Account::new(), Account::new());
    let mut near = start_as(&account);
    let line = format!("exec /bin/sh -c 'exec <&3 >&4 3<&- 4>&-;{}'", start());
    let argv = ["su", "-", &other.name, "-c", &line];
    let handles = near.spawn(carrying(&argv, Whole), &[("LC_ALL", "C")]);
    answer(&mut near, handles, "Password: ");
    let mut far = Far::over(near, handles);
    prove(&mut far, &other.name);
    assert_eq!(far.end().1, ExitStatus::Code(0));
}

#[test]
fn a_hangup_ends_what_runs_as_root() {
    if !root_for("accounts and sudoers") {
        return;
    }
    let account = Account::new();
    let name = &account.name;
    let _sudoers = Sudoers::new(&format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n"));
    let mut near = start_as(&account);
    let witness = crate::master::Witness::new("sudo");
    let script = format!("{}; {}", witness.hold(), start());
    let argv = ["sudo", "-H", "-p", PROMPT, "--", "/bin/sh", "-c", &script];
    let handles = near.spawn(carrying(&argv, Controlling), &[]);
    let marker = format!("fakessh start {MARKER}");
    near.until("a slave", |near| near.text(handles.stdout).contains(&marker));
    near.message(handles, &ToSlave::Hangup);
    near.exit(handles);
    witness.wait();
}
