//! How sessions and links end before their time, and what is left then: nothing.

use fakessh_lab::wait_until;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::ToSlave;
use fakessh_protocol::wire::{Header, Kind};

use crate::hangup;
use crate::master::{Fifo, Master, Witness};
use crate::reverse::Scratch;

#[test]
fn a_hangup_ends_the_process_group() {
    let status = hangup::status(|| {
        let mut master = Master::start();
        let witness = Witness::new("hangup");
        let line = format!("{}; sleep 1000 & echo ready; sleep 1000 | cat", witness.hold());
        let handles = master.shell(&line);
        master.until("ready", |master| master.text(handles.stdout) == "ready\n");
        let status = master.hung_up(handles, |master| master.message(handles, &ToSlave::Hangup));
        witness.wait();
        status
    });
    assert_eq!(status, ExitStatus::Signal(1));
}

#[test]
fn an_input_that_is_cut_is_no_end_of_file() {
    let status = hangup::status(|| {
        let mut master = Master::start();
        let told = Fifo::new("cut");
        let path = told.path.clone();
        let heard = std::thread::spawn(move || std::fs::read_to_string(path));
        let line = "echo ready; cat >/dev/null; echo whole >&9";
        let handles = master.shell(&format!("exec 9>{}; {line}", told.path.display()));
        master.until("ready", |master| master.text(handles.stdout) == "ready\n");
        master.send(handles.stdin, b"the beginning");
        master.until("sent", |master| master.unsent(handles.stdin) == 0 && master.is_flushed());
        let status = master.hung_up(handles, |master| master.mux.reset(handles.stdin));
        // All that was said until the last process was gone.
        assert_eq!(heard.join().unwrap().unwrap(), "");
        status
    });
    assert_eq!(status, ExitStatus::Signal(1));
}

#[test]
fn a_hangup_is_no_end_of_file_even_for_a_program_that_ignores_it() {
    let mut master = Master::start();
    let witness = Witness::new("no-end-of-file");
    let told = Scratch::new("whole");
    let line = format!(
        "trap '' HUP; {}; echo ready; cat >/dev/null; echo whole >{}",
        witness.hold(),
        told
    );
    let handles = master.shell(&line);
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    master.message(handles, &ToSlave::Hangup);
    assert_eq!(master.exit(handles), ExitStatus::Signal(9));
    witness.wait();
    assert!(!told.path.exists(), "it took the hangup for the end of its input");
}

#[test]
fn an_input_that_is_cut_after_the_program_ended_does_not_matter() {
    let mut master = Master::start();
    let handles = master.shell("exit 3");
    assert_eq!(master.exit(handles), ExitStatus::Code(3));
    master.mux.reset(handles.stdin);
    assert_eq!(master.run("echo still here", b"").1, "still here\n");
}

#[test]
fn a_program_that_ignores_a_hangup_is_killed() {
    let mut master = Master::start();
    let handles = master.shell("trap '' HUP; echo ready; while :; do sleep 1; done");
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    master.message(handles, &ToSlave::Hangup);
    assert_eq!(master.exit(handles), ExitStatus::Signal(9));
}

#[test]
fn a_stopped_program_is_hung_up_too() {
    let status = hangup::status(|| {
        let mut master = Master::start();
        let handles = master.shell("echo $$ >&2; kill -STOP $$; sleep 1000");
        master.until_stopped(handles);
        master.hung_up(handles, |master| master.message(handles, &ToSlave::Hangup))
    });
    assert_eq!(status, ExitStatus::Signal(1));
}

#[test]
fn a_job_in_a_process_group_of_its_own_is_hung_up_too() {
    let mut master = Master::start();
    let witness = Witness::new("job");
    let line = format!(
        "exec bash -c 'trap \"\" HUP; set -m; {}; sleep 1000 & echo ready; wait'",
        witness.hold()
    );
    let handles = master.shell(&line);
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    master.message(handles, &ToSlave::Hangup);
    master.exit(handles);
    witness.wait();
}

#[test]
fn a_hangup_does_not_wait_for_those_who_only_hold_the_output() {
    let mut master = Master::start();
    let gate = Fifo::new("detached");
    let shell = Witness::new("shell");
    let line = format!(
        "{}; setsid sh -c 'exec 9>&-; echo detached; read x <{}' & true",
        shell.hold(),
        gate.path.display()
    );
    let handles = master.shell(&line);
    master.until("output", |master| master.of(handles.stdout).len > 0);
    // It is the shell alone that holds it by now.
    shell.wait();
    assert!(!master.exits.contains_key(&handles.control));
    master.message(handles, &ToSlave::Hangup);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
    // It detached, and lives: somebody reads what is written.
    gate.release();
}

