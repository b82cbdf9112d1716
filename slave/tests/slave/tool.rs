//! How a tool starts, and what it finds.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{ProgramKind, ProgramSetup, RefusalReason, Tool};
use fakessh_protocol::terminal::TerminalRequest;

use crate::account::directory;
use crate::lifetime::until_nothing_is_in;
use crate::master::{Master, command, copy_slave};
use crate::reverse::Scratch;
use fakessh_lab::privilege::{has, root_for};

fn run(master: &mut Master, line: &str) -> String {
    let tool = master.tool_shell(line);
    master.tool_succeeds(tool)
}

#[test]
fn a_tool_starts_in_the_home_directory_without_a_shell() {
    let mut master = Master::start();
    let home = master.hello.clone().unwrap().home;
    let tool = master.tool(&["printf", "%s|", "a b", "$HOME", "*"]);
    assert_eq!(master.tool_succeeds(tool), "a b|$HOME|*|");
    let here = run(&mut master, "pwd -P");
    assert_eq!(std::fs::canonicalize(home).unwrap().to_str(), Some(here.trim()));
}

#[test]
fn a_tool_finds_the_way_back_in_its_environment() {
    let mut command = command();
    command.env("MUTAGEN_SSH_PATH", "/users/own").env("FAKESSH_FD", "stale");
    let mut master = Master::start_with(command);
    let argv = [b"env".to_vec(), b"-0".to_vec()].to_vec();
    let given = [("GIVEN", "1"), ("PATH", "/given:/usr/bin:/bin")];
    let tool = master.spawn(ProgramKind::Tool(Tool { argv }), &given);
    let text = master.tool_succeeds(tool);
    let seen: BTreeMap<&str, &str> =
        text.split('\0').filter_map(|line| line.split_once('=')).collect();
    let (directory, path) = seen["PATH"].split_once(':').unwrap();
    assert_eq!(path, "/given:/usr/bin:/bin");
    assert_eq!(seen["FAKESSH_SOCKET"], format!("{directory}/master"));
    assert_eq!(seen["AUTOSSH_PATH"], format!("{directory}/ssh"));
    assert_eq!(seen["MUTAGEN_SSH_PATH"], "/users/own");
    assert_eq!(seen["ANSIBLE_SSH_USETTY"], "false");
    assert_eq!(seen["GIVEN"], "1");
    let (number, _) = seen["FAKESSH_FD"].split_once(':').unwrap();
    assert!(number.parse::<u32>().unwrap() >= 100, "{number}");
}

#[test]
fn a_tool_on_a_terminal_finds_the_way_back_whatever_path_it_is_given() {
    let mut master = Master::start();
    for (given, kind) in
        [(&["PATH=/given:/usr/bin:/bin"][..], "vt220"), (&["PATH=/given", "TERM=own"], "own")]
    {
        let given = given.iter().filter_map(|variable| variable.split_once('='));
        let environment: Vec<_> = given
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let terminal = TerminalRequest { term: b"vt220".to_vec(), ..TerminalRequest::default() };
        let argv = [b"/usr/bin/env".to_vec(), b"-0".to_vec()].to_vec();
        let setup = ProgramSetup { terminal: Some(terminal), ..environment.into() };
        let tool = master.spawn_with(ProgramKind::Tool(Tool { argv }), setup);
        let text = master.tool_succeeds(tool);
        let seen: BTreeMap<&str, &str> =
            text.split('\0').filter_map(|line| line.split_once('=')).collect();
        let (directory, path) = seen["PATH"].split_once(':').unwrap();
        assert!(path.starts_with("/given"), "{path}");
        assert_eq!(seen["FAKESSH_SOCKET"], format!("{directory}/master"));
        assert_eq!(seen["TERM"], kind);
        assert!(seen["SSH_TTY"].starts_with("/dev/pts/"), "{}", seen["SSH_TTY"]);
    }
}

#[test]
fn the_directory_is_the_accounts_alone_and_holds_three_programs_and_a_socket() {
    let mut master = Master::start();
    let text = run(
        &mut master,
        "d=${PATH%%:*}; stat -c %a $d; ls $d; for n in ssh scp sftp; do test -x $d/$n && echo yes; \
         done; command -v ssh; test -S $d/master && echo socket; echo $d/ssh",
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..5], ["700", "master", "scp", "sftp", "ssh"]);
    assert_eq!(lines[5..8], ["yes"; 3]);
    assert_eq!(lines[8], lines[10]);
    assert_eq!(lines[9], "socket");
}

#[test]
fn no_other_descriptor_of_ours_reaches_a_tool() {
    let mut master = Master::start();
    for _ in 0..3 {
        master.shell("sleep 1000");
    }
    let text = run(&mut master, "echo ${FAKESSH_FD%%:*}; exec ls /proc/self/fd");
    let lines: Vec<&str> = text.lines().collect();
    // ls has one of its own, for the directory, and sorts by letters.
    let mut expected = ["0", "1", "2", "3", lines[0]];
    expected.sort_unstable();
    assert_eq!(lines[1..], expected, "{text}");
}

