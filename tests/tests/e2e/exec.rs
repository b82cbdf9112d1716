//! `fakessh exec`, and the note that leads to it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Lab, SharedLab, Tool};
use rustix::process::Signal;

static LAB: SharedLab = SharedLab::new(Lab::start);

fn exec_to(
    lab: &Lab,
    destination: &str,
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Tool {
    let config = lab.config_path().as_os_str();
    let before = ["exec".as_ref(), "-F".as_ref(), config, destination.as_ref(), "--".as_ref()];
    let words = words.into_iter().map(|word| word.as_ref().to_owned());
    lab.fakessh(before.map(OsStr::to_owned).into_iter().chain(words))
}

fn exec(lab: &Lab, words: &[&str]) -> Tool {
    exec_to(lab, "remote", words)
}

/// Words that shells read as something else, each in its own way.
fn hard_words() -> Vec<OsString> {
    let words =
        ["", " two  words ", "it's", "\"", "*", "$HOME", "`id`", "!!", "\\", "\\\\n", "a\nb\n"];
    let words = words.into_iter().chain(["~", "{a,b}", ";", "#", "%1", "=ls", "-n", "\u{e4}"]);
    let bytes = OsString::from_vec((1..=255).collect());
    words.map(OsString::from).chain([bytes, "x".repeat(100_000).into()]).collect()
}

/// Holds that the words come as they are.
#[track_caller]
fn expect_kept_apart(lab: &Lab, destination: &str) {
    let words = hard_words();
    let program = ["printf", "[%s]"].map(OsString::from);
    let done = exec_to(lab, destination, program.iter().chain(&words)).run().expect_status(0);
    let expected: Vec<u8> =
        words.iter().flat_map(|word| [b"[", word.as_bytes(), b"]"].concat()).collect();
    assert!(done.stdout == expected, "{}", String::from_utf8_lossy(&done.stdout));
    done.expect_err("");
}

#[test]
fn arguments_arrive_as_they_are_whatever_the_login_shell_is() {
    expect_kept_apart(&LAB.get(), "remote");
    if !root_for("accounts of its own") {
        return;
    }
    for shell in ["/bin/sh", "/bin/bash", "/usr/bin/fish", "/usr/bin/tcsh"] {
        assert!(std::fs::exists(shell).unwrap(), "{shell} is not installed");
        let lab = Lab::builder().shell(shell).start();
        expect_kept_apart(&lab, "remote");
        lab.expect_nothing_left();
    }
}

#[test]
fn arguments_arrive_as_they_are_behind_sudo() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    expect_kept_apart(&lab, "remote+sudo");
    exec_to(&lab, "remote+sudo", ["id", "-un"]).run().expect_status(0).expect_out("root\n");
    lab.expect_nothing_left();
}

#[test]
fn a_command_line_of_one_word_is_no_command_line() {
    let lab = LAB.get();
    exec(&lab, &["echo in"]).run().expect_fault(127, &["echo in"]).expect_out("");
}

#[test]
fn it_starts_where_and_with_what_a_command_of_ssh_does() {
    let lab = LAB.get();
    let script = "pwd; echo \"$PATH|$USER|$HOME|$SHELL\"; env | grep -c FAKESSH_FD";
    let with_ssh = lab.tool(Client::Ssh, ["ssh", "remote", script]).run().out();
    exec(&lab, &["sh", "-c", script]).run().expect_out(&with_ssh).expect_err("");
}

#[test]
fn its_input_output_and_status_are_the_programs() {
    let lab = LAB.get();
    exec(&lab, &["sh", "-c", "cat; echo err >&2; exit 7"])
        .input("in\n")
        .run()
        .expect_status(7)
        .expect_out("in\n")
        .expect_err("err\n");
    exec(&lab, &["sh", "-c", "kill -KILL $$"]).run().expect_status(137);
    exec(&lab, &["/no/such/program"]).run().expect_fault(127, &["/no/such/program"]);
    exec(&lab, &["/etc/passwd"]).run().expect_fault(126, &["/etc/passwd"]);
    exec(&lab, &[""]).run().expect_fault(127, &["remote"]);
}

