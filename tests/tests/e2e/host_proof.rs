//! Servers that lie about their host key, and keys that are not good enough: what OpenSSH refuses,
//! we refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fakessh_lab::hostile_sshd::{Face, SERVED, Signs};
use fakessh_lab::{Client, Finished, HostileSshd, Lab, both_clients, wait_until};
use russh::keys::{HashAlg, PublicKey};

const SHA256: Option<HashAlg> = Some(HashAlg::Sha256);
const SHA512: Option<HashAlg> = Some(HashAlg::Sha512);
const SHA1: Option<HashAlg> = None;

/// A directory of keys, and the name `hostile` in the clients' configuration.
struct Keys {
    lab: Lab,
    dir: PathBuf,
}

impl Keys {
    fn new() -> Keys {
        let lab = Lab::start();
        let dir = lab.local_dir("hostile");
        Keys { lab, dir }
    }

    fn keygen(&self, arguments: &[&str]) {
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-q").args(arguments).current_dir(&self.dir);
        let made = keygen.output().expect("starting ssh-keygen");
        assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Makes a key without a passphrase.
    fn key(&self, name: &str, kind: &[&str]) -> PathBuf {
        self.keygen(&[&["-N", "", "-f", name, "-t"], kind].concat());
        self.dir.join(name)
    }

    fn public(&self, key: &str) -> String {
        fs::read_to_string(self.dir.join(key).with_extension("pub")).unwrap()
    }

    /// Records lines about `hostile`, which may begin with a marker.
    fn record(&self, lines: &[(&str, &Path)]) {
        let line = |(marker, key): &(&str, &Path)| {
            let key = fs::read_to_string(key.with_extension("pub")).unwrap();
            format!("{marker}hostile {key}")
        };
        let text: String = lines.iter().map(line).collect();
        fs::write(self.dir.join("known"), text).unwrap();
    }

    /// What a command at a server with this face came to, with these lines of configuration.
    fn visit(&self, client: Client, face: Face, more: &[&str]) -> Finished {
        let server = HostileSshd::start(face);
        let mut lines: Vec<String> = more.iter().map(|&line| line.to_owned()).collect();
        lines.extend([
            "HostName 127.0.0.1".to_owned(),
            format!("Port {}", server.port()),
            "User nobody".to_owned(),
            "HostKeyAlias hostile".to_owned(),
            format!("UserKnownHostsFile {}", self.dir.join("known").display()),
        ]);
        self.lab.host("hostile", &lines);
        self.lab.tool_to(client, "hostile", ["ssh", "hostile", "true"]).run()
    }

    fn refuses(&self, client: Client, face: Face, more: &[&str]) -> String {
        let case = format!("{client:?} {face:?} {more:?}");
        let finished = self.visit(client, face, more);
        let out = String::from_utf8_lossy(&finished.stdout);
        assert!(!out.contains(SERVED), "trusted: {case}");
        let errors = String::from_utf8_lossy(&finished.stderr).into_owned();
        assert_eq!(finished.status.code(), Some(255), "{case}: {errors}");
        errors
    }

    fn trusts(&self, client: Client, face: Face, more: &[&str]) {
        let case = format!("{client:?} {face:?} {more:?}");
        let finished = self.visit(client, face, more);
        let out = String::from_utf8_lossy(&finished.stdout);
        let errors = String::from_utf8_lossy(&finished.stderr);
        assert!(out.contains(SERVED), "not trusted: {case}: {errors}");
    }
}

both_clients! {
    fn who_proves_its_key_as_agreed_is_trusted(client) {
        let keys = Keys::new();
        let (rsa, ed25519) = (keys.key("rsa", &["rsa"]), keys.key("ed25519", &["ed25519"]));
        keys.record(&[("", &rsa), ("", &ed25519)]);
        keys.trusts(client, Face::new(Signs::with_key(&rsa, "rsa-sha2-512", SHA512)), &[]);
        keys.trusts(client, Face::new(Signs::with_key(&rsa, "rsa-sha2-256", SHA256)), &[]);
        let mut face = Face::new(Signs::with_key(&ed25519, "ssh-ed25519", None));
        face.renewed = Some(Signs::with_key(&ed25519, "ssh-ed25519", None));
        keys.trusts(client, face, &[]);
    }

    fn another_signature_than_the_agreed_one_is_no_proof(client) {
        let keys = Keys::new();
        let rsa = keys.key("rsa", &["rsa"]);
        keys.record(&[("", &rsa)]);
        for (agreed, used) in
            [("rsa-sha2-512", SHA1), ("rsa-sha2-256", SHA1), ("rsa-sha2-512", SHA256), ("rsa-sha2-256", SHA512)]
        {
            keys.refuses(client, Face::new(Signs::with_key(&rsa, agreed, used)), &[]);
        }
        // Whom nobody knows yet is not recorded by such a proof.
        fs::write(keys.dir.join("known"), "").unwrap();
        let face = Face::new(Signs::with_key(&rsa, "rsa-sha2-512", SHA1));
        keys.refuses(client, face, &["StrictHostKeyChecking yes"]);
    }

    fn a_key_of_another_kind_than_the_agreed_one_is_refused(client) {
        let keys = Keys::new();
        let (rsa, ed25519) = (keys.key("rsa", &["rsa"]), keys.key("ed25519", &["ed25519"]));
        keys.record(&[("", &rsa), ("", &ed25519)]);
        for hash in [SHA1, SHA512] {
            keys.refuses(client, Face::new(Signs::with_key(&rsa, "ssh-ed25519", hash)), &[]);
        }
        keys.refuses(client, Face::new(Signs::with_key(&ed25519, "rsa-sha2-512", None)), &[]);
        // Nor is the public half of a known key any proof.
        let other = keys.key("other", &["ed25519"]);
        let mut signs = Signs::with_key(&other, "ssh-ed25519", None);
        signs.shown = Signs::with_key(&ed25519, "ssh-ed25519", None).shown;
        keys.refuses(client, Face::new(signs), &[]);
    }

    fn a_certificate_counts_if_its_authority_signed_it_well(client) {
        const OFFERS: &str = "ssh-ed25519-cert-v01@openssh.com";
        let keys = Keys::new();
        let (host, authority) = (keys.key("host", &["ed25519"]), keys.key("ca", &["rsa"]));
        keys.record(&[("@cert-authority ", &authority)]);
        let face = || {
            let signs = Signs::with_key(&host, OFFERS, None);
            Face::new(signs.showing(&keys.dir.join("host-cert.pub")))
        };
        let certify = |names: &str, algorithm| {
            let words = ["-h", "-I", "test", "-n", names, "-s", "ca", "-t", algorithm, "host.pub"];
            keys.keygen(&words);
        };
        certify("hostile", "rsa-sha2-512");
        keys.trusts(client, face(), &[]);
        keys.refuses(client, face(), &["CASignatureAlgorithms ssh-ed25519,rsa-sha2-256"]);
        keys.refuses(client, face(), &["HostKeyAlgorithms ssh-ed25519"]);
        let revoked = keys.dir.join("revoked");
        fs::write(&revoked, keys.public("ca")).unwrap();
        keys.refuses(client, face(), &[&format!("RevokedHostKeys {}", revoked.display())]);
        let mut spoiled = face();
        *spoiled.signs.shown.last_mut().unwrap() ^= 1;
        keys.refuses(client, spoiled, &[]);
        certify("hostile", "ssh-rsa");
        keys.refuses(client, face(), &[]);
    }

    fn what_stands_in_a_certificate_is_not_quoted_before_it_is_verified(client) {
        let keys = Keys::new();
        let (host, authority) = (keys.key("host", &["ed25519"]), keys.key("ca", &["ed25519"]));
        keys.record(&[("@cert-authority ", &authority)]);
        let names = "\x1b]0;owned\x07,elsewhere";
        keys.keygen(&["-h", "-I", "test", "-n", names, "-s", "ca", "host.pub"]);
        let signs = Signs::with_key(&host, "ssh-ed25519-cert-v01@openssh.com", None);
        let mut face = Face::new(signs.showing(&keys.dir.join("host-cert.pub")));
        *face.signs.shown.last_mut().unwrap() ^= 1;
        let errors = keys.refuses(client, face, &[]);
        assert!(!errors.contains("elsewhere") && !errors.contains('\x1b'), "{errors:?}");
    }

    fn an_rsa_key_of_a_host_has_to_be_long_enough(client) {
        let keys = Keys::new();
        let rsa = keys.key("rsa", &["rsa", "-b", "1024"]);
        keys.record(&[("", &rsa)]);
        let face = || Face::new(Signs::with_key(&rsa, "rsa-sha2-512", SHA512));
        keys.trusts(client, face(), &[]);
        keys.refuses(client, face(), &["RequiredRSASize 2048"]);
        // Nor can one be asked for that is shorter than any may be.
        let short = keys.dir.join("short");
        let mut openssl = Command::new("openssl");
        openssl.args(["genrsa", "-traditional", "-out"]).arg(&short).arg("768");
        let made = openssl.output().expect("starting openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let face = Face::new(Signs::with_key(&short, "rsa-sha2-512", SHA512));
        keys.refuses(client, face, &["StrictHostKeyChecking no", "RequiredRSASize 0"]);
    }

    fn a_host_may_have_a_security_key(client) {
        let keys = Keys::new();
        let key = keys.key("token", &["ed25519"]);
        let signs = || Signs::with_key(&key, "ssh-ed25519", None).as_security_key();
        let known = PublicKey::from_bytes(&signs().shown).unwrap().to_openssh().unwrap();
        fs::write(keys.dir.join("known"), format!("hostile {known}\n")).unwrap();
        keys.trusts(client, Face::new(signs()), &[]);
        let mut other = signs();
        other.key = Signs::with_key(&keys.key("other", &["ed25519"]), "ssh-ed25519", None).key;
        keys.refuses(client, Face::new(other), &[]);
        keys.record(&[("", &key)]);
        keys.refuses(client, Face::new(signs()), &[]);
    }

    fn a_further_host_key_is_learned_if_the_server_has_proved_it(client) {
        let keys = Keys::new();
        let known = keys.key("host", &["ed25519"]);
        let (next, rsa) = (keys.key("next", &["ed25519"]), keys.key("rsa", &["rsa"]));
        let used = || Signs::with_key(&known, "ssh-ed25519", None);
        let tell = |signs: Signs| {
            keys.record(&[("", &known)]);
            let mut face = Face::new(used());
            face.announced = vec![used(), signs];
            keys.trusts(client, face, &["UpdateHostKeys yes"]);
        };
        let recorded = || fs::read_to_string(keys.dir.join("known")).unwrap();
        let learned = |key: &str| {
            let key = keys.public(key).split(' ').nth(1).unwrap().to_owned();
            move |text: String| text.contains(&key)
        };
        for (hash, is_proof) in [(SHA512, true), (SHA1, false)] {
            tell(Signs::with_key(&rsa, "rsa-sha2-512", hash));
            match is_proof {
                true => wait_until(|| learned("rsa")(recorded()), "the key was not learned"),
                false => assert!(!learned("rsa")(recorded()), "learned by SHA-1"),
            }
        }
        tell(Signs::with_key(&next, "ssh-ed25519", None));
        wait_until(|| learned("next")(recorded()), "the key was not learned");
        // Somebody else's key, with a signature of the known one.
        let mut signs = used();
        signs.shown = Signs::with_key(&next, "ssh-ed25519", None).shown;
        tell(signs);
        assert!(!learned("next")(recorded()), "learned without a proof");
    }

    fn another_kind_of_key_is_refused_when_keys_are_renewed(client) {
        let keys = Keys::new();
        let (rsa, ed25519) = (keys.key("rsa", &["rsa"]), keys.key("ed25519", &["ed25519"]));
        // The second is not known.
        keys.record(&[("", &ed25519)]);
        let mut face = Face::new(Signs::with_key(&ed25519, "ssh-ed25519", None));
        face.renewed = Some(Signs::with_key(&rsa, "rsa-sha2-512", SHA512));
        keys.refuses(client, face, &[]);
    }

    fn a_cipher_that_is_none_is_not_agreed_on(client) {
        let keys = Keys::new();
        let ed25519 = keys.key("ed25519", &["ed25519"]);
        keys.record(&[("", &ed25519)]);
        let mut face = Face::new(Signs::with_key(&ed25519, "ssh-ed25519", None));
        face.cipher = "none";
        keys.refuses(client, face, &[]);
    }

    fn a_list_of_revoked_keys_counts_on_a_connection_that_is_there(client) {
        let lab = Lab::start();
        let list = lab.dir().join("user/revoked");
        fs::copy(lab.dir().join("server/host_key.pub"), &list).unwrap();
        lab.host_with_key("open", &lab.key(), &[]);
        let line = format!("RevokedHostKeys {}", list.display());
        lab.host_with_key("wary", &lab.key(), &[&line]);
        lab.tool_to(client, "open", ["ssh", "open", "echo in"]).run().expect_out("in\n");
        let wary = lab.tool_to(client, "wary", ["ssh", "wary", "echo in"]).run();
        wary.expect_status(255).expect_out("");
    }

    fn keys_of_the_user_follow_the_same_rules(client) {
        let lab = Lab::start();
        let dir = lab.dir().join("user");
        let key = dir.join(format!("rsa-{client:?}"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        fs::write(lab.dir().join("server/authorized_keys"), public).unwrap();
        for (line, status) in [
            ("PubkeyAcceptedAlgorithms rsa-sha2-256", 0),
            ("PubkeyAcceptedAlgorithms -rsa-sha2-512", 0),
            ("PubkeyAcceptedAlgorithms ssh-ed25519", 255),
            ("PubkeyAcceptedAlgorithms -rsa-*", 255),
            ("RequiredRSASize 1024", 0),
            ("RequiredRSASize 2048", 255),
        ] {
            lab.close_all();
            lab.host_with_key("rules", &key, &[line]);
            let visit = lab.tool_to(client, "rules", ["ssh", "rules", "echo in"]).run();
            assert_eq!(visit.status.code(), Some(status), "{line}: {visit:?}");
        }
    }
}

/// What can't be seen: the library verifies the signature of a later exchange and does not say
/// for which key. The peer is known by then, since only who has the keys of the first exchange can
/// speak in a later one.
#[test]
fn another_key_of_the_same_kind_passes_when_keys_are_renewed() {
    let keys = Keys::new();
    let (key, other) = (keys.key("key", &["ed25519"]), keys.key("other", &["ed25519"]));
    keys.record(&[("", &key)]);
    let face = || {
        let mut face = Face::new(Signs::with_key(&key, "ssh-ed25519", None));
        face.renewed = Some(Signs::with_key(&other, "ssh-ed25519", None));
        face
    };
    keys.refuses(Client::Ssh, face(), &[]);
    keys.trusts(Client::Fakessh, face(), &[]);
}

/// A server that never stops talking: ssh shows all of it.
#[test]
fn a_flood_of_banners_has_an_end_with_fakessh() {
    let keys = Keys::new();
    let key = keys.key("key", &["ed25519"]);
    keys.record(&[("", &key)]);
    let mut face = Face::new(Signs::with_key(&key, "ssh-ed25519", None));
    (face.banners, face.banner) = (20_000, "we have a word to say\n".repeat(20));
    let finished = keys.visit(Client::Fakessh, face, &[]);
    assert!(finished.out().contains(SERVED), "{}", finished.shown());
    let errors = finished.err();
    assert!(errors.len() < 64 * 1024, "{} bytes", errors.len());
    assert!(errors.lines().any(|line| line.contains("not shown")), "{errors}");
}

both_clients! {
    fn a_file_in_the_working_directory_is_not_the_rest_of_another_name(client) {
        let lab = Lab::start();
        let known = fs::read_to_string(lab.known_hosts()).unwrap();
        let (mine, foreign) = (lab.local_dir("My Files"), lab.local_dir("foreign"));
        fs::create_dir(foreign.join("Files")).unwrap();
        let wrong = other_key(&known);
        // The right key lies where a name begins that the other one's second word could be.
        fs::write(mine.join("kh"), &wrong).unwrap();
        fs::write(foreign.join("Files/kh"), &known).unwrap();
        let file = format!("UserKnownHostsFile \"{}\"", mine.join("kh").display());
        lab.host_through("spaced", lab.port(), &[&file]);
        let visit = |directory: &Path| {
            lab.tool_to(client, "spaced", ["ssh", "spaced", "echo in"]).directory(directory).run()
        };
        visit(&foreign).expect_status(255).expect_out("");
        visit(&mine).expect_status(255).expect_out("");
        fs::write(mine.join("kh"), &known).unwrap();
        visit(&mine).expect_status(0).expect_out("in\n");
    }

    fn the_first_of_two_relative_files_counts(client) {
        let lab = Lab::start();
        let known = fs::read_to_string(lab.known_hosts()).unwrap();
        let here = lab.local_dir("here");
        fs::write(here.join("a"), other_key(&known)).unwrap();
        let options = ["UserKnownHostsFile a b", "StrictHostKeyChecking accept-new"];
        lab.host_through("relative", lab.port(), &options);
        let visit = || {
            let tool = lab.tool_to(client, "relative", ["ssh", "relative", "echo in"]);
            tool.directory(&here).run()
        };
        visit().expect_status(255).expect_out("");
        fs::write(here.join("a"), &known).unwrap();
        visit().expect_status(0).expect_out("in\n");
        let names: Vec<_> = fs::read_dir(&here).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["a"]);
    }
}

/// The same hosts with another key.
fn other_key(known: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key);
    assert!(keygen.status().expect("starting ssh-keygen").success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let hosts = known.lines().filter_map(|line| line.split_whitespace().next());
    hosts.map(|host| format!("{host} {public}")).collect()
}
