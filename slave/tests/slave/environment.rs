//! What a program finds: environment, descriptors, limits, signals; and what the slave leaves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::ProgramKind;
use rustix::pipe::PipeFlags;

use crate::account::directory;
use crate::master::{MARKER, Master, command, copy_slave};
use fakessh_lab::privilege::{mounts_for, root_for};

#[test]
fn the_environment_is_the_logins_and_what_was_given() {
    let mut command = command();
    command.env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("USER", "u"),
        ("LOGNAME", "u"),
        ("SHELL", "/bin/sh"),
        ("LOGIN", "kept"),
        ("OLDPWD", "/x"),
        ("FAKESSH_OURS", "hidden"),
    ]);
    let mut master = Master::start_with(command);
    let given = [("GIVEN", "a=b c"), ("LD_PRELOAD", "/x"), ("HOME", "/nowhere"), ("LOGIN", "new")];
    let handles = master.spawn(ProgramKind::Shell(b"exec env".to_vec()), &given);
    master.exit(handles);
    let text = master.text(handles.stdout);
    let mut seen: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once('=')).collect();
    // What a shell adds by itself.
    seen.retain(|name, _| !["PWD", "SHLVL", "_"].contains(name));
    let expected = BTreeMap::from([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("USER", "u"),
        ("LOGNAME", "u"),
        ("SHELL", "/bin/sh"),
        ("LOGIN", "new"),
        ("GIVEN", "a=b c"),
    ]);
    assert_eq!(seen, expected);
}

#[test]
fn no_descriptor_of_ours_leaks() {
    let mut master = Master::start();
    // Others are there to leak.
    for _ in 0..3 {
        master.shell("sleep 1000");
    }
    // ls has one of its own, for the directory.
    let (_, stdout, _) = master.run("exec ls /proc/self/fd", b"");
    assert_eq!(stdout, "0\n1\n2\n3\n");
}

#[test]
fn descriptors_that_the_slave_inherited_do_not_leak() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 7</dev/null 8>/dev/null; exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_fakessh-slave"), MARKER, "022", "-"]);
    let mut master = Master::start_with(shell);
    let (_, stdout, _) = master.run("exec ls /proc/self/fd", b"");
    assert_eq!(stdout, "0\n1\n2\n3\n");
}

#[test]
fn what_the_slave_inherited_is_closed_without_proc_too() {
    if !mounts_for("a target without a /proc") {
        return;
    }
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", "mount -t tmpfs none /proc && exec 7</etc && exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_fakessh-slave"), MARKER, "022", "-"]);
    let master = Master::start_with(shell);
    let open = fs::read_dir(format!("/proc/{}/fd", master.child.id())).unwrap();
    // One that is closed meanwhile has no name any more.
    let mut names = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    assert!(!names.any(|name| name.as_os_str() == "/etc"));
}

#[test]
fn limits_and_umask_are_those_of_the_login() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 300; umask 077; exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_fakessh-slave"), MARKER, "027", "-"]);
    let mut master = Master::start_with(shell);
    assert_eq!(master.run("ulimit -Sn; umask", b"").1, "300\n0027\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", master.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "soft and hard limit of the slave");
}

#[test]
fn signals_have_their_default_dispositions() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP INT PIPE TERM; exec \"$@\"", "sh"]);
    shell.args([env!("CARGO_BIN_EXE_fakessh-slave"), MARKER, "022", "-"]);
    let mut master = Master::start_with(shell);
    let (_, stdout, _) = master.run("exec grep -E 'Sig(Ign|Blk)' /proc/self/status", b"");
    for line in stdout.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // 32 and 33 belong to the C library, which lets nobody set them.
        assert_eq!(mask & !(0b11 << 31), 0, "{stdout}");
    }
}

#[test]
fn a_program_leads_a_session_of_its_own_in_the_home_directory() {
    let mut master = Master::start();
    let home = master.hello.clone().unwrap().home;
    let (_, stdout, _) = master.run("pwd -P; exec cut -d' ' -f1,5,6 /proc/self/stat", b"");
    let mut lines = stdout.lines();
    let expected = fs::canonicalize(home).unwrap();
    assert_eq!(lines.next(), expected.to_str());
    let ids: Vec<_> = lines.next().unwrap().split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
}

