//! What is refused, and how: by name, in one line, with the status that a user can tell it by.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Finished, Lab, SharedLab, Tool, both_clients};

static LAB: SharedLab = SharedLab::new(Lab::start);

fn run(words: &[&str]) -> Finished {
    LAB.get().tool(Client::Fakessh, words).run()
}

/// A run whose FAKESSH_DIR is this.
fn run_in(lab: &Lab, dir: &Path) -> Tool {
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).env("FAKESSH_DIR", dir)
}

both_clients! {
    fn an_option_that_does_not_exist(client) {
        let lab = LAB.get();
        let done = lab.tool(client, ["ssh", "-o", "NoSuchOption=1", "remote", "true"]).run();
        assert!(done.err().contains("Bad configuration option"), "{}", done.shown());
        done.expect_status(255);
        lab.tool(client, ["ssh", "-%", "remote", "true"]).run().expect_status(255);
    }

    fn a_host_name_that_a_shell_could_read_otherwise(client) {
        let lab = LAB.get();
        for host in ["-oProxyCommand=touch x", "a;b", "$(id)"] {
            lab.tool(client, ["ssh", "--", host, "true"]).run().expect_status(255).expect_out("");
        }
    }
}

#[test]
fn options_that_are_not_served_yet_are_refused_by_name_with_fakessh() {
    for (option, name) in [(&["-X"][..], "-X"), (&["-w", "0"], "-w")] {
        let words = ["ssh"].iter().chain(option).chain(&["remote", "true"]).copied();
        run(&words.collect::<Vec<_>>()).expect_fault(255, &[name]).expect_out("");
    }
}

#[test]
fn another_user_is_refused_with_the_way_to_it_with_fakessh() {
    let lab = LAB.get();
    for words in [
        &["ssh", "other@remote", "true"][..],
        &["ssh", "-l", "other", "remote", "true"],
        &["ssh", "-oUser=other", "remote", "true"],
    ] {
        let done = run(words).expect_fault(255, &["other", &lab.account().name]);
        done.expect_out("");
    }
    let own = format!("{}@remote", lab.account().name);
    run(&["ssh", &own, "true"]).expect_status(0).expect_err("");
}

/// The words of a user come from a repository's URL, perhaps: nobody is told to type them.
#[test]
fn a_user_with_more_than_a_name_in_it_is_no_part_of_a_proposed_route_with_fakessh() {
    for words in [
        &["ssh", "x+exec:y@remote", "true"][..],
        &["ssh", "-l", "x+exec:y", "remote", "true"],
        &["ssh", "-oUser=x+exec:y", "remote", "true"],
    ] {
        let done = run(words).expect_fault(255, &["leave the user away"]).expect_out("");
        let err = done.err();
        assert!(!err.contains("route") && !err.contains("sudo"), "{err}");
    }
    // A plain one is.
    run(&["ssh", "other@remote", "true"]).expect_fault(255, &["the route remote+sudo:other"]);
}

#[test]
fn a_name_without_a_route_is_refused_with_fakessh() {
    let lab = LAB.get();
    let done = lab.run(["--route", "known=remote"], ["ssh", "unknown", "true"]).run();
    done.expect_fault(255, &["unknown", "--route"]).expect_out("");
}

/// Times that each tool is run: what it shows depends on who is faster.
const TIMES: usize = 20;

#[test]
fn tools_show_the_reason_of_a_refusal_each_time_with_fakessh() {
    let lab = LAB.get();
    let directory = lab.local_dir("reasons");
    for words in [
        "rsync -a /etc/hostname unknown:/tmp/",
        "rsync -a unknown:/etc/hostname .",
        "borg list ssh://unknown/repository",
        "restic --no-cache -r sftp:unknown:/repository snapshots",
    ] {
        let script = format!(
            "for i in $(seq {TIMES}); do {words} 2>&1 | grep -c 'fakessh: .*--route'; done"
        );
        let done = lab
            .run(["--route", "known=remote"], ["sh", "-c", &script])
            .directory(&directory)
            .env("BORG_BASE_DIR", &directory)
            .env("RESTIC_PASSWORD", "x")
            .guard(std::time::Duration::from_secs(180))
            .run();
        let seen = done.out().lines().filter(|&line| line == "1").count();
        assert_eq!(seen, TIMES, "{words}: {}", done.shown());
    }
}

