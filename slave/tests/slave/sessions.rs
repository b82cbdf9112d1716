//! One session at a time, and many: status, streams, half-close, early close.

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{ProgramKind, RefusalReason, ToSlave};
use fakessh_protocol::mux::INITIAL_WINDOW;
use fakessh_protocol::wire::Handle;

use crate::master::{Fifo, Master};

#[test]
fn a_command_gives_its_output_and_its_status() {
    let mut master = Master::start();
    let (status, stdout, stderr) = master.run("echo out; echo err >&2; exit 7", b"");
    assert_eq!(status, ExitStatus::Code(7));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_killed_program_names_its_signal() {
    let mut master = Master::start();
    assert_eq!(master.run("kill -TERM $$", b"").0, ExitStatus::Signal(15));
}

#[test]
fn a_program_that_waits_for_the_end_of_its_input_gets_it() {
    let mut master = Master::start();
    let (status, stdout, _) = master.run("sort", b"b\na\nc\n");
    assert_eq!((status, stdout.as_str()), (ExitStatus::Code(0), "a\nb\nc\n"));
}

#[test]
fn a_login_shell_reads_its_commands() {
    let mut master = Master::start();
    let handles = master.spawn(ProgramKind::Login, &[]);
    master.send(handles.stdin, b"echo $0\nexit 3\n");
    assert_eq!(master.exit(handles), ExitStatus::Code(3));
    assert!(master.text(handles.stdout).starts_with('-'), "{:?}", master.text(handles.stdout));
}

#[test]
fn an_input_that_the_program_closes_is_stopped_though_nothing_was_sent() {
    let mut master = Master::start();
    let gate = Fifo::new("early");
    let line = format!("exec <&-; read x <{}; echo done", gate.path.display());
    let handles = master.shell(&line);
    master.until("a stop", |master| master.stopped.contains(&handles.stdin));
    gate.release();
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stdout), "done\n");
}

#[test]
fn an_input_that_nobody_reads_any_more_is_thrown_away() {
    let mut master = Master::start();
    let handles = master.shell("head -c 1 >/dev/null; exec <&-; echo enough");
    master.send(handles.stdin, &vec![b'x'; 3_000_000]);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stdout), "enough\n");
    assert_eq!(master.run("cat", b"still here").1, "still here");
}

#[test]
fn a_stopped_output_is_a_broken_pipe_for_the_program() {
    let mut master = Master::start();
    let handles = master.shell("yes");
    master.until("output", |master| master.of(handles.stdout).len > 100_000);
    master.mux.stop(handles.stdout);
    assert_eq!(master.exit(handles), ExitStatus::Signal(13));
}

#[test]
fn a_stopped_error_output_leaves_the_rest_alone() {
    let mut master = Master::start();
    let handles = master.shell("cat");
    master.mux.stop(handles.stderr);
    master.send(handles.stdin, b"text");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stdout), "text");
}

#[test]
fn a_grandchild_that_holds_the_output_keeps_the_session() {
    let mut master = Master::start();
    let gate = Fifo::new("grandchild");
    let line = format!("(read x <{}; echo late) & echo first", gate.path.display());
    let handles = master.shell(&line);
    master.until("output", |master| master.text(handles.stdout) == "first\n");
    // The program itself ends; a whole other session passes.
    master.run("true", b"");
    assert!(!master.exits.contains_key(&handles.control));
    gate.release();
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.text(handles.stdout), "first\nlate\n");
}

#[test]
fn a_signal_reaches_the_process_group() {
    let mut master = Master::start();
    let handles = master.shell("sleep 1000 | cat; echo not reached");
    // The pipeline runs before the signal is sent.
    master.run("true", b"");
    master.message(handles, &ToSlave::Signal(15));
    assert_eq!(master.exit(handles), ExitStatus::Signal(15));
}

#[test]
fn a_command_that_is_too_long_is_refused_and_says_so() {
    let mut master = Master::start();
    let handles = master.shell(&format!("true {}", "x".repeat(200 * 1024)));
    master.send(handles.stdin, &[b'x'; 100_000]);
    master.until("a refusal", |master| master.refusals.contains_key(&handles.control));
    let refusal = &master.refusals[&handles.control];
    // It does not pass: to try again is of no use.
    assert_eq!(refusal.reason, RefusalReason::Other);
    assert!(refusal.message.contains("204805 bytes"), "{}", refusal.message);
    assert!(master.stopped.contains(&handles.stdin));
    assert_eq!(master.run("echo fine", b"").1, "fine\n");
}

