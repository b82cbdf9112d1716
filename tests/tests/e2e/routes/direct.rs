//! Direct contexts: where no slave can run, each session is an SSH channel of its own, and what
//! needs no slave works as with ssh.

use std::fs;
use std::time::Duration;

use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Finished, Lab, LabBuilder, Relay, both_clients};

/// A server that runs one command, whatever is asked for, as those for backups have it: what it
/// does not know it refuses.
fn forced() -> LabBuilder {
    let command = "case $SSH_ORIGINAL_COMMAND in \
                   (backup*) echo \"asked: $SSH_ORIGINAL_COMMAND\"; cat; echo err >&2; exit 7;; \
                   (*) echo only backups here; exit 1;; esac";
    Lab::builder().sshd(&format!("ForceCommand {command}"))
}

/// An account that has SFTP alone, in a root that belongs to root.
fn sftp_only() -> LabBuilder {
    // No part of the path may be writable by others, as /tmp is.
    let mounts = "mkdir -p \"$LAB/jail/in\"; chmod 777 \"$LAB/jail/in\"\n\
                  mount --bind \"$LAB/jail\" /mnt";
    Lab::builder()
        .sftp("internal-sftp")
        .sshd("ForceCommand internal-sftp")
        .sshd("ChrootDirectory /mnt")
        .private_mounts(mounts)
}

/// Sessions that the server has started so far.
fn sessions(lab: &Lab) -> usize {
    lab.log().count("Starting session:")
}

/// Holds that `fakessh ls` says that the context is direct, with these words in the reason.
#[track_caller]
fn expect_direct(lab: &Lab, client: Client, words: &[&str]) {
    if client == Client::Ssh {
        return;
    }
    let why = lab.direct().expect("a direct context");
    for word in words {
        assert!(why.contains(word), "no {word:?} in {why:?}");
    }
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(table.contains("channel of its own") && table.contains(&why), "{why}: {table}");
    // A connection in the place of one that was lost does not try again: one session for one ssh.
    for (lose, expected) in [(true, 1), (false, 2)] {
        if lose {
            lab.kill_connections();
            lab.expect_no_connections();
        } else {
            lab.close_all();
        }
        let before = sessions(lab);
        lab.tool(client, ["ssh", "remote", "true"]).run();
        assert_eq!(sessions(lab) - before, expected, "lost: {lose}");
        assert_eq!(lab.direct().as_ref(), Some(&why));
    }
    lab.expect_nothing_left();
}

/// What stands on standard error beside the line that says why no slave runs there.
fn errors(done: &Finished) -> String {
    let is_it = |line: &&str| line.starts_with("fakessh: remote: no slave runs there (");
    let said = done.err();
    assert!(said.lines().filter(is_it).count() <= 1, "it is said twice: {said}");
    said.lines().filter(|line| !is_it(line)).collect::<Vec<_>>().join("\n")
}

/// How long something may take that once took the minute in which a slave may start.
const QUICK: Duration = Duration::from_secs(40);