#[test]
fn a_tool_that_does_not_exist_is_127_and_one_that_may_not_run_126_with_fakessh() {
    run(&["/no/such/tool"]).expect_fault(127, &["/no/such/tool"]);
    run(&["no-such-tool-on-path"]).expect_fault(127, &["no-such-tool-on-path"]);
    run(&["/etc/passwd"]).expect_fault(126, &["/etc/passwd"]);
    run(&["/etc"]).expect_fault(126, &["/etc"]);
}

#[test]
fn the_status_of_the_tool_is_the_status_of_the_run_with_fakessh() {
    for status in [0, 1, 77, 255] {
        let words = ["sh", "-c", &format!("exit {status}")];
        LAB.get().run(["-q", "remote"], words).run().expect_status(status).expect_err("");
    }
    run(&["sh", "-c", "kill -TERM $$"]).expect_status(143);
    run(&["sh", "-c", "kill -KILL $$"]).expect_status(137);
}

#[test]
fn a_tool_takes_a_megabyte_of_arguments_with_fakessh() {
    let mut words = vec!["sh".to_owned(), "-c".into(), "echo $#; printf %s \"$*\" | wc -c".into()];
    words.push("name".into());
    words.extend((0..10).map(|_| "x".repeat(105_000)));
    let done = LAB.get().tool(Client::Fakessh, &words).run();
    done.expect_status(0).expect_out("10\n1050009\n");
}

#[test]
fn a_command_that_no_shell_could_take_is_refused_with_fakessh() {
    let mut words = vec!["ssh".to_owned(), "remote".into(), "echo".into()];
    words.extend((0..10).map(|_| "x".repeat(105_000)));
    let done = LAB.get().tool(Client::Fakessh, &words).run();
    done.expect_fault(255, &["long"]).expect_out("");
}

#[test]
fn an_environment_of_a_megabyte_is_no_trouble_with_fakessh() {
    let lab = LAB.get();
    let mut tool = lab.tool(Client::Fakessh, ["ssh", "remote", "echo in"]);
    for number in 0..10 {
        tool = tool.env(format!("LARGE{number}"), "x".repeat(105_000));
    }
    tool.run().expect_status(0).expect_out("in\n");
}

#[test]
fn a_directory_of_another_owner_is_refused_with_fakessh() {
    if !root_for("another owner") {
        return;
    }
    let lab = LAB.get();
    let dir = lab.local_dir("stranger");
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    chown(&dir, Some(65534), None).unwrap();
    run_in(&lab, &dir).run().expect_fault(255, &[dir.to_str().unwrap(), "65534"]);
}

#[test]
fn a_directory_that_others_may_enter_is_refused_with_fakessh() {
    let lab = LAB.get();
    for mode in [0o770, 0o720, 0o777, 0o705] {
        let dir = lab.local_dir(&format!("open{mode:o}"));
        fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
        run_in(&lab, &dir).run().expect_fault(255, &[dir.to_str().unwrap(), "chmod 700"]);
    }
}

/// Whoever names such a directory is told to name another one, and not to remove it, or to shut
/// everybody else out.
#[test]
fn a_directory_with_another_use_is_refused_with_fakessh() {
    let lab = LAB.get();
    let home = lab.local_dir("home");
    fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(home.join("thesis"), "").unwrap();
    fs::create_dir(home.join("run-fast")).unwrap();
    for dir in ["/tmp".as_ref(), "/etc".as_ref(), home.as_path()] {
        let name = dir.to_str().unwrap();
        let done = run_in(&lab, dir).run().expect_fault(255, &[name, "FAKESSH_DIR"]);
        let err = done.err();
        assert!(!err.contains("remove") && !err.contains(&format!("chmod 700 {name}")), "{err}");
    }
    assert!(home.join("run-fast").exists());
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2);
}

