//! `KnownHostsCommand`: a program that says which keys a host may show.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use fakessh_lab::files::{keygen, write_script};
use fakessh_lab::{Client, Finished, Lab, both_clients};

/// A lab whose `known_hosts` is empty, with a program that answers for it.
struct Asked {
    lab: Lab,
    dir: PathBuf,
}

impl Asked {
    /// The program is this shell script. `$DIR` is a directory for its files, which holds the
    /// host's public key as `key`.
    fn new(script: &str) -> Asked {
        let lab = Lab::start();
        let dir = lab.local_dir("asked");
        fs::write(lab.known_hosts(), "").unwrap();
        fs::copy(lab.dir().join("server/host_key.pub"), dir.join("key")).unwrap();
        let asked = Asked { lab, dir };
        asked.program(script);
        asked
    }

    fn program(&self, script: &str) {
        let text = format!("#!/bin/sh\nDIR='{}'\n{script}\n", self.dir.display());
        write_script(&self.dir.join("keys"), &text);
    }

    /// What a session of a host comes to that has this command, with `$KEYS` for the program, and
    /// these lines.
    fn visit(&self, client: Client, command: &str, more: &[&str]) -> Finished {
        if client == Client::Fakessh {
            self.lab.close_all();
        }
        let command = command.replace("$KEYS", &self.dir.join("keys").to_string_lossy());
        let command = format!("KnownHostsCommand {command}");
        self.lab.host_through("asked", self.lab.port(), &[&[&*command], more].concat());
        let tool = self.lab.tool_to(client, "asked", ["ssh", "asked", "echo in"]);
        tool.env("WHO", "me").directory(&self.dir).run()
    }

    fn noted(&self) -> String {
        fs::read_to_string(self.dir.join("noted")).unwrap_or_default()
    }
}

/// Says the key of whom it is asked about, which is its second argument.
const HONEST: &str = "echo \"$2 $(cat $DIR/key)\"";

