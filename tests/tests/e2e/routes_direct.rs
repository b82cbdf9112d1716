//! Direct contexts: where no slave can run, each session is an SSH channel of its own, and what
//! needs no slave works as with ssh.

use std::fs;
use std::time::Duration;

use fakessh_tests::privilege::root_for;
use fakessh_tests::{Client, Lab, LabBuilder, Relay, both_clients};

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
    let why = direct(lab).expect("a direct context");
    for word in words {
        assert!(why.contains(word), "no {word:?} in {why:?}");
    }
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(table.contains("channel of its own") && table.contains(&why), "{why}: {table}");
    // The next connection does not try again: one session more for one ssh.
    lab.close_all();
    let before = sessions(lab);
    lab.tool(client, ["ssh", "remote", "true"]).run();
    assert_eq!(sessions(lab) - before, 1, "a slave was tried again");
    assert_eq!(direct(lab), Some(why), "the reason was forgotten");
    lab.expect_nothing_left();
}

/// Why `remote` is a direct context, if it is one.
#[track_caller]
fn direct(lab: &Lab) -> Option<String> {
    let list = lab.list();
    let entry = list.iter().find(|entry| entry["name"] == "remote").expect("a context");
    entry["direct"].as_str().map(str::to_owned)
}

both_clients! {
    fn a_forced_command_is_run_instead(client) {
        let lab = forced().start();
        let done = lab.tool(client, ["ssh", "remote", "backup", "words"]).input("in\n").run();
        done.expect_status(7).expect_out("asked: backup words\nin\n").expect_err("err\n");
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
        fakessh_tests::pattern::write(&mut bytes, 20 << 20).unwrap();
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
fn what_needs_a_slave_is_refused_on_a_direct_context_with_fakessh() {
    let lab = forced().start();
    let done = lab.run(["remote+sudo"], ["ssh", "remote", "true"]).run();
    done.expect_fault(255, &["sudo", "remote"]).expect_out("");
    let done = lab.run(["--on", "remote"], ["true"]).run();
    done.expect_fault(255, &["remote"]).expect_out("");
    lab.expect_nothing_left();
}

/// As long as it takes: the keepalive is the one that nobody has set.
#[test]
fn a_network_that_goes_silent_is_noticed_where_no_slave_is_with_fakessh() {
    let lab = forced().start();
    let relay = Relay::start(lab.port(), Duration::ZERO);
    lab.host_through("far", relay.port(), &[]);
    let tool = lab.tool_to(Client::Fakessh, "far", ["ssh", "far", "backup"]);
    let running = tool.guard(Duration::from_secs(300)).input_open().start();
    running.wait_for_output("asked");
    relay.set_silent(true);
    running.finish().expect_fault(255, &["far"]);
}