both_clients! {
    fn a_forced_command_that_reads_and_says_nothing(client) {
        for more in ["MaxSessions 10", "MaxSessions 1"] {
            let lab = Lab::builder().sshd("ForceCommand cat").sshd(more).start();
            for _ in 0..2 {
                let done = lab.tool(client, ["ssh", "remote", "x"]).input("in\n").guard(QUICK).run();
                let done = done.expect_status(0).expect_out("in\n");
                assert_eq!(errors(&done), "");
            }
        }
    }

    fn a_server_that_allows_one_session_at_a_time(client) {
        let lab = forced().sshd("MaxSessions 1").start();
        let script = "for i in $(seq 100); do ssh remote backup </dev/null >/dev/null 2>&1; echo $?; done";
        let done = lab.tool(client, ["sh", "-c", script]).run().expect_status(0);
        assert_eq!(done.out(), "7\n".repeat(100));
        // And at once: as many connections as are needed.
        let script = "for i in 1 2 3; do ssh remote backup $i & done </dev/null; wait";
        let done = lab.tool(client, ["sh", "-c", script]).run().expect_status(0);
        assert_eq!(done.out().lines().count(), 3, "{}", done.shown());
    }

    fn a_program_whose_output_nobody_reads(client) {
        let lab = Lab::builder().sshd("ForceCommand echo up; exec yes").start();
        let script = "ssh remote x </dev/null | head -1; ssh remote x | head -1; echo over";
        let done = lab.tool(client, ["sh", "-c", script]).guard(QUICK).run();
        done.expect_status(0).expect_out("up\nup\nover\n");
    }

    fn a_forced_command_is_run_instead(client) {
        let lab = forced().start();
        let done = lab.tool(client, ["ssh", "remote", "backup", "words"]).input("in\n").run();
        let done = done.expect_status(7).expect_out("asked: backup words\nin\n");
        assert_eq!(errors(&done), "err");
        lab.tool(client, ["ssh", "remote", "id"]).run().expect_status(1);
        let script = "for i in 1 2 3; do ssh remote backup $i </dev/null & done; wait";
        let done = lab.tool(client, ["sh", "-c", script]).run().expect_status(0);
        assert_eq!(done.out().lines().count(), 3);
        expect_direct(&lab, client, &["only backups"]);
    }

    fn a_forced_command_that_stores_its_input_gets_nothing_else(client) {
        if !root_for("an account of its own") {
            return;
        }
        // It says by closing its outputs that it starts nothing; then it reads on.
        let lab = Lab::builder().sshd("ForceCommand exec >&- 2>&-; cat >>stored").start();
        lab.tool(client, ["ssh", "remote", "store"]).input("data\n").run().expect_status(0);
        let stored = fs::read_to_string(lab.account().home.join("stored")).unwrap();
        assert!(stored == "data\n", "{} bytes were stored", stored.len());
    }

    fn bytes_pass_through_a_forced_command(client) {
        let lab = forced().start();
        let mut bytes = Vec::new();
        fakessh_lab::pattern::write(&mut bytes, 20 << 20).unwrap();
        let done = lab.tool(client, ["ssh", "remote", "backup"]).input(bytes.clone()).run();
        let came = done.expect_status(7).stdout;
        assert!(came.strip_prefix(b"asked: backup\n") == Some(&bytes), "bytes differ");
    }

    fn an_account_with_sftp_alone(client) {
        if !root_for("an account that is locked up") {
            return;
        }
        let lab = sftp_only().start();
        let local = lab.local_dir("files");
        fs::write(local.join("file"), "content\n".repeat(100_000)).unwrap();
        let script = "set -e; printf 'put file in/one\nget in/one back\nls in\n' | sftp -q -b - remote
            scp -q file remote:in/two; scp -q remote:in/two back2; cmp file back; cmp file back2";
        let done = lab.tool(client, ["sh", "-c", script]).directory(&local).run();
        let done = done.expect_status(0);
        assert!(done.out().contains("in/one"), "{}", done.shown());
        let two = fs::read(lab.dir().join("jail/in/two")).unwrap();
        assert!(two == fs::read(local.join("file")).unwrap());
        let done = lab.tool(client, ["ssh", "remote", "id"]).run().expect_status(1);
        assert!(done.out().contains("sftp"), "{}", done.shown());
        expect_direct(&lab, client, &[]);
    }

    fn an_account_that_may_not_log_in(client) {
        if !root_for("an account of its own") {
            return;
        }
        let lab = Lab::builder().shell("/usr/sbin/nologin").start();
        let done = lab.tool(client, ["ssh", "remote", "true"]).run();
        done.expect_status(1).expect_out("This account is currently not available.\n");
        expect_direct(&lab, client, &["not available"]);
    }

    fn a_git_host(client) {
        if !root_for("an account of its own") {
            return;
        }
        let lab = Lab::builder().shell("/usr/bin/git-shell").start();
        let repository = lab.remote_dir().join("r.git");
        let owner = lab.account().name.clone();
        let script = format!(
            "git init -q --bare -b main {0} && chown -R {owner} {0}", repository.display()
        );
        lab.program(["sh", "-c", &script]).run().expect_status(0);
        let script = format!(
            "set -e
            git clone -q remote:{repository} one 2>/dev/null
            cd one; git checkout -q -b main; seq 100000 >file; git add .; git commit -q -m m
            git push -q origin main; git clone -q remote:{repository} ../two; cmp file ../two/file",
            repository = repository.display()
        );
        let local = lab.local_dir("git");
        lab.tool(client, ["sh", "-c", &script]).directory(&local).run().expect_status(0);
        let done = lab.tool(client, ["ssh", "remote", "id"]).run().expect_status(128);
        assert!(done.err().contains("unrecognized command"), "{}", done.shown());
        expect_direct(&lab, client, &[]);
    }
}