#[test]
fn an_unknown_subsystem_is_refused() {
    let mut master = Master::start();
    let handles = master.spawn(ProgramKind::Subsystem("no-such".into()), &[]);
    master.until("a refusal", |master| master.refusals.contains_key(&handles.control));
    assert_eq!(master.refusals[&handles.control].reason, RefusalReason::NotFound);
}

#[test]
fn the_sftp_subsystem_answers() {
    let mut master = Master::start();
    let handles = master.spawn(ProgramKind::Subsystem("sftp".into()), &[]);
    // SSH_FXP_INIT, version 3.
    master.send(handles.stdin, &[0, 0, 0, 5, 1, 0, 0, 0, 3]);
    master.until("an answer", |master| {
        master.refusals.contains_key(&handles.control) || master.of(handles.stdout).len > 9
    });
    if master.refusals.contains_key(&handles.control) {
        assert!(crate::sftp_client::openssh().is_none(), "{:?}", master.refusals);
        return;
    }
    assert_eq!(master.of(handles.stdout).bytes[4], 2, "SSH_FXP_VERSION");
    assert!(master.of(handles.stderr).ended, "a subsystem's standard error is dropped");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
}

#[test]
fn at_the_limit_of_descriptors_new_sessions_are_refused_and_others_go_on() {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_fakessh-slave"), crate::master::MARKER, "022", "-"]);
    let mut master = Master::start_with(shell);
    let sessions: Vec<_> = (0..20).map(|_| master.shell("cat")).collect();
    master.until("refusals", |master| !master.refusals.is_empty());
    let mut ran = 0;
    for handles in sessions {
        if let Some(refusal) = master.refusals.get(&handles.control) {
            assert_eq!(refusal.reason, RefusalReason::Limit, "{refusal:?}");
            continue;
        }
        master.send(handles.stdin, b"goes on");
        master.mux.finish(handles.stdin);
        assert_eq!(master.exit(handles), ExitStatus::Code(0));
        assert_eq!(master.text(handles.stdout), "goes on");
        ran += 1;
    }
    assert!(ran >= 4, "{ran}");
    assert_eq!(master.run("echo again", b"").1, "again\n");
}

#[test]
fn a_program_that_eats_its_own_output_loses_it_and_nothing_else() {
    let mut master = Master::start();
    let window = INITIAL_WINDOW as usize;
    let line = format!(
        "head -c {} /dev/zero; echo full >&2; read go; \
         head -c 38000 /proc/$$/fd/1 >/dev/null; echo ate >&2; read go",
        window + 38_000
    );
    let handles = master.shell(&line);
    master.hold(handles.stdout);
    // What is beyond the window waits in the pipe, and the mux knows of it.
    master.until("a full pipe", |master| master.text(handles.stderr) == "full\n");
    master.send(handles.stdin, b"go\n");
    master.until("a meal", |master| master.text(handles.stderr) == "full\nate\n");
    assert_eq!(master.of(handles.stdout).len, window);
    master.mux.consumed(handles.stdout, window);
    master.until("word that the output is cut", |master| master.of(handles.stdout).reset);
    master.send(handles.stdin, b"go\n");
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    assert_eq!(master.run("echo fine", b"").1, "fine\n");
}

#[test]
fn messages_for_unknown_sessions_are_ignored() {
    let mut master = Master::start();
    master.mux.message(Handle(4_000_000_000), &ToSlave::Hangup).unwrap();
    master.mux.message(Handle(4_000_000_000), &ToSlave::Signal(9)).unwrap();
    assert_eq!(master.run("echo fine", b"").1, "fine\n");
}

#[test]
fn two_hundred_sessions_run_at_once() {
    let mut master = Master::start();
    let sessions: Vec<_> = (0..200)
        .map(|number: u32| {
            let handles = master.shell(&format!("read line; echo $line; exit {}", number % 100));
            (number, handles)
        })
        .collect();
    // None can end before all were started: the input comes afterwards.
    for (number, handles) in &sessions {
        master.send(handles.stdin, format!("line {number}\n").as_bytes());
    }
    for (number, handles) in sessions {
        assert_eq!(master.exit(handles), ExitStatus::Code((number % 100) as u8));
        assert_eq!(master.text(handles.stdout), format!("line {number}\n"));
    }
}
