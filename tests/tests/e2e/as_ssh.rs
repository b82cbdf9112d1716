//! The program in the place of `ssh` without a run: linked as `ssh`, and `fakessh ssh`.

use std::os::unix::fs::symlink;

use fakessh_lab::{Lab, Tool, binary};

/// A script of a user who has linked the program as `ssh`. `$F` is the configuration.
fn script(lab: &Lab, text: &str) -> Tool {
    let links = lab.local_dir("links");
    let link = links.join("ssh");
    if !link.exists() {
        symlink(binary::fakessh(), link).unwrap();
    }
    let path = format!("{}:{}", links.display(), fakessh_lab::tool::PATH);
    lab.program(["sh", "-c", text]).env("PATH", path).env("F", lab.config_path())
}

#[test]
fn linked_as_ssh_it_uses_what_is_held_with_fakessh() {
    let lab = Lab::start();
    for _ in 0..2 {
        let done = script(&lab, "ssh -F \"$F\" remote 'cat; exit 3'").input("in\n").run();
        done.expect_status(3).expect_out("in\n").expect_err("");
    }
    script(&lab, "echo one >file; rsync -e \"ssh -F $F\" file remote:").run().expect_status(0);
    assert_eq!(lab.logins(), 1);
    assert_eq!(lab.held(), ["remote"]);
    lab.expect_nothing_left();
}

#[test]
fn linked_as_ssh_it_leaves_to_the_real_one_what_it_can_not_do_with_fakessh() {
    let lab = Lab::start();
    let version = script(&lab, "ssh -V").run().expect_status(0).err();
    assert_eq!(version, lab.program(["ssh", "-V"]).run().expect_status(0).err());
    let done = script(&lab, "ssh -F \"$F\" -X remote 'exit 4'").run();
    done.expect_status(4);
    assert_eq!(lab.logins(), 1, "the real ssh has a login of its own");
    assert_eq!(lab.held(), [""; 0]);
    // A use that is none gets the real one's own words.
    let wrong = script(&lab, "ssh").run();
    let right = lab.program(["ssh"]).run();
    assert_eq!((wrong.code(), wrong.err()), (right.code(), right.err()));
    lab.expect_nothing_left();
}

#[test]
fn fakessh_ssh_is_ssh_through_the_master() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    for _ in 0..2 {
        let words = ["ssh", "-F", &config, "remote", "cat; exit 4"];
        lab.fakessh(words).input("in\n").run().expect_status(4).expect_out("in\n");
    }
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_question_to_a_master_is_one_to_a_control_path_and_connects_nowhere() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    lab.fakessh(["connect", "-F", &config, "remote"]).run().expect_status(0);
    // Nix goes by this.
    let check = ["ssh", "-F", &config, "-O", "check", "remote"];
    let words = "No ControlPath specified for \"-O\" command";
    let done = lab.fakessh(check).run().expect_status(255);
    assert!(done.err().contains(words), "{}", done.shown());
    assert_eq!(lab.logins(), 1);
}

#[test]
fn a_session_that_the_configuration_describes_is_left_to_the_real_one_with_fakessh() {
    let lab = Lab::start();
    for (name, option, out) in [
        ("commanded", "RemoteCommand echo commanded", "commanded\n"),
        ("typed", "SessionType none", ""),
        ("closed", "StdinNull yes", ""),
    ] {
        lab.host_through(name, lab.port(), &[option]);
        // What is not understood must not run the input as a script, nor eat it.
        let command = if name == "closed" { "cat" } else { "" };
        if name != "typed" {
            let line = format!("ssh -F \"$F\" {name} {command}");
            let done = script(&lab, &line).input("echo as a script\n").run();
            done.expect_status(0).expect_out(out);
        }
        let mapped = lab.run([name], ["ssh", name, command]).input("echo as a script\n").run();
        let keyword = option.split(' ').next().unwrap();
        let mapped = mapped.expect_status(255).expect_out("");
        assert!(mapped.err().contains(keyword), "{}", mapped.shown());
    }
    // The command line's own word counts.
    let words = ["ssh", "-oRemoteCommand=none", "commanded", "echo own"];
    lab.run(["commanded"], words).run().expect_status(0).expect_out("own\n");
    lab.expect_nothing_left();
}

#[test]
fn two_dashes_are_ssh_s_with_fakessh() {
    let lab = Lab::start();
    let canary = lab.dir().join("user/canary");
    let option = format!("-oProxyCommand=touch '{}'; exit 1", canary.display());
    lab.fakessh(["ssh", "--", &option, "remote"]).run().expect_status(255).expect_out("");
    assert!(!canary.exists());
    let config = lab.config_path().display().to_string();
    let words = ["ssh", "-F", &config, "--", "remote", "echo", "-l", "x"];
    lab.fakessh(words).run().expect_status(0).expect_out("-l x\n");
    lab.expect_nothing_left();
}
