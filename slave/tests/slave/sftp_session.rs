//! The server as a program of a session: it has what any program has.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use fakessh_lab::GUARD;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{ProgramKind, ToSlave};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use crate::master::{MARKER, Master};
use crate::sftp_client::{Body, Scratch, kind, packet, text};
use fakessh_lab::privilege::mounts_for;

/// Starts the server, which is ours whatever the target has, and waits for its introduction.
fn start(master: &mut Master, environment: &[(&str, &str)]) -> SessionHandles {
    let program = ProgramKind::Subsystem("fakessh-sftp".to_owned());
    let handles = master.spawn(program, environment);
    let introduction = ask(master, handles, &packet(kind::INIT, 3, &Body::default()));
    assert_eq!(introduction[..5], [2, 0, 0, 0, 3]);
    handles
}

/// Sends a packet, and returns the answer.
fn ask(master: &mut Master, handles: SessionHandles, packet: &[u8]) -> Vec<u8> {
    let before = master.of(handles.stdout).bytes.len();
    master.send(handles.stdin, packet);
    let mut answer = Vec::new();
    master.until("an answer", |master| {
        assert!(!master.refusals.contains_key(&handles.control), "{:?}", master.refusals);
        let here = &master.of(handles.stdout).bytes[before..];
        let Some((len, rest)) = here.split_first_chunk() else { return false };
        answer = rest.to_vec();
        answer.len() == u32::from_be_bytes(*len) as usize
    });
    answer
}

/// The server's process: the slave's child of this name.
fn pid(master: &Master) -> u32 {
    let slave = master.child.id();
    let children = fs::read_to_string(format!("/proc/{slave}/task/{slave}/children")).unwrap();
    let mut children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let is_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "fakessh-sftp\n")
    };
    children.find(is_it).unwrap()
}

#[test]
fn it_has_what_any_program_has() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 300; umask 077; exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_fakessh-slave"), MARKER, "027", "-"]);
    let mut master = Master::start_with(shell);
    let home = master.hello.clone().unwrap().home;
    // Others are there to leak.
    for _ in 0..3 {
        master.shell("sleep 1000");
    }
    let handles = start(&mut master, &[]);
    let pid = pid(&master);
    let mut open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/2")).unwrap().to_str(), Some("/dev/null"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), fs::canonicalize(home).unwrap());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("\nUmask:\t0027\n"), "{status}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("300"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[2..4], [pid.to_string(), pid.to_string()], "group and session");
    assert!(master.of(handles.stderr).ended);
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
}

#[test]
fn variables_of_the_invocation_reach_it() {
    let scratch = Scratch::new();
    let file = fs::File::create(scratch.path.join("now")).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    let mut master = Master::start();
    // Twelve hours apart, so that no clock shows the same in both.
    let lists = ["AAA-9", "BBB+3"].map(|zone| {
        let handles = start(&mut master, &[("TZ", zone)]);
        let path = scratch.path.to_str().unwrap();
        let handle = ask(&mut master, handles, &packet(kind::OPENDIR, 1, &text(path)));
        let list = packet(kind::READDIR, 2, &text(&handle[9..]));
        let list = String::from_utf8_lossy(&ask(&mut master, handles, &list)).into_owned();
        let clock = list.find(" now").unwrap();
        list[clock - 5..clock].to_owned()
    });
    assert_ne!(lists[0], lists[1]);
    assert_eq!(lists[0][2..], lists[1][2..]);
}

#[test]
fn a_malformed_packet_is_its_own_end_alone() {
    let mut master = Master::start();
    let other = start(&mut master, &[]);
    let handles = start(&mut master, &[]);
    master.send(handles.stdin, &[0xff; 5]);
    assert_eq!(master.exit(handles), ExitStatus::Code(11));
    let answer = ask(&mut master, other, &packet(kind::REALPATH, 7, &text("/")));
    assert_eq!(answer[0], 104);
}

/// Waits until a process has ended.
fn until_gone(pid: u32) {
    let pid = Pid::from_raw(pid as i32).unwrap();
    if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        let guard = Timespec::try_from(GUARD).unwrap();
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&guard)).unwrap();
        assert_eq!(ended, 1, "it goes on");
    }
}

#[test]
fn it_ends_with_its_invoker_and_with_the_slave() {
    let mut master = Master::start();
    let handles = start(&mut master, &[]);
    let server = pid(&master);
    master.message(handles, &ToSlave::Hangup);
    master.until("the message sent", |master| master.is_flushed());
    // Signals travel with what else is done.
    master.run("true", b"");
    until_gone(server);
    // And reaped: it is not taken for the next.
    master.exit(handles);
    start(&mut master, &[]);
    let server = pid(&master);
    master.child.kill().unwrap();
    until_gone(server);
}

#[test]
fn it_needs_no_proc() {
    if !mounts_for("a target without a /proc") {
        return;
    }
    let hidden = "mount -t tmpfs none /proc && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", hidden, "sh"]);
    command.args([env!("CARGO_BIN_EXE_fakessh-slave"), MARKER, "022", "-"]);
    let mut master = Master::start_with(command);
    let handles = start(&mut master, &[]);
    let answer = ask(&mut master, handles, &packet(kind::STAT, 7, &text("/proc/self")));
    assert_eq!(answer[..9], [101, 0, 0, 0, 7, 0, 0, 0, 2], "there is a /proc");
    master.mux.finish(handles.stdin);
    assert_eq!(master.exit(handles), ExitStatus::Code(0));
}