#[test]
fn the_end_of_the_link_ends_everything() {
    let mut master = Master::start();
    let witness = Witness::new("link-end");
    let line = format!("trap '' HUP; {}; echo ready; sleep 1000; sleep 1000", witness.hold());
    let stubborn = master.shell(&line);
    let meek = master.shell("echo ready; sleep 1000");
    for handles in [stubborn, meek] {
        master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    }
    master.to_slave = None;
    assert_eq!(master.until_closed().code(), Some(0));
    witness.wait();
}

#[test]
fn a_link_that_ends_inside_a_frame_for_a_full_pipe_ends() {
    let mut master = Master::start();
    let handles = master.shell("echo ready; kill -STOP $$; sleep 1000");
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    master.send(handles.stdin, &[b'x'; 100_000]);
    master.until("sent", |master| master.unsent(handles.stdin) == 0 && master.is_flushed());
    let header = Header { kind: Kind::Data, len: 1000, handle: handles.stdin };
    master.send_raw(&header.encode());
    master.until("sent", |master| master.is_flushed());
    master.to_slave = None;
    assert_eq!(master.until_closed().code(), Some(0));
}

#[test]
fn a_slave_that_is_killed_takes_its_programs_along() {
    let mut master = Master::start();
    let witness = Witness::new("killed-slave");
    // A grandchild that the kernel tells nothing, and one that takes no hint.
    let meek = format!("{}; sleep 1000 & echo ready; sleep 1000", witness.hold());
    for line in [meek.clone(), format!("trap '' HUP; {meek}")] {
        let handles = master.shell(&line);
        master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    }
    master.child.kill().unwrap();
    witness.wait();
}

#[test]
fn a_guardian_that_is_killed_is_replaced() {
    let mut master = Master::start();
    let witness = Witness::new("killed-guardian");
    let line = format!("trap '' HUP; {}; echo ready; sleep 1000", witness.hold());
    let handles = master.shell(&line);
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    for _ in 0..2 {
        // The shell is the other child, and leads a session as well.
        let before = master.children();
        let is_slave = |pid: &&u32| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            command.is_ok_and(|command| command.contains(crate::master::MARKER))
        };
        let guardian = *before.iter().find(is_slave).expect("a guardian");
        let pid = rustix::process::Pid::from_raw(guardian.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_until(
            || master.children().iter().any(|child| is_slave(&child) && *child != guardian),
            "no other guardian comes",
        );
    }
    // It forgets nothing of what the one before it was to look after, and keeps no link open.
    master.child.kill().unwrap();
    witness.wait();
}

#[test]
fn a_start_removes_what_a_killed_one_has_left() {
    let place = crate::account::directory();
    let left = place.path().join(".fakessh-00000000000000000000000000000000");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("slave"), "a part of it").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
    for path in [left.join("slave"), left.clone()] {
        std::fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let own = place.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let copy = own.join("slave");
    crate::master::copy_slave(&copy);
    let mut command = std::process::Command::new(&copy);
    command.args([crate::master::MARKER, "077"]).arg(&own);
    let _master = Master::start_with(command);
    wait_until(|| !left.exists(), "it stays");
}

#[test]
fn a_link_that_nobody_reads_any_more_has_ended() {
    let mut master = Master::start();
    let (kept, _other) = rustix::pipe::pipe().unwrap();
    master.replace_from_slave(kept);
    assert_eq!(master.child.wait().unwrap().code(), Some(0));
}

#[test]
fn silence_ends_the_link() {
    let mut master = Master::start();
    let handles = master.shell("echo ready; sleep 1000");
    master.until("ready", |master| master.text(handles.stdout) == "ready\n");
    master.settings(50, 300);
    master.until("sent", |master| master.is_flushed());
    assert_eq!(master.until_silent().code(), Some(255));
}

#[test]
fn a_master_that_answers_is_not_silent() {
    // The mux answers the slave's pings; without them this would be silence. On a machine that
    // holds the two of us up it is: then once more. Where answers don't count it never ends well.
    let ends_well = || {
        let mut master = Master::start();
        master.settings(50, 1000);
        let handles = master.shell("sleep 3; echo done");
        while !master.closed && !master.exits.contains_key(&handles.control) {
            master.step_on();
        }
        let status = master.exits.get(&handles.control);
        status == Some(&ExitStatus::Code(0)) && master.text(handles.stdout) == "done\n"
    };
    assert!((0..20).any(|_| ends_well()), "its answers are not heard");
}
