//! Targets that are not as one would like them: shells that talk, foreign shells, nowhere to put
//! a program, another architecture, full disks.

use std::fs;
use std::time::Duration;

use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Finished, Lab, LabBuilder, Relay, both_clients, wait_until};
use rustix::process::Signal;

/// Shell commands that put a file system over every place that holds temporary files, and over
/// the home directory, with these mount options; the lab's own directory stays as it is.
fn over_every_temporary_place(options: &str, home: bool) -> String {
    let mut script = format!(
        "mount --bind \"$LAB\" /mnt\n\
         for place in /tmp /var/tmp /dev/shm /run; do\n\
         mount -t tmpfs -o {options} none \"$place\"\ndone\n\
         mount -o remount,rw /tmp; mkdir -m 755 \"$LAB\"\n\
         mount --bind /mnt \"$LAB\"\numount /mnt\n\
         mount -o remount,rw /run; mkdir /run/sshd; mount -o remount,{options} /run\n\
         mount -o remount,{options} /tmp\n"
    );
    if home {
        script.push_str(&format!("mount -t tmpfs -o {options} none \"$ACCOUNT_HOME\"\n"));
    }
    script
}

/// Starts a lab as an account with these commands in its `.bashrc`.
fn with_bashrc(builder: LabBuilder, text: &str) -> Lab {
    let lab = builder.start();
    fs::write(lab.account().home.join(".bashrc"), text).unwrap();
    lab
}

/// `ssh remote COMMAND` with our client.
fn ours(lab: &Lab, command: &str) -> Finished {
    lab.tool(Client::Fakessh, ["ssh", "remote", command]).run()
}

both_clients! {
    fn a_shell_that_prints_noise(client) {
        if !root_for("an account of its own") {
            return;
        }
        let lab = with_bashrc(Lab::builder(), "echo noise; echo more noise >&2\n");
        // Every program's shell prints it, as with sshd; the transport itself is not disturbed.
        let done = lab.tool(client, ["ssh", "remote", "echo content"]).run();
        done.expect_status(0).expect_out("noise\ncontent\n").expect_err("more noise\n");
        let much = "head -c 300000 /dev/zero | tr '\\0' x; printf 'no newline'";
        fs::write(lab.account().home.join(".bashrc"), much).unwrap();
        if client == Client::Fakessh {
            lab.fakessh(["stop"]).run().expect_status(0);
        }
        let done = lab.tool(client, ["ssh", "remote", "echo content"]).run().expect_status(0);
        assert_eq!(done.stdout.len(), 300_000 + "no newlinecontent\n".len());
    }

    fn a_foreign_login_shell(client) {
        if !root_for("accounts of its own") {
            return;
        }
        for (shell, command) in [
            ("/usr/bin/tcsh", "setenv V 3; echo \"in $V\"; exit $V"),
            ("/usr/bin/fish", "set -x V 3; echo in $V; exit $V"),
            ("/bin/dash", "V=3; echo in $V; exit $V"),
        ] {
            assert!(fs::exists(shell).unwrap(), "{shell} is not installed");
            let lab = Lab::builder().shell(shell).start();
            let done = lab.tool(client, ["ssh", "remote", command]).run();
            done.expect_status(3).expect_out("in 3\n").expect_err("");
            let tree = lab.local_dir("tree");
            fs::write(tree.join("a file"), "content").unwrap();
            let to = format!("remote:{}/", lab.remote_dir().display());
            let from = format!("{}/", tree.display());
            lab.tool(client, ["rsync", "-a", &from, &to]).run().expect_status(0);
            assert_eq!(fs::read(lab.remote_dir().join("a file")).unwrap(), b"content");
            if client == Client::Fakessh {
                lab.expect_nothing_left();
            }
        }
    }

    fn temporary_directories_that_run_nothing_but_a_home_that_does(client) {
        if !root_for("mounts") {
            return;
        }
        let script = over_every_temporary_place("noexec,mode=1777", false);
        let lab = Lab::builder().private_mounts(&script).start();
        lab.tool(client, ["ssh", "remote", "echo in"]).run().expect_status(0).expect_out("in\n");
        if client == Client::Fakessh {
            lab.expect_nothing_left();
            assert_eq!(fakessh_lab::files::listing(&lab.account().home), [""; 0]);
        }
    }

    fn a_disk_that_is_full_under_a_transfer(client) {
        if !root_for("mounts") {
            return;
        }
        let script = "mount -t tmpfs -o size=1m,mode=777 none \"$LAB/remote\"";
        let lab = Lab::builder().private_mounts(script).start();
        let big = lab.local_dir("big").join("file");
        fs::write(&big, vec![b'x'; 5_000_000]).unwrap();
        let to = format!("remote:{}/", lab.remote_dir().display());
        let done = lab.tool(client, ["rsync", "-a", big.to_str().unwrap(), &to]).run();
        assert!(done.err().contains("No space left"), "{}", done.shown());
        assert!([11, 12].contains(&done.code()), "{}", done.code());
        let script = format!(
            "ssh remote 'cat >{}/other' <{}",
            lab.remote_dir().display(),
            big.display()
        );
        let done = lab.tool(client, ["sh", "-c", &script]).run().expect_status(1);
        assert!(done.err().contains("No space left"), "{}", done.shown());
        if client == Client::Fakessh {
            lab.expect_nothing_left();
        }
    }

    fn a_subsystem_that_the_server_runs_itself(client) {
        let lab = Lab::builder().sftp("internal-sftp").start();
        let tool = lab.tool(client, ["sftp", "-q", "-b", "-", "remote"]);
        let done = tool.input(format!("ls {}\n", lab.dir().display())).run().expect_status(0);
        assert!(done.out().contains("remote"), "{}", done.shown());
    }

    fn an_unknown_subsystem(client) {
        let lab = Lab::start();
        let done = lab.tool(client, ["ssh", "-s", "remote", "nothing-of-the-kind"]).run();
        match client {
            Client::Ssh => done.expect_status(255),
            Client::Fakessh => done.expect_fault(255, &["nothing-of-the-kind"]),
        };
    }
}

