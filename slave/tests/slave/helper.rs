//! Helpers: how they are found, their terminals, what they carry, and their end.

use std::process::Command;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::HelperTerminal::{Controlling, None, Whole};
use fakessh_protocol::message::{RefusalReason, Secret, ToSlave};

use crate::far::{Far, carrying, helper, start};
use crate::hangup;
use crate::master::{Fifo, MARKER, Master, command};
use fakessh_lab::privilege::mounts_for;

/// Asks for a password on the terminal, as sudo does, and goes on if it is right.
fn asking(then: &str) -> String {
    format!(
        "[ -t 0 ] || [ -t 1 ] && exit 9; [ -t 2 ] || exit 8; \
         exec 5<>/dev/tty; printf \"password? \" >&5; IFS= read -r word <&5; exec 5>&-; \
         [ \"$word\" = \" pass w\\\\ö:'rd \" ] || {{ echo sorry >&2; exit 1; }}; {then}"
    )
}

const SECRET: &str = " pass w\\ö:'rd ";

fn type_in(master: &mut Master, handles: fakessh_protocol::handles::SessionHandles, text: &str) {
    master.until("a prompt", |master| master.text(handles.stderr).ends_with("password? "));
    master.message(handles, &ToSlave::Type(Secret(text.to_owned())));
}

#[test]
fn a_slave_is_carried_past_a_password() {
    let mut near = Master::start();
    let script = asking(&start());
    let handles = near.spawn(carrying(&["sh", "-c", &script], Controlling), &[]);
    type_in(&mut near, handles, SECRET);
    let mut far = Far::over(near, handles);
    assert!(far.master.hello.is_some());
    let all: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let echo = far.master.shell("cat");
    far.master.send(echo.stdin, &all);
    far.master.mux.finish(echo.stdin);
    assert_eq!(far.master.exit(echo), ExitStatus::Code(0));
    assert!(far.master.of(echo.stdout).bytes == all, "bytes were changed");
    let (near, status) = far.end();
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(near.text(handles.stderr), "password? ", "no echo, and nothing else");
}

#[test]
fn a_wrong_password_ends_with_the_helpers_own_words() {
    let mut near = Master::start();
    let script = asking(&start());
    let handles = near.spawn(carrying(&["sh", "-c", &script], Controlling), &[]);
    type_in(&mut near, handles, "wrong");
    assert_eq!(near.exit(handles), ExitStatus::Code(1));
    assert_eq!(near.text(handles.stderr), "password? sorry\n");
}

#[test]
fn a_terminal_has_a_size_and_is_the_sessions() {
    let mut master = Master::start();
    let script = "stty size </dev/tty >&2; stty -a </dev/tty | grep -o -- '-icanon\\|-echo ' >&2; \
                  cut -d' ' -f1,5,6 /proc/$$/stat; cd; pwd -P; echo $GIVEN";
    let kind = helper(&["sh", "-c", script], Controlling, false);
    let handles = master.spawn(kind, &[("GIVEN", "so")]);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stderr), "24 80\n-icanon\n-echo \n");
    let stdout = master.text(handles.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    let ids: Vec<_> = lines[0].split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(lines[2], "so");
}

#[test]
fn the_whole_terminal_leaves_the_stream_on_two_other_descriptors() {
    let mut near = Master::start();
    let line = format!(
        "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] || exit 9; printf \"password? \"; \
         IFS= read -r word; [ \"$word\" = secret ] || exit 1; exec <&3 >&4 3<&- 4>&-; {}",
        start()
    );
    let handles = near.spawn(carrying(&["sh", "-c", &line], Whole), &[]);
    type_in(&mut near, handles, "secret");
    let mut far = Far::over(near, handles);
    assert_eq!(far.master.run("ls /proc/self/fd; cat", b"in").1, "0\n1\n2\n3\nin");
    assert_eq!(far.end().1, ExitStatus::Code(0));
}

#[test]
fn a_helper_with_the_whole_terminal_has_no_other_descriptors() {
    let mut master = Master::start();
    let kind = helper(&["sh", "-c", "ls /proc/self/fd >&4"], Whole, false);
    let handles = master.spawn(kind, &[]);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    // The last is of ls itself.
    assert_eq!(master.text(handles.stdout), "0\n1\n2\n3\n4\n5\n");
}

#[test]
fn a_helper_that_does_not_exist_is_named() {
    let mut master = Master::start();
    let handles = master.spawn(helper(&["no-such-helper", "x"], Controlling, true), &[]);
    master.until("a refusal", |master| master.refusals.contains_key(&handles.control));
    let refusal = &master.refusals[&handles.control];
    assert_eq!(refusal.reason, RefusalReason::NotFound);
    assert!(refusal.message.contains("no-such-helper"), "{}", refusal.message);
    assert_eq!(master.run("echo fine", b"").1, "fine\n");
}

#[test]
fn a_helper_is_found_beside_the_path() {
    let mut command = command();
    command.env("PATH", "/nonexistent");
    let mut master = Master::start_with(command);
    let handles = master.spawn(helper(&["sh", "-c", "echo $0 found"], None, false), &[]);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stdout), "sh found\n");
}