#[test]
fn what_can_not_be_started_is_told_apart() {
    let mut master = Master::start();
    let script = Scratch::with("no-program", b"echo never\n");
    let script = script.to_string();
    let cases = [
        ("no-such-program-anywhere", RefusalReason::NotFound),
        ("/nonexistent/program", RefusalReason::NotFound),
        (&script[..], RefusalReason::Other),
    ];
    for (name, reason) in cases {
        let tool = master.tool(&[name, "argument"]);
        master.until("a refusal", |master| master.refusals.contains_key(&tool.control));
        let refusal = &master.refusals[&tool.control];
        assert_eq!(refusal.reason, reason, "{refusal:?}");
        assert!(refusal.message.contains(name) && refusal.message.lines().count() == 1);
    }
    assert_eq!(master.run_directories(), [""; 0]);
    let tool = master.tool(&[]);
    master.until("a refusal", |master| master.refusals.contains_key(&tool.control));
}

#[test]
fn a_tool_may_be_ssh_itself() {
    let mut master = Master::start();
    let tool = master.tool(&["ssh", "far", "x"]);
    let handles = master.next_reverse().handles;
    master.answer(handles, b"there\n", ExitStatus::Code(3));
    assert_eq!(master.exit(tool), ExitStatus::Code(3));
    assert_eq!(master.text(tool.stdout), "there\n");
}

#[test]
fn every_way_of_calling_it_finds_the_run() {
    let mut master = Master::start();
    let python = "import subprocess; \
        print(subprocess.run(['ssh', 'far', 'x'], capture_output=True).stdout.decode(), end='')";
    let scratch = Scratch::with("python", python.as_bytes());
    let lines = [
        "ssh far x".to_owned(),
        "env -i PATH=\"$PATH\" ssh far x".to_owned(),
        "env -i \"$(command -v ssh)\" far x".to_owned(),
        "bash -c 'exec -a other ssh far x'".to_owned(),
        "env -u FAKESSH_FD ssh far x".to_owned(),
        "FAKESSH_FD=0:1 FAKESSH_SOCKET=/nowhere ssh far x".to_owned(),
        "env -i PATH=\"$PATH\" bash -c 'eval \"exec $1>&-\"; exec -a other ssh far x' x \
         ${FAKESSH_FD%%:*}"
            .to_owned(),
        format!("python3 {scratch}"),
        "cd / && sh -c 'ssh far x'".to_owned(),
        "l=$(mktemp -u); ln -s \"$(command -v ssh)\" $l; env -i $l far x; rm $l".to_owned(),
        "setsid -w ssh far x".to_owned(),
    ];
    for line in lines {
        let tool = master.tool_shell(&line);
        let start = master.next_reverse();
        assert_eq!(start.tool, tool.control);
        master.answer(start.handles, b"found\n", ExitStatus::Code(0));
        assert_eq!(master.tool_succeeds(tool), "found\n", "{line}");
    }
}

#[test]
fn scp_and_sftp_use_the_ssh_beside_them() {
    if !has("scp") || !has("sftp") {
        return;
    }
    let mut master = Master::start();
    for line in ["scp -q /etc/hostname far:there", "echo ls | sftp -q -b - far"] {
        let tool = master.tool_shell(&format!("{line}; echo $?"));
        let start = master.next_reverse();
        assert_eq!(start.handoff.unpack().unwrap().invocation.destination.host, "far");
        master.until("input", |master| master.of(start.handles.stdin).len > 0);
        master.answer(start.handles, b"", ExitStatus::Code(1));
        assert!(!master.tool_succeeds(tool).starts_with('0'));
    }
}

#[test]
fn a_slave_whose_file_is_gone_still_gives_tools_their_ssh() {
    let place = directory();
    let directory = place.path().join("its-own");
    std::fs::create_dir(&directory).unwrap();
    let copy = directory.join("slave");
    copy_slave(&copy);
    let mut command = std::process::Command::new(&copy);
    command.args([crate::master::MARKER, "077"]).arg(&directory);
    let mut master = Master::start_with(command);
    assert!(!directory.exists());
    let tool = master.tool_shell("ssh far x");
    let handles = master.next_reverse().handles;
    master.answer(handles, b"there\n", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "there\n");
}

#[test]
fn the_first_place_that_serves_is_taken() {
    let place = directory();
    let long = place.path().join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    for (runtime, expected) in [("/proc", "/dev/shm/"), (long.to_str().unwrap(), "/dev/shm/")] {
        let mut command = command();
        command.env("XDG_RUNTIME_DIR", runtime);
        let mut master = Master::start_with(command);
        let text = run(&mut master, "echo ${PATH%%:*}");
        assert!(text.starts_with(expected), "{text}");
    }
    let runtime = directory();
    let mut command = command();
    command.env("XDG_RUNTIME_DIR", runtime.path());
    let mut master = Master::start_with(command);
    let text = run(&mut master, "echo ${PATH%%:*}");
    assert!(text.starts_with(runtime.path().to_str().unwrap()), "{text}");
    until_nothing_is_in(runtime.path());
}

#[test]
fn a_place_where_others_can_replace_what_is_made_is_passed_over() {
    if !root_for("directories of other users") {
        return;
    }
    let place = directory();
    let of = |name: &str, uid: u32, mode: u32| {
        let path = place.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let another = of("another", 1, 0o755);
    let open = of("open", 0, 0o777);
    let below = of("another/below", 0, 0o700);
    let linked = place.path().join("linked");
    std::os::unix::fs::symlink(&another, &linked).unwrap();
    for runtime in [another, open, below, linked] {
        let mut command = command();
        command.env("XDG_RUNTIME_DIR", &runtime);
        let mut master = Master::start_with(command);
        let text = run(&mut master, "echo ${PATH%%:*}");
        assert!(text.starts_with("/dev/shm/"), "{}: {text}", runtime.display());
    }
}