#[test]
fn a_directory_that_is_none_is_refused_with_fakessh() {
    let lab = LAB.get();
    let base = lab.local_dir("none");
    fs::write(base.join("file"), "").unwrap();
    symlink("/tmp", base.join("link")).unwrap();
    for name in ["file", "link", "no/such/parent"] {
        let dir = base.join(name);
        run_in(&lab, &dir).run().expect_fault(255, &[dir.to_str().unwrap(), "FAKESSH_DIR"]);
    }
    let long = base.join("x".repeat(120));
    run_in(&lab, &long).run().expect_fault(255, &["too long", "FAKESSH_DIR"]);
}

#[test]
fn a_socket_that_another_user_serves_is_refused_with_fakessh() {
    if !root_for("another user") {
        return;
    }
    let lab = LAB.get();
    let dir = lab.local_dir("socket");
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    // Bound by a stranger where it could, and put into the place of the master's socket.
    let theirs = Path::new("/tmp").join(format!("{}-socket", lab.mark()));
    let script = "import os, socket, sys\n\
        os.setgid(65534); os.setuid(65534)\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        s.bind(sys.argv[1]); s.listen(); print('up', flush=True)\n\
        sys.stdin.read()\n";
    let words = ["python3", "-c", script, theirs.to_str().unwrap()];
    let mut stranger = lab.program(words).directory("/").input_open().start();
    assert_eq!(stranger.read_line().as_deref(), Some("up"));
    let socket = dir.join("control");
    fs::rename(&theirs, &socket).unwrap();
    let done = run_in(&lab, &dir).run();
    done.expect_fault(255, &[socket.to_str().unwrap(), "another user"]);
}

#[test]
fn another_user_who_gets_to_the_sockets_is_turned_away_with_fakessh() {
    if !root_for("another user") {
        return;
    }
    let lab = Lab::start();
    let mut session = lab.tool(Client::Fakessh, ["ssh", "remote", "echo up; cat"]);
    session = session.input_open();
    let mut session = session.start();
    assert_eq!(session.read_line().as_deref(), Some("up"));
    // What keeps others out is gone: the master looks who they are, at its own socket and a run's.
    let dir = lab.fakessh_dir();
    let open = |how| lab.program(["chmod", "-R", how, dir.to_str().unwrap()]).run();
    open("a+rwX").expect_status(0);
    let script = "import os, socket, sys\n\
        os.setgroups([]); os.setgid(65534); os.setuid(65534)\n\
        for name in sys.argv[1:]:\n    \
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n    \
            s.connect(name)\n    \
            print(s.recv(1))\n";
    let [run] = &lab.run_directories()[..] else { panic!("one run directory") };
    let sockets = [dir.join("control"), dir.join(run).join("master")];
    let words =
        ["python3", "-c", script].into_iter().chain(sockets.iter().filter_map(|it| it.to_str()));
    lab.program(words).run().expect_status(0).expect_out("b''\nb''\n");
    open("go-rwx").expect_status(0);
    session.write(b"still here\n").unwrap();
    session.finish().expect_status(0).expect_out("up\nstill here\n");
    lab.expect_nothing_left();
}

#[test]
fn arguments_that_make_no_sense_are_255_with_fakessh() {
    let lab = LAB.get();
    for arguments in [
        &["run", "remote"][..],
        &["run", "--no-such-option", "remote", "--", "true"],
        &["no-such-command"],
        &[],
    ] {
        let done = lab.fakessh(arguments).run().expect_status(255);
        assert!(!done.stderr.is_empty() && done.stdout.is_empty(), "{}", done.shown());
    }
}

#[test]
fn help_is_there_for_every_command_with_fakessh() {
    let lab = LAB.get();
    let help = lab.fakessh(["--help"]).run().expect_status(0).expect_err("").out();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let names = commands.lines().map_while(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|&name| name != "help").collect();
    assert!(names.contains(&"run") && names.contains(&"ssh"), "{names:?}");
    for name in names {
        let usage = format!("Usage: fakessh {name}");
        for words in [[name, "--help"], ["help", name]] {
            let help = lab.fakessh(words).run().expect_status(0).expect_err("");
            assert!(help.out().contains(&usage), "{}", help.shown());
        }
    }
    // Behind the first word of ssh's own it is ssh's, or the command's.
    let done = lab.fakessh(["ssh", "-F", "/dev/null", "--help"]).run();
    done.expect_fault(255, &["unknown option"]);
}
