//! A shim and a master that does what the test says: what crosses, and what the neighbours see.
#![allow(missing_docs, clippy::unwrap_used)]

mod lab;

use std::io::{ErrorKind, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Stdio;

use fakessh_protocol::VERSION;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::{FromShim, Notice, Question, ToShim};
use lab::{Lab, Session, kill, stderr_of, to_end};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

#[test]
fn the_invocation_and_the_descriptors_arrive_and_the_status_comes_back() {
    let lab = Lab::new();
    let mut command = lab.ssh(&["-p", "22", "u@h", "echo", "a  b"]);
    let mut child = command.stdin(Stdio::piped()).env("MARK", "x").spawn().unwrap();
    let mut session = lab.accept();
    assert_eq!(session.handoff.version, VERSION);
    let invocation = &session.handoff.invocation;
    assert_eq!(invocation.request, Request::Command(b"echo a  b".to_vec()));
    assert_eq!(invocation.destination.port, Some(22));
    assert!(invocation.environment.contains(&(b"MARK".to_vec(), b"x".to_vec())));
    assert!(!invocation.directory.is_empty());

    child.stdin.take().unwrap().write_all(b"input").unwrap();
    assert_eq!(to_end(session.stdin.take().unwrap()), b"input");
    session.stdout.take().unwrap().write_all(b"output").unwrap();
    session.stderr.take().unwrap().write_all(b"error").unwrap();
    session.exit(7);
    let output = child.wait_with_output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"output"[..], &b"error"[..]));
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_program_killed_by_a_signal_is_128_plus_it() {
    let lab = Lab::new();
    let child = lab.ssh(&["h", "x"]).spawn().unwrap();
    lab.accept().tell(&ToShim::Exited(ExitStatus::Signal(9)));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(137));
}

