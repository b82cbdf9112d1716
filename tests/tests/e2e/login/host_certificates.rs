//! Certificates of hosts, and lists of keys that are revoked.

use std::fs;
use std::path::{Path, PathBuf};

use fakessh_lab::{Client, Finished, Lab, both_clients};

use super::keygen;

/// A server that shows a certificate with the serial number 7, and the authority's key as `ca`.
struct Certified {
    lab: Lab,
    dir: PathBuf,
}

impl Certified {
    fn new() -> Certified {
        let lab = Lab::builder().sshd("HostCertificate $LAB/server/host_key-cert.pub").start();
        let dir = lab.local_dir("authority");
        for name in ["ca", "other"] {
            keygen(&dir, &["-t", "ed25519", "-N", "", "-f", name]);
        }
        let certified = Certified { lab, dir };
        certified.certify(&[]);
        certified
    }

    fn certify(&self, options: &[&str]) {
        let server = self.lab.dir().join("server");
        let authority = self.dir.join("ca").display().to_string();
        let words = ["-s", &authority, "-h", "-I", "lab", "-z", "7", "-n", "fakessh-lab"];
        keygen(&server, &[&words, options, &["host_key.pub"]].concat());
        let port = self.lab.stop_server();
        self.lab.restart_server(port);
    }

    fn host_key(&self) -> String {
        public(&self.lab.dir().join("server/host_key"))
    }

    /// Lines about the host, which may begin with a marker.
    fn know(&self, lines: &[(&str, &str)]) {
        let line = |(marker, key): &(&str, &str)| format!("{marker}fakessh-lab {key}");
        fs::write(self.lab.known_hosts(), lines.iter().map(line).collect::<String>()).unwrap();
    }

    fn visit(&self, client: Client, more: &[&str]) -> Finished {
        if client == Client::Fakessh {
            self.lab.close_all();
        }
        self.lab.host_with_key("certified", &self.lab.key(), more);
        self.lab.tool_to(client, "certified", ["ssh", "certified", "echo in"]).run()
    }

    fn trusts(&self, client: Client, more: &[&str]) {
        self.visit(client, more).expect_status(0).expect_out("in\n");
    }

    fn refuses(&self, client: Client, more: &[&str]) {
        self.visit(client, more).expect_status(255).expect_out("");
    }
}

fn public(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).unwrap()
}

both_clients! {
    fn a_certificate_that_nobody_known_has_signed_counts_as_its_key(client) {
        let certified = Certified::new();
        let (authority, other) = (public(&certified.dir.join("ca")), public(&certified.dir.join("other")));
        certified.know(&[("@cert-authority ", &authority)]);
        certified.trusts(client, &[]);
        certified.know(&[("@cert-authority ", &other)]);
        certified.refuses(client, &[]);
        certified.know(&[("@cert-authority ", &other), ("", &certified.host_key())]);
        certified.trusts(client, &[]);
        certified.know(&[("@cert-authority ", &other), ("", &other)]);
        certified.refuses(client, &[]);
    }

    fn a_certificate_that_has_expired_counts_as_its_key(client) {
        let certified = Certified::new();
        certified.certify(&["-V", "20200101:20200102"]);
        let authority = public(&certified.dir.join("ca"));
        certified.know(&[("@cert-authority ", &authority)]);
        certified.refuses(client, &[]);
        certified.know(&[("@cert-authority ", &authority), ("", &certified.host_key())]);
        certified.trusts(client, &[]);
    }

    fn a_list_of_lines_revokes_keys_authorities_and_the_keys_in_certificates(client) {
        let certified = Certified::new();
        let authority = public(&certified.dir.join("ca"));
        certified.know(&[("@cert-authority ", &authority)]);
        let list = certified.dir.join("list");
        let option = format!("RevokedHostKeys {}", list.display());
        let other = public(&certified.dir.join("other"));
        let write = |line: &str| {
            fs::write(&list, format!("# revoked\n\n{other}{line}")).unwrap();
        };
        write("");
        certified.trusts(client, &[&option]);
        // An unreadable line might have revoked the key, so nothing is trusted any more.
        write("no key at all\n");
        certified.refuses(client, &[&option]);
        write(&certified.host_key());
        certified.refuses(client, &[&option]);
        write(&authority);
        certified.refuses(client, &[&option]);
        let certificate = certified.lab.dir().join("server/host_key-cert.pub");
        let certificate = fs::read_to_string(certificate).unwrap();
        write(&certificate);
        certified.refuses(client, &[&option]);
        write(&format!("  {}", certificate.replacen(' ', "   ", 1)));
        certified.refuses(client, &[&option]);
        // The key is revoked without its certificate, too.
        certified.know(&[("", &certified.host_key())]);
        certified.refuses(client, &[&option]);
    }

    fn a_binary_list_revokes_keys_and_numbers_of_certificates(client) {
        let certified = Certified::new();
        let authority = public(&certified.dir.join("ca"));
        certified.know(&[("@cert-authority ", &authority)]);
        let option = format!("RevokedHostKeys {}/krl", certified.dir.display());
        let list = |words: &[&str], text: &str| {
            fs::write(certified.dir.join("revoke"), text).unwrap();
            keygen(&certified.dir, &[&["-k", "-f", "krl"], words, &["revoke"]].concat());
        };
        list(&["-s", "ca.pub"], "serial: 1-6\nserial: 8\nid: someone\n");
        certified.trusts(client, &[&option]);
        list(&["-s", "ca.pub"], "serial: 5-9\n");
        certified.refuses(client, &[&option]);
        list(&["-s", "ca.pub"], "id: lab\n");
        certified.refuses(client, &[&option]);
        list(&[], &format!("sha256: {}", certified.host_key()));
        certified.refuses(client, &[&option]);
        list(&[], &public(&certified.dir.join("other")));
        certified.trusts(client, &[&option]);
        let damaged = fs::read(certified.dir.join("krl")).unwrap();
        fs::write(certified.dir.join("krl"), &damaged[..damaged.len() - 3]).unwrap();
        certified.refuses(client, &[&option]);
    }
}
