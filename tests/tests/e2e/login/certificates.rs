//! A user's certificates, and servers that want more than one proof.

use std::fs;
use std::path::{Path, PathBuf};

use fakessh_lab::account::PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Client, Lab, LabBuilder, both_clients};

use super::keygen;

/// A lab that trusts an authority for users.
struct Certified {
    lab: Lab,
    dir: PathBuf,
}

impl Certified {
    fn new(builder: LabBuilder) -> Certified {
        let lab = builder.sshd("TrustedUserCAKeys $LAB/user/keys/ca.pub").start();
        let dir = lab.local_dir("keys");
        keygen(&dir, &["-t", "ed25519", "-N", "", "-f", "ca"]);
        Certified { lab, dir }
    }

    /// Makes a key without a passphrase.
    fn key(&self, name: &str, options: &[&str]) -> PathBuf {
        keygen(&self.dir, &[&["-t", "ed25519", "-N", "", "-f", name], options].concat());
        self.dir.join(name)
    }

    /// Has the authority sign a key, with further options.
    fn certify(&self, key: &str, options: &[&str]) -> PathBuf {
        let (account, public) = (&self.lab.account().name, format!("{key}.pub"));
        let words = ["-s", "ca", "-I", "test", "-n", account];
        keygen(&self.dir, &[&words, options, &[&public]].concat());
        self.dir.join(format!("{key}-cert.pub"))
    }

    fn authorize(&self, keys: &[&Path]) {
        let public = |key: &&Path| fs::read_to_string(key.with_extension("pub")).unwrap();
        let text: String = keys.iter().map(public).collect();
        fs::write(self.lab.dir().join("server/authorized_keys"), text).unwrap();
    }

    fn visit(&self, client: Client, key: &Path, more: &[&str]) -> fakessh_lab::Finished {
        if client == Client::Fakessh {
            self.lab.close_all();
        }
        self.lab.host_with_key("certified", key, more);
        self.lab.tool_to(client, "certified", ["ssh", "certified", "echo in"]).run()
    }
}

both_clients! {
    fn a_certificate_may_stand_in_the_place_of_the_public_key(client) {
        let lab = Certified::new(Lab::builder());
        let key = lab.key("key", &[]);
        fs::rename(lab.certify("key", &[]), key.with_extension("pub")).unwrap();
        lab.visit(client, &key, &[]).expect_status(0).expect_out("in\n");
        // Its key is not tried without it.
        let log = lab.lab.log().text();
        assert!(!log.contains("Failed publickey"), "{log}");
    }

    fn named_certificates_are_instead_of_those_beside_the_keys(client) {
        let lab = Certified::new(Lab::builder());
        let key = lab.key("key", &[]);
        let beside = lab.certify("key", &[]);
        lab.visit(client, &key, &[]).expect_status(0).expect_out("in\n");
        let other = format!("CertificateFile {}/none", lab.dir.display());
        lab.visit(client, &key, &[&other]).expect_status(255).expect_out("");
        let named = format!("CertificateFile {}", beside.display());
        lab.visit(client, &key, &[&named]).expect_status(0).expect_out("in\n");
    }

    fn a_certificate_that_has_expired_opens_no_door(client) {
        let lab = Certified::new(Lab::builder());
        let key = lab.key("key", &[]);
        lab.certify("key", &["-V", "20200101:20200102"]);
        let refused = lab.visit(client, &key, &[]).expect_status(255).expect_out("");
        if client == Client::Fakessh {
            refused.expect_fault(255, &["key-cert.pub (it has expired", "Permission denied (publickey)."]);
        }
        // The key counts by itself nevertheless.
        lab.authorize(&[&key]);
        lab.visit(client, &key, &[]).expect_status(0).expect_out("in\n");
    }

    fn two_keys_may_be_wanted(client) {
        let lab = Certified::new(Lab::builder().sshd("AuthenticationMethods publickey,publickey"));
        let [foreign, one, two] = ["foreign", "one", "two"].map(|name| lab.key(name, &[]));
        lab.authorize(&[&one, &two]);
        let named = |key: &Path| format!("IdentityFile {}", key.display());
        let others = [named(&foreign), named(&one)];
        let others = others.each_ref().map(String::as_str);
        lab.visit(client, &two, &others).expect_status(0).expect_out("in\n");
        // One of them twice is not enough.
        lab.authorize(&[&one]);
        lab.visit(client, &one, &[]).expect_status(255).expect_out("");
    }

    fn a_key_and_a_password_may_be_wanted(client) {
        if !root_for("an account with a password") {
            return;
        }
        for methods in ["publickey,password", "password,publickey"] {
            let builder = Lab::builder().password().sshd("PubkeyAuthentication yes");
            let lab = builder.sshd(&format!("AuthenticationMethods {methods}")).start();
            lab.host_with_key("both", &lab.key(), &[]);
            let askpass = Askpass::new(&lab, "password", &["wrong", PASSWORD]);
            let tool = lab.tool_to(client, "both", ["ssh", "both", "echo in"]);
            askpass.for_tool(tool).run().expect_status(0).expect_out("in\n");
            assert_eq!(askpass.count(), 2, "{methods}: {}", askpass.asked());
        }
    }
}

/// ssh offers them all, and is thrown out.
#[test]
fn certificates_that_can_not_open_a_door_use_up_no_tries_with_fakessh() {
    let lab = Certified::new(Lab::builder().sshd("MaxAuthTries 2"));
    let key = lab.key("key", &[]);
    lab.authorize(&[&key]);
    let mut files = Vec::new();
    for number in 0..4 {
        let name = format!("old{number}");
        lab.key(&name, &[]);
        let kind: &[&str] = if number == 0 { &["-h"] } else { &["-V", "20200101:20200102"] };
        files.push(format!("CertificateFile {}", lab.certify(&name, kind).display()));
        files.push(format!("IdentityFile {}/{name}", lab.dir.display()));
    }
    files.retain(|line| !line.starts_with("IdentityFile"));
    let lines: Vec<&str> = files.iter().map(String::as_str).collect();
    lab.visit(Client::Fakessh, &key, &lines).expect_status(0).expect_out("in\n");
    lab.authorize(&[]);
    let refused = lab.visit(Client::Fakessh, &key, &lines);
    refused
        .expect_fault(255, &["old0-cert.pub (it is a host's certificate", "old3-cert.pub (it has"]);
}