both_clients! {
    fn it_is_asked_before_and_about_the_key_with_all_of_its_tokens(client) {
        let note = "{ printf '[%s]' \"$@\"; echo; echo \"$WHO $(pwd)\"; readlink /proc/self/fd/0; } \
                    >> $DIR/noted; ";
        let asked = Asked::new(&format!("{note}{HONEST}"));
        let command = "$KEYS %I %H %h %t %f %n %p %r %u %i %k %% \"a b\" 'c d' e\\ f x\"y z\" \"\" \
                       ${WHO}%n \\\" $1 ~ %K";
        asked.visit(client, command, &[]).expect_status(0).expect_out("in\n");
        let key = fs::read_to_string(asked.dir.join("key")).unwrap();
        let blob = key.split(' ').nth(1).unwrap();
        let print = Command::new("ssh-keygen").arg("-lf").arg(asked.dir.join("key")).output().unwrap();
        let print = String::from_utf8(print.stdout).unwrap();
        let print = print.split(' ').nth(1).unwrap();
        let (port, account) = (asked.lab.port(), &asked.lab.account().name);
        let id = |option| {
            let id = Command::new("id").arg(option).output().unwrap();
            String::from_utf8(id.stdout).unwrap().trim().to_owned()
        };
        let (user, number) = (id("-un"), id("-u"));
        let rest = format!(
            "[asked][{port}][{account}][{user}][{number}][fakessh-lab][%][a b][c d][e f][xy z][]\
             [measked][\"][$1][~]"
        );
        let place = format!("me {}\n/dev/null\n", asked.dir.display());
        let expected = format!(
            "[ORDER][127.0.0.1][127.0.0.1][NONE][NONE]{rest}[NONE]\n{place}\
             [HOSTNAME][fakessh-lab][127.0.0.1][ssh-ed25519][{print}]{rest}[{blob}]\n{place}"
        );
        assert_eq!(asked.noted(), expected);
    }

    fn who_has_chosen_the_kinds_of_keys_is_not_asked_for_them(client) {
        let asked = Asked::new(&format!("echo $1 >> $DIR/noted; {HONEST}"));
        let visit = asked.visit(client, "$KEYS %I %H", &["HostKeyAlgorithms ssh-ed25519"]);
        visit.expect_status(0).expect_out("in\n");
        assert_eq!(asked.noted(), "HOSTNAME\n");
    }

    fn it_adds_to_the_files_and_revokes(client) {
        let asked = Asked::new(HONEST);
        keygen(&asked.dir.join("other"));
        let other = fs::read_to_string(asked.dir.join("other.pub")).unwrap();
        fs::write(asked.lab.known_hosts(), format!("fakessh-lab {other}")).unwrap();
        asked.visit(client, "$KEYS %I %H", &[]).expect_status(0).expect_out("in\n");
        // What is known to the files alone does not count against what it revokes.
        asked.program("echo \"@revoked * $(cat $DIR/key)\"");
        asked.lab.trust_host_key();
        asked.visit(client, "$KEYS %I %H", &[]).expect_status(255).expect_out("");
        // It says nothing, or the key of another host.
        fs::write(asked.lab.known_hosts(), "").unwrap();
        asked.program("");
        asked.visit(client, "$KEYS %I %H", &[]).expect_status(255).expect_out("");
        asked.program("echo \"elsewhere $(cat $DIR/key)\"");
        asked.visit(client, "$KEYS %I %H", &[]).expect_status(255).expect_out("");
        assert_eq!(fs::read_to_string(asked.lab.known_hosts()).unwrap(), "");
    }

    fn a_command_that_fails_is_the_end_of_it(client) {
        let asked = Asked::new(HONEST);
        // Known it is, and yet it is not reached: the command could have revoked it.
        asked.lab.trust_host_key();
        for (script, words) in [
            (&*format!("{HONEST}; exit 3"), "status 3"),
            (&format!("{HONEST}; kill -9 $$"), "signal 9"),
        ] {
            asked.program(script);
            let visit = asked.visit(client, "$KEYS %I %H", &[]).expect_status(255).expect_out("");
            assert!(visit.err().contains("KnownHostsCommand failed"), "{}", visit.shown());
            assert!(visit.err().contains(words), "{}", visit.shown());
        }
        asked.program(HONEST);
        for unclear in ["$KEYS %I %H %Z", "$KEYS %I %H ${NOT_SET}"] {
            asked.visit(client, unclear, &[]).expect_status(255).expect_out("");
        }
    }

    fn a_host_that_is_known_by_a_program_without_a_full_name_is_not_known(client) {
        let asked = Asked::new(HONEST);
        let visit = |command| asked.visit(client, command, &[]).expect_status(255).expect_out("");
        visit("keys %I %H");
        visit("/no/such/program %I %H");
    }

    fn an_authority_may_be_named_by_it(client) {
        let asked = Asked::new(HONEST);
        let keygen = |words: &[&str]| {
            let done = Command::new("ssh-keygen").args(words).current_dir(&asked.dir).output();
            assert!(done.unwrap().status.success(), "{words:?}");
        };
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
        fs::copy(asked.lab.dir().join("server/host_key.pub"), asked.dir.join("host.pub")).unwrap();
        keygen(&["-q", "-s", "ca", "-h", "-I", "lab", "-n", "fakessh-lab", "host.pub"]);
        let other = Lab::builder()
            .sshd(&format!("HostKey {}/server/host_key", asked.lab.dir().display()))
            .sshd(&format!("HostCertificate {}/host-cert.pub", asked.dir.display()))
            .start();
        asked.program("echo $3 >> $DIR/noted; echo \"@cert-authority * $(cat $DIR/ca.pub)\"");
        fs::write(other.known_hosts(), "").unwrap();
        let command = format!("KnownHostsCommand {}/keys %I %H %t", asked.dir.display());
        other.host_through("asked", other.port(), &[&command]);
        let visit = other.tool_to(client, "asked", ["ssh", "asked", "echo in"]).run();
        visit.expect_status(0).expect_out("in\n");
        assert_eq!(asked.noted(), "NONE\nssh-ed25519-cert-v01@openssh.com\n");
    }
}

#[test]
fn a_command_that_does_not_stop_printing_is_stopped_with_fakessh() {
    let asked = Asked::new("exec yes");
    let visit = asked.visit(Client::Fakessh, "$KEYS", &[]);
    visit.expect_fault(255, &["KnownHostsCommand failed", "printed more than"]);
    asked.lab.expect_nothing_left();
}

/// What it prints to its standard error is shown as what others say is.
#[test]
fn a_command_speaks_in_its_own_name_with_fakessh() {
    let asked = Asked::new(&format!("printf 'look \\033[1mhere\\n' >&2; {HONEST}"));
    let visit = asked.visit(Client::Fakessh, "$KEYS %I %H", &[]).expect_status(0);
    let said = visit.err();
    assert!(said.contains("KnownHostsCommand of asked says: look"), "{said}");
    assert!(!said.contains('\x1b'), "{said}");
}