/// Holds that no slave could be started, for a reason with these words in it, and that a command
/// runs all the same, on a channel of its own; and that nothing of the attempt is left.
#[track_caller]
fn expect_no_slave(lab: &Lab, words: &[&str]) {
    let done = ours(lab, "echo in; exit 3").expect_fault(3, &["no slave runs there"]);
    done.expect_out("in\n");
    let list = lab.list();
    let why = list[0]["direct"].as_str().expect("a reason").to_lowercase();
    for word in words {
        assert!(why.contains(word), "no {word:?} in {why:?}");
    }
    lab.expect_nothing_left();
}

#[test]
fn nowhere_to_run_a_program_with_fakessh() {
    if !root_for("mounts") {
        return;
    }
    let script = over_every_temporary_place("noexec,mode=1777", true);
    let lab = Lab::builder().private_mounts(&script).start();
    expect_no_slave(&lab, &["no directory", "/tmp", "home"]);
}

#[test]
fn nowhere_to_write_a_program_with_fakessh() {
    if !root_for("mounts") {
        return;
    }
    let script = over_every_temporary_place("ro,mode=1777", true);
    let lab = Lab::builder().private_mounts(&script).start();
    expect_no_slave(&lab, &["no directory", "/tmp", "home"]);
}

#[test]
fn no_room_for_the_slave_with_fakessh() {
    if !root_for("mounts") {
        return;
    }
    let script = over_every_temporary_place("size=64k,mode=1777", true);
    let lab = Lab::builder().private_mounts(&script).start();
    expect_no_slave(&lab, &[]);
}

#[test]
fn a_full_directory_is_passed_over_with_fakessh() {
    if !root_for("mounts") {
        return;
    }
    let script = "mount -t tmpfs -o size=64k,mode=1777 none /dev/shm";
    let lab = Lab::builder().private_mounts(script).start();
    ours(&lab, "echo in").expect_status(0).expect_out("in\n").expect_err("");
    assert!(lab.list()[0]["direct"].is_null(), "{:?}", lab.list());
    lab.expect_nothing_left();
}

#[test]
fn an_interrupted_start_leaves_nothing_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    let lab = Lab::start();
    let relay = Relay::start(lab.port(), Duration::ZERO);
    lab.host_through("far", relay.port(), &[]);
    let files = || lab.temporary_files();
    for _ in 0..10 {
        let words = ["connect", "-F", lab.config_path().to_str().unwrap(), "far"];
        let running = lab.fakessh(words).start();
        wait_until(|| !files().is_empty(), "no start begins");
        // It is not to be over before it is interrupted.
        relay.hold(true, false);
        running.signal_group(Signal::INT);
        running.finish();
        relay.hold(false, false);
        wait_until(|| files().is_empty(), "it stays");
    }
    lab.expect_nothing_left();
}

#[test]
fn another_architecture_with_fakessh() {
    if !root_for("an account of its own") {
        return;
    }
    let lab = with_bashrc(Lab::builder(), "PATH=$HOME/bin:$PATH\n");
    let bin = lab.account().home.join("bin");
    fs::create_dir(&bin).unwrap();
    write_script(&bin.join("uname"), "#!/bin/sh\necho s390x\n");
    expect_no_slave(&lab, &["s390x", "architecture"]);
}

#[test]
fn the_environment_of_pam_is_there_with_fakessh() {
    if !root_for("a login through PAM") {
        return;
    }
    let lab = Lab::builder().pam().start();
    let done = ours(&lab, "echo \"$HOME $USER\"; echo \"$PATH\"").expect_status(0);
    let theirs = lab.tool(Client::Ssh, ["ssh", "remote", "echo \"$HOME $USER\"; echo \"$PATH\""]);
    done.expect_out(&theirs.run().expect_status(0).out());
    lab.expect_nothing_left();
}