#[test]
fn what_is_carried_comes_before_all_input_and_takes_no_credit() {
    let ours = std::fs::read(env!("CARGO_BIN_EXE_fakessh-slave")).unwrap();
    let mut master = Master::start();
    let gate = Fifo::new("carries");
    let script = format!("echo ready >&2; read x <{}; exec cat", gate.path.display());
    let handles = master.spawn(helper(&["sh", "-c", &script], None, true), &[]);
    let input: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    master.send(handles.stdin, &input);
    master.mux.finish(handles.stdin);
    master.until("ready", |master| master.text(handles.stderr) == "ready\n");
    // It reads nothing yet, and others are served.
    assert_eq!(master.run("cat", b"others").1, "others");
    let window = fakessh_protocol::mux::INITIAL_WINDOW as usize;
    assert!(master.unsent(handles.stdin) >= input.len() - window, "credit was granted");
    gate.release();
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    let output = &master.of(handles.stdout).bytes;
    assert_eq!(output.len(), ours.len() + input.len());
    assert!(output[..ours.len()] == ours && output[ours.len()..] == input);
}

#[test]
fn a_helper_need_not_read_what_it_carries() {
    let mut master = Master::start();
    let kind = helper(&["sh", "-c", "exec <&-; echo out; echo err >&2; exit 4"], None, true);
    let handles = master.spawn(kind, &[]);
    master.send(handles.stdin, &[b'x'; 1_000_000]);
    assert_eq!(master.exit(handles), ExitStatus::Code(4));
    assert_eq!(
        (master.text(handles.stdout), master.text(handles.stderr)),
        ("out\n".into(), "err\n".into())
    );
}

#[test]
fn whoever_holds_the_terminal_does_not_hold_the_session() {
    for terminal in [Controlling, None] {
        let mut master = Master::start();
        let gate = Fifo::new("holds");
        let script = format!(
            "trap '' HUP; (exec >&- <&-; read x <{}; echo late >&2) & echo told >&2; exit 3",
            gate.path.display()
        );
        let handles = master.spawn(helper(&["sh", "-c", &script], terminal, false), &[]);
        assert_eq!(master.exit(handles), ExitStatus::Code(3), "{terminal:?}");
        assert_eq!(master.text(handles.stderr), "told\n");
        assert!(master.of(handles.stderr).ended);
        gate.release();
        master.run("true", b"");
        master.until_the_slave_sleeps();
    }
}

#[test]
fn a_terminal_that_all_have_closed_does_not_end_the_session() {
    let mut master = Master::start();
    let script = "echo shown >&2; exec 2>/dev/null; cat; exit 5";
    let handles = master.spawn(helper(&["sh", "-c", script], Controlling, false), &[]);
    master.until("the end of the terminal", |master| master.of(handles.stderr).ended);
    assert_eq!(master.text(handles.stderr), "shown\n");
    // Nobody is there to take it.
    master.message(handles, &ToSlave::Type(Secret("late".into())));
    master.until_the_slave_sleeps();
    master.send(handles.stdin, b"goes on");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(5));
    assert_eq!(master.text(handles.stdout), "goes on");
}

#[test]
fn much_on_a_terminal_has_credit_and_arrives_whole() {
    let mut master = Master::start();
    let script = "seq 1 200000 >&2; echo done";
    let handles = master.spawn(helper(&["sh", "-c", script], Controlling, false), &[]);
    master.hold(handles.stderr);
    let window = fakessh_protocol::mux::INITIAL_WINDOW as usize;
    master.until("a full window", |master| master.of(handles.stderr).len == window);
    assert_eq!(master.run("echo others", b"").1, "others\n");
    master.until_the_slave_sleeps();
    master.of(handles.stderr).release();
    master.mux.consumed(handles.stderr, window);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(master.text(handles.stderr) == expected, "bytes were lost or changed");
}

#[test]
fn a_hung_up_helper_loses_its_terminal_and_its_stream() {
    let status = hangup::status(|| {
        let mut master = Master::start();
        // What runs as another user gets no signal of ours: here it just ignores them.
        let script = "trap '' HUP; echo ready >&2; cat >/dev/null; cat </dev/tty; exit 6";
        let handles = master.spawn(helper(&["sh", "-c", script], Controlling, true), &[]);
        master.until("ready", |master| master.text(handles.stderr) == "ready\n");
        master.hung_up(handles, |master| master.message(handles, &ToSlave::Hangup))
    });
    assert_eq!(status, ExitStatus::Code(6));
}

/// A slave on a target that has no terminals.
fn start_without_terminals() -> Master {
    let mut unshare = Command::new("unshare");
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    unshare.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_fakessh-slave")]);
    unshare.args([MARKER, "022", "-"]);
    Master::start_with(unshare)
}

#[test]
fn without_terminals_most_helpers_still_run() {
    if !mounts_for("a target without terminals") {
        return;
    }
    let mut master = start_without_terminals();
    let script = "[ -t 2 ] || echo no terminal >&2";
    let handles = master.spawn(helper(&["sh", "-c", script], Controlling, false), &[]);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stderr), "no terminal\n");
    let handles = master.spawn(helper(&["sh", "-c", "true"], Whole, false), &[]);
    master.until("a refusal", |master| master.refusals.contains_key(&handles.control));
    let message = &master.refusals[&handles.control].message;
    assert!(message.contains("terminal") && message.contains("No such file"), "{message}");
}