#[test]
fn a_signal_to_it_is_one_to_the_program() {
    let lab = Lab::start();
    let gate = fakessh_lab::Gate::new(&lab);
    let script = format!("trap 'echo told; exit 5' INT; echo up; cat {}; exit 6", gate.path());
    let mut running = exec(&lab, &["sh", "-c", &script]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    running.signal(Signal::TERM);
    running.finish().expect_status(143);
    lab.expect_nothing_left();
}

#[test]
fn without_a_slave_the_words_are_quoted() {
    let lab = Lab::builder().sshd("ForceCommand echo \"$SSH_ORIGINAL_COMMAND\"; exit 7").start();
    let done = exec_to(&lab, "remote", ["backup", "--path=/a", "two words", "$x"]).run();
    done.expect_status(7).expect_out("backup --path=/a 'two words' '$x'\n");
    // Anything but a slave's start is done by a shell.
    let command = "case $SSH_ORIGINAL_COMMAND in (*fakessh*) exit 1;; \
                   (*) exec sh -c \"$SSH_ORIGINAL_COMMAND\";; esac";
    let lab = Lab::builder().sshd(&format!("ForceCommand {command}")).start();
    let words = ["printf", "[%s]", "it's", "a\nb", "$HOME"];
    exec_to(&lab, "remote", words).run().expect_status(0).expect_out("[it's][a\nb][$HOME]");
    exec_to(&lab, "remote", ["/no/such/program", "it's"]).run().expect_status(127);
}

#[test]
fn a_tool_that_did_not_use_ssh_is_told_from_one_that_did() {
    let lab = LAB.get();
    let config = lab.config_path().display();
    let note = |command: &str| {
        format!(
            "fakessh: note: '{}' ran on this machine and did not use ssh; to run it on remote: \
             fakessh exec -F {config} remote -- {command}\n",
            command.split(' ').next().unwrap()
        )
    };
    for (words, proposed) in [
        (&["true"][..], "true"),
        (&["false", "two words"], "false 'two words'"),
        (&["sh", "-c", "exit 3"], "sh -c 'exit 3'"),
    ] {
        lab.run(["remote"], words).run().expect_err(&note(proposed));
    }
    // It can be typed so.
    lab.run(["remote"], ["sh", "-c", "exit 3"]).run().expect_status(3);
    exec(&lab, &["sh", "-c", "exit 3"]).run().expect_status(3);
    lab.run(["-q", "remote"], ["false"]).run().expect_status(1).expect_err("");
    // Nobody expects those to run elsewhere.
    lab.run(["--route", "remote=remote"], ["true"]).run().expect_status(0).expect_err("");
    lab.run([""; 0], ["true"]).run().expect_status(0).expect_err("");
    for script in [
        "ssh remote true",
        "ssh -O check remote 2>/dev/null; true",
        "ssh -V 2>/dev/null",
        "ssh 2>/dev/null; ssh -o Nonsense=1 remote 2>/dev/null; true",
        "scp 2>/dev/null; true",
        "unset FAKESSH_SOCKET FAKESSH_FD; \"$(command -v ssh)\" -Q mac >/dev/null",
    ] {
        lab.run(["remote"], ["sh", "-c", script]).run().expect_status(0).expect_err("");
    }
    // Neither did this one, and it says enough.
    lab.run(["remote"], ["/no/such/tool"]).run().expect_fault(127, &["/no/such/tool"]);
}

#[test]
fn nothing_is_said_while_something_of_the_tool_may_still_use_ssh() {
    let lab = Lab::start();
    let gate = fakessh_lab::Gate::new(&lab);
    let script = format!("(cat {} >/dev/null; ssh remote true) </dev/null >&- 2>&- &", gate.path());
    lab.run(["remote"], ["sh", "-c", &script]).run().expect_status(0).expect_err("");
    gate.open("");
    lab.expect_nothing_left();
}
