//! Secrets that were typed are not in the master's memory after they have done their work.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Lab};

/// A password that is nowhere else: not in a file that the master reads, and not in a test's name.
const SECRET: &str = "kTq4-Zw9x-Vb2p";

/// Where in a process's memory these bytes stand: the mapping, and what surrounds them.
fn found_in(pid: i32, secret: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the master's maps");
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("the master's memory");
    let mut found = Vec::new();
    let mut bytes = Vec::new();
    for mapping in maps.lines() {
        let (range, rest) = mapping.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        // Some of the kernel's own can't be read.
        if !rest.starts_with("rw") || memory.seek(SeekFrom::Start(from)).is_err() {
            continue;
        }
        bytes.resize(usize::try_from(to - from).unwrap(), 0);
        if memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        for at in 0..bytes.len().saturating_sub(secret.len()) {
            if bytes[at..].starts_with(secret) {
                let end = (at + secret.len() + 16).min(bytes.len());
                let around = &bytes[at.saturating_sub(64)..end];
                found.push(format!("{mapping}: {}", around.escape_ascii()));
            }
        }
    }
    found
}

#[track_caller]
fn expect_forgotten(lab: &Lab, secret: impl AsRef<[u8]>) {
    let master = lab.master();
    let found = found_in(i32::try_from(master.pid).unwrap(), secret.as_ref());
    assert!(found.is_empty(), "{} copies: {found:#?}", found.len());
}

/// Gets in with answers to what is asked, and looks for the last of them.
fn forgets(lab: &Lab, destination: &str, answers: &[&str]) {
    let askpass = Askpass::new(lab, "secret", answers);
    let run = lab.run([destination], ["ssh", "remote", "echo in"]);
    askpass.for_tool(run).run().expect_status(0).expect_out("in\n");
    assert_eq!(askpass.count(), answers.len(), "{}", askpass.asked());
    expect_forgotten(lab, SECRET);
    // What was searched is the memory that was meant.
    let account = &lab.account().name;
    let master = i32::try_from(lab.master().pid).unwrap();
    assert!(!found_in(master, account.as_bytes()).is_empty(), "the search finds nothing");
}

#[test]
fn a_password_is_forgotten_with_fakessh() {
    if root_for("an account with a password") {
        let lab = Lab::builder().password().account_password(SECRET).start();
        forgets(&lab, "remote", &["wrong", SECRET]);
    }
}

#[test]
fn an_answer_to_a_servers_question_is_forgotten_with_fakessh() {
    if root_for("an account with a password, checked by PAM") {
        let lab = Lab::builder()
            .password()
            .pam()
            .account_password(SECRET)
            .sshd("PasswordAuthentication no")
            .sshd("KbdInteractiveAuthentication yes")
            .start();
        forgets(&lab, "remote", &[SECRET]);
    }
}

/// The secret half of a key without a passphrase.
fn seed(key: &Path) -> [u8; 32] {
    let key = russh::keys::load_secret_key(key, None).expect("a private key");
    key.key_data().ed25519().expect("an Ed25519 key").private.to_bytes()
}

#[test]
fn a_passphrase_and_its_key_are_forgotten_with_fakessh() {
    let lab = Lab::start();
    let seed = seed(&lab.key());
    let changed = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", SECRET, "-f"])
        .arg(lab.key())
        .stdout(Stdio::null())
        .status();
    assert!(changed.unwrap().success());
    forgets(&lab, "remote", &[SECRET]);
    expect_forgotten(&lab, seed);
}

#[test]
fn a_key_without_a_passphrase_is_forgotten_with_fakessh() {
    let lab = Lab::start();
    let seed = seed(&lab.key());
    lab.run(["remote"], ["ssh", "remote", "echo in"]).run().expect_status(0).expect_out("in\n");
    expect_forgotten(&lab, seed);
    // The file, from where the secret half begins in it.
    let text = fs::read_to_string(lab.key()).unwrap();
    expect_forgotten(&lab, text.lines().nth(3).expect("a fourth line"));
}

#[test]
fn the_password_of_a_hop_is_forgotten_with_fakessh() {
    if root_for("rules of sudo") {
        let lab = Lab::builder()
            .account_password(SECRET)
            .etc("sudoers.d/lab", "Defaults requiretty\n$ACCOUNT ALL=(ALL) ALL\n")
            .start();
        forgets(&lab, "remote+sudo", &[SECRET]);
    }
}