#[test]
fn the_end_of_output_reaches_the_reader_before_the_status() {
    let lab = Lab::new();
    let mut child = lab.ssh(&["h", "x"]).spawn().unwrap();
    let mut session = lab.accept();
    session.stdout = None;
    assert_eq!(to_end(child.stdout.take().unwrap()), b"");
    assert!(child.try_wait().unwrap().is_none());
    session.exit(0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn input_that_the_program_closed_breaks_the_writers_pipe() {
    let lab = Lab::new();
    let mut child = lab.ssh(&["h", "x"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut session = lab.accept();
    // After the handoff the shim lets go of its own copy, on which it can be asked to report.
    session.tell(&ToShim::Ask(Question::secret("?")));
    assert_eq!(session.hear(), Some(FromShim::Answer(None)));
    session.stdin = None;
    let mut writer = child.stdin.take().unwrap();
    // Another test that is about to start a program holds a copy of everything for a moment.
    let guard = Timespec::try_from(fakessh_lab::GUARD).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&writer, PollFlags::empty())], Some(&guard)), Ok(1));
    assert_eq!(writer.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    session.exit(3);
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_refusal_is_one_line_and_255_and_no_line_with_q() {
    let lab = Lab::new();
    for quiet in [&["h", "x"][..], &["-q", "h", "x"]] {
        let child = lab.ssh(quiet).spawn().unwrap();
        let session = lab.accept();
        session.tell(&ToShim::Notice(Notice::ours("by the way")));
        session.tell(&ToShim::Failed(Failure::other("no such host")));
        drop(session);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(255));
        let said = "fakessh: by the way\nfakessh: no such host\n";
        let expected = if quiet.len() == 2 { said } else { "" };
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_log_file_takes_our_lines() {
    let lab = Lab::new();
    let path = lab.directory.join("log");
    for _ in 0..2 {
        let mut child = lab.ssh(&["-E", path.to_str().unwrap(), "h", "x"]).spawn().unwrap();
        lab.accept().tell(&ToShim::Failed(Failure::other("why")));
        assert_eq!(stderr_of(&mut child), "");
        assert_eq!(child.wait().unwrap().code(), Some(255));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "fakessh: why\nfakessh: why\n");

    let output = lab.ssh(&["-E", "/nonexistent/log", "h", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("fakessh: cannot open the log"));
}

#[test]
fn a_master_that_ends_without_a_verdict_is_255() {
    let lab = Lab::new();
    let mut child = lab.ssh(&["h", "x"]).spawn().unwrap();
    drop(lab.accept());
    assert!(stderr_of(&mut child).starts_with("fakessh: its master has ended"));
    assert_eq!(child.wait().unwrap().code(), Some(255));
}

#[test]
fn without_a_master_it_says_what_to_do() {
    let lab = Lab::new();
    let gone = lab.directory.join("gone");
    std::fs::create_dir(&gone).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shim"), gone.join("ssh")).unwrap();
    let mut command = std::process::Command::new(gone.join("ssh"));
    let output = command.args(["h", "x"]).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("fakessh: this ssh belongs to no run"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn the_master_is_found_with_an_empty_environment() {
    let lab = Lab::new();
    let path = lab.directory.display();
    for script in [
        "exec env -i $SSH h x".to_owned(),
        format!("exec env -i PATH='{path}:/bin' ssh h x"),
        format!("cd '{path}' && exec env -i ./ssh h x"),
        format!("cd '{path}' && PATH=.:/bin && export PATH && cd . && exec env -i PATH=. ssh h x"),
    ] {
        let child = lab.shell(&script).spawn().unwrap();
        lab.accept().exit(4);
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(4), "{script}");
    }
}

#[test]
fn the_inherited_descriptor_comes_first_and_serves_several() {
    let lab = Lab::new();
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let inode = rustix::fs::fstat(&theirs).unwrap().st_ino;
    let script = format!(
        "exec 7<&0 </dev/null; export FAKESSH_FD=7:{inode}
         $SSH one x & $SSH two x & $SSH three x; wait; exec $SSH four x"
    );
    let child = lab.shell(&script).stdin(Stdio::from(theirs)).spawn().unwrap();
    let mut hosts = Vec::new();
    for _ in 0..4 {
        let session = Session::receive(ours.try_clone().unwrap());
        hosts.push(session.handoff.invocation.destination.host.clone());
        session.exit(5);
    }
    assert_eq!(hosts[3], "four");
    hosts.sort();
    assert_eq!(hosts, ["four", "one", "three", "two"]);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(5));
}

#[test]
fn closed_standard_descriptors_are_nothing_and_not_our_sockets() {
    let lab = Lab::new();
    let child = lab.shell("exec $SSH h x <&- >&-").spawn().unwrap();
    let mut session = lab.accept();
    let input = to_end(session.stdin.take().unwrap());
    session.stdout.take().unwrap().write_all(b"lost").unwrap();
    session.exit(0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && input.is_empty());
}

#[test]
fn a_command_line_of_a_megabyte_arrives() {
    let lab = Lab::new();
    let word = "x".repeat(100_000);
    let mut words = vec!["h"];
    words.extend([word.as_str(); 11]);
    let child = lab.ssh(&words).spawn().unwrap();
    let session = lab.accept();
    let Request::Command(command) = &session.handoff.invocation.request else { panic!() };
    assert_eq!(command.len(), 11 * 100_001 - 1);
    session.exit(0);
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn descriptors_keep_their_flags() {
    let lab = Lab::new();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let before = [&read, &write].map(|fd| rustix::fs::fcntl_getfl(fd).unwrap());
    let mut command = lab.ssh(&["h", "x"]);
    command.stdin(read.try_clone().unwrap()).stdout(write.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    lab.accept().exit(0);
    assert!(child.wait().unwrap().success());
    assert_eq!([&read, &write].map(|fd| rustix::fs::fcntl_getfl(fd).unwrap()), before);
}

#[test]
fn n_gives_the_program_no_input() {
    let lab = Lab::new();
    let child = lab.ssh(&["-n", "h", "x"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut session = lab.accept();
    assert_eq!(to_end(session.stdin.take().unwrap()), b"");
    session.exit(0);
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn f_goes_to_the_background_once_the_session_runs() {
    let lab = Lab::new();
    let child = lab.ssh(&["-f", "h", "x"]).spawn().unwrap();
    let mut session = lab.accept();
    assert!(session.handoff.invocation.announce);
    session.tell(&ToShim::Started(Default::default()));
    session.stdout = None;
    session.stderr = None;
    // The caller sees the end of our output, too, and not only our status.
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    // What is in the background still speaks to the master.
    session.tell(&ToShim::Ask(Question::secret("?")));
    assert_eq!(session.hear(), Some(FromShim::Answer(None)));
    session.tell(&ToShim::Exited(ExitStatus::Code(9)));
    session.ended();
}

#[test]
fn a_local_command_runs_once_the_session_runs_and_writes_to_our_output() {
    let lab = Lab::new();
    let options = ["-oPermitLocalCommand=yes", "-oLocalCommand=echo started %n; exit 3", "h", "x"];
    let child = lab.ssh(&options).spawn().unwrap();
    let session = lab.accept();
    assert!(session.handoff.invocation.announce);
    session.tell(&ToShim::Started(Default::default()));
    session.exit(0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"started h\n");
}

#[test]
fn questions_go_to_the_askpass_of_the_command() {
    let lab = Lab::new();
    let askpass = lab.script("askpass", "echo \"$1secret\"").join("askpass");
    let mut command = lab.ssh(&["h", "x"]);
    command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
    let child = command.spawn().unwrap();
    let session = lab.accept();
    session.tell(&ToShim::Ask(Question::secret("p:")));
    let Some(FromShim::Answer(Some(answer))) = session.hear() else { panic!() };
    assert_eq!(answer.0, "p:secret");
    session.exit(0);
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn signals_reach_the_master_and_then_kill_the_shim() {
    let lab = Lab::new();
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        let mut child = lab.ssh(&["h", "x"]).spawn().unwrap();
        let session = lab.accept();
        kill(&child, signal);
        assert_eq!(session.hear(), Some(FromShim::Signal(signal.as_raw() as u8)));
        assert_eq!(session.hear(), None);
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
    }
}

#[test]
fn ignored_signals_stay_ignored() {
    let lab = Lab::new();
    let script = "trap '' INT HUP; exec $SSH h x";
    let child = lab.shell(script).spawn().unwrap();
    let session = lab.accept();
    kill(&child, Signal::INT);
    kill(&child, Signal::HUP);
    session.tell(&ToShim::Ask(Question::secret("?")));
    assert_eq!(session.hear(), Some(FromShim::Answer(None)));
    session.exit(6);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(6));
}

#[test]
fn a_session_without_a_program_ends_well_when_it_is_terminated() {
    let lab = Lab::new();
    let mut child = lab.ssh(&["-N", "h"]).spawn().unwrap();
    let session = lab.accept();
    kill(&child, Signal::TERM);
    assert_eq!(session.hear(), Some(FromShim::Signal(15)));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_stop_of_the_job_really_stops_the_shim() {
    let lab = Lab::new();
    // In a group of its own: one whose leader's parent is elsewhere is never stopped.
    let mut child = lab.ssh(&["h", "x"]).process_group(0).spawn().unwrap();
    let session = lab.accept();
    kill(&child, Signal::TSTP);
    let pid = rustix::process::Pid::from_child(&child);
    let options = rustix::process::WaitOptions::UNTRACED;
    let (_, status) = rustix::process::waitpid(Some(pid), options).unwrap().unwrap();
    assert!(status.stopped());
    kill(&child, Signal::CONT);
    session.exit(2);
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