#[test]
fn the_slave_takes_itself_off_the_disk() {
    let place = directory();
    let directory = place.path().join("its-own");
    fs::create_dir(&directory).unwrap();
    let copy = directory.join("slave");
    copy_slave(&copy);
    let mut command = Command::new(&copy);
    command.args([MARKER, "022"]).arg(&directory).stderr(Stdio::null());
    let mut master = Master::start_with(command);
    assert!(!directory.exists());
    assert_eq!(master.run("echo runs", b"").1, "runs\n");
}

#[test]
fn a_directory_that_holds_more_is_left() {
    let directory = directory();
    let other = directory.path().join("other");
    fs::write(&other, "mine").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fakessh-slave"));
    command.args([MARKER, "022"]).arg(directory.path()).stderr(Stdio::null());
    let _master = Master::start_with(command);
    assert_eq!(fs::read_to_string(other).unwrap(), "mine");
}

#[test]
fn a_check_succeeds_and_wrong_arguments_are_named() {
    let slave = env!("CARGO_BIN_EXE_fakessh-slave");
    assert!(Command::new(slave).arg("check").status().unwrap().success());
    let output = Command::new(slave).arg("nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    assert!(output.stdout.is_empty());
}

#[test]
fn called_as_ssh_it_is_the_shim() {
    let slave = env!("CARGO_BIN_EXE_fakessh-slave");
    let output =
        Command::new(slave).arg0("/run/x/ssh").args([MARKER, "022", "-"]).output().unwrap();
    assert_ne!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[test]
fn the_link_may_be_pipes_of_another_user() {
    if !root_for("another user's pipes") {
        return;
    }
    // Behind sudo the pipes belong to whoever called it, and can't be opened anew.
    let directory = directory();
    let copy = directory.path().join("slave");
    copy_slave(&copy);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=64999", "--regid=64999", "--clear-groups"]).arg(&copy);
    // An account that no database knows has the shell that the environment names.
    command.args([MARKER, "022", "-"]).env("SHELL", "/bin/sh");
    let mut master = Master::start_with(command);
    assert_eq!(master.hello.clone().unwrap().uid, 64999);
    let input = vec![b'x'; 5_000_000];
    let (status, stdout, _) = master.run("cat", &input);
    assert_eq!((status, stdout.len()), (ExitStatus::Code(0), input.len()));
}

#[test]
fn the_link_may_be_pipes_that_somebody_made_non_blocking() {
    let uid = if root_for("pipes of another user") { "64999" } else { "" };
    let directory = directory();
    let copy = directory.path().join("slave");
    copy_slave(&copy);
    let mut command = Command::new(if uid.is_empty() { "env" } else { "setpriv" });
    if !uid.is_empty() {
        command.args(["--reuid", uid, "--regid", uid, "--clear-groups"]);
    }
    command.arg(&copy).args([MARKER, "022", "-"]).env("SHELL", "/bin/sh");
    let (theirs_in, ours_in) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (ours_out, theirs_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    for theirs in [&theirs_in, &theirs_out] {
        rustix::io::ioctl_fionbio(theirs, true).unwrap();
    }
    let child = command.stdin(theirs_in).stdout(theirs_out).spawn().unwrap();
    drop(command);
    let mut master = Master::over(child, ours_in, ours_out);
    master.until_the_slave_sleeps();
    let input = vec![b'x'; 5_000_000];
    let (status, stdout, _) = master.run("cat", &input);
    assert_eq!((status, stdout.len()), (ExitStatus::Code(0), input.len()));
    assert_eq!(master.run("echo one", b"").1, "one\n");
}

#[test]
fn the_link_may_be_a_socket() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = command();
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone().unwrap())));
    command.stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let child = command.spawn().unwrap();
    drop(command);
    let mut master = Master::over(child, ours.try_clone().unwrap().into(), ours.into());
    let input = vec![b'x'; 5_000_000];
    let (status, stdout, _) = master.run("cat", &input);
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(stdout.len(), input.len());
}