#[test]
fn a_start_that_fails_for_a_moment_is_tried_again_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    // As where memory or processes have run out.
    let command =
        "if [ -e broken ]; then rm broken; kill -KILL $$; fi; eval \"$SSH_ORIGINAL_COMMAND\"";
    let lab = Lab::builder().sshd(&format!("ForceCommand {command}")).start();
    let broken = lab.account().home.join("broken");
    lab.program(["touch", broken.to_str().unwrap()]).run().expect_status(0);
    let owner = lab.account().name.clone();
    lab.program(["chown", &owner, broken.to_str().unwrap()]).run().expect_status(0);
    let run = || lab.tool(Client::Fakessh, ["ssh", "remote", "echo in"]).run();
    let done = run().expect_status(0).expect_out("in\n");
    assert!(done.err().contains("no slave runs there"), "{}", done.shown());
    assert!(lab.direct().is_some_and(|why| why.contains("killed by signal 9")));
    run().expect_status(0).expect_err("");
    lab.kill_connections();
    lab.expect_no_connections();
    run().expect_status(0).expect_out("in\n").expect_err("");
    assert_eq!(lab.direct(), None);
}

#[test]
fn a_session_that_is_not_read_holds_up_no_other_with_fakessh() {
    let command = "case $SSH_ORIGINAL_COMMAND in (bulk) echo $$; exec yes;; (*) echo in;; esac";
    let lab = Lab::builder().sshd(&format!("ForceCommand {command}")).start();
    let (unread, output) = std::io::pipe().unwrap();
    let _bulk = lab.tool(Client::Fakessh, ["ssh", "remote", "bulk"]).stdout(output).start();
    // It stands still when everything on the way is full.
    let written = || {
        let yes = lab.processes().into_iter().find(|it| it.command == "yes")?;
        fs::read_to_string(format!("/proc/{}/io", yes.pid)).ok()
    };
    let (mut last, mut same) = (None, 0);
    while same < 5 {
        std::thread::sleep(Duration::from_millis(100));
        let now = written();
        same = if now.is_some() && now == last { same + 1 } else { 0 };
        last = now;
    }
    let other = lab.tool(Client::Fakessh, ["ssh", "remote", "other"]).guard(QUICK);
    other.run().expect_status(0).expect_out("in\n");
    drop(unread);
}

#[test]
fn what_needs_a_slave_is_refused_on_a_direct_context_with_fakessh() {
    let lab = forced().start();
    let done = lab.run(["remote+sudo"], ["ssh", "remote", "true"]).run();
    done.expect_fault(255, &["sudo", "remote"]).expect_out("");
    let done = lab.run(["--on", "remote"], ["true"]).run().expect_status(255).expect_out("");
    assert!(errors(&done).starts_with("fakessh: remote: a tool can't be run"), "{}", done.shown());
    lab.expect_nothing_left();
}

/// As long as it takes: the keepalive is the one that nobody has set.
#[test]
fn a_network_that_goes_silent_is_noticed_where_no_slave_is_with_fakessh() {
    let lab = forced().start();
    let relay = Relay::start(lab.port(), Duration::ZERO);
    lab.host_through("far", relay.port(), &[]);
    // Why no slave runs there is said now.
    lab.tool_to(Client::Fakessh, "far", ["ssh", "far", "backup"]).run().expect_status(7);
    let tool = lab.tool_to(Client::Fakessh, "far", ["ssh", "far", "backup"]);
    let running = tool.guard(Duration::from_secs(300)).input_open().start();
    running.wait_for_output("asked");
    relay.set_silent(true);
    running.finish().expect_fault(255, &["far"]);
}
