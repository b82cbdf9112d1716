use std::fs;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// A directory in which ssh-keygen works.
struct Keygen(tempfile::TempDir);

impl Keygen {
    fn new() -> Keygen {
        Keygen(tempfile::tempdir().unwrap())
    }

    fn run(&self, arguments: &[&str]) {
        let ran = Command::new("ssh-keygen").args(arguments).current_dir(self.0.path()).output();
        let ran = ran.expect("starting ssh-keygen");
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn key(&self, name: &str) -> PublicKeyOrCertificate {
        self.run(&["-q", "-t", "ed25519", "-N", "", "-f", name]);
        let text = fs::read_to_string(self.0.path().join(name).with_extension("pub")).unwrap();
        let key = PublicKey::from_openssh(text.trim()).unwrap();
        PublicKeyOrCertificate::PublicKey { key, hash_alg: None }
    }

    /// A certificate for `host`, signed by `ca`, with this serial number and id.
    fn certificate(&self, serial: &str, id: &str) -> PublicKeyOrCertificate {
        let words = ["-q", "-h", "-z", serial, "-I", id, "-n", "h", "-s", "ca", "host.pub"];
        self.run(&words);
        let text = fs::read_to_string(self.0.path().join("host-cert.pub")).unwrap();
        Certificate::from_openssh(text.trim()).unwrap().into()
    }

    /// A list made from what is to be revoked (ssh-keygen(1), KEY REVOCATION LISTS).
    fn list(&self, what: &str) -> Vec<u8> {
        fs::write(self.0.path().join("what"), what).unwrap();
        self.run(&["-q", "-k", "-f", "list", "-s", "ca.pub", "what"]);
        fs::read(self.0.path().join("list")).unwrap()
    }
}

#[test]
fn lists_of_ssh_keygen_revoke_what_they_name() {
    let keygen = Keygen::new();
    let (_ca, host, other) = (keygen.key("ca"), keygen.key("host"), keygen.key("other"));
    let text = |name: &str| fs::read_to_string(keygen.0.path().join(name)).unwrap();
    for how in ["", "key: ", "sha1: ", "sha256: "] {
        let krl = Krl::parse(&keygen.list(&format!("{how}{}", text("host.pub")))).unwrap();
        assert!(krl.revokes(&host) && !krl.revokes(&other), "{how}");
        assert!(krl.revokes(&keygen.certificate("7", "seven")), "{how}");
        let krl = Krl::parse(&keygen.list(&format!("{how}{}", text("ca.pub")))).unwrap();
        assert!(!krl.revokes(&host) && krl.revokes(&keygen.certificate("7", "seven")), "{how}");
    }
}

#[test]
fn certificates_are_revoked_by_their_numbers_and_names() {
    let keygen = Keygen::new();
    let (_ca, host) = (keygen.key("ca"), keygen.key("host"));
    // A lone number, a row, a dense set that becomes a bitmap, and a name.
    let dense: String =
        (1000..1200).step_by(2).map(|serial| format!("serial: {serial}\n")).collect();
    let what = format!("serial: 7\nserial: 100-200\n{dense}id: lost\n");
    let krl = Krl::parse(&keygen.list(&what)).unwrap();
    for (serial, revoked) in [
        ("0", false),
        ("6", false),
        ("7", true),
        ("8", false),
        ("99", false),
        ("100", true),
        ("200", true),
        ("201", false),
        ("999", false),
        ("1000", true),
        ("1001", false),
        ("1198", true),
        ("1199", false),
        ("18446744073709551615", false),
    ] {
        assert_eq!(krl.revokes(&keygen.certificate(serial, "kept")), revoked, "{serial}");
    }
    assert!(krl.revokes(&keygen.certificate("6", "lost")));
    assert!(!krl.revokes(&host));
}

/// A list with these sections.
fn with_sections(sections: &[u8]) -> Vec<u8> {
    [MAGIC, &[0, 0, 0, 1], &[0; 24], &[0; 8], sections].concat()
}

#[test]
fn what_is_not_understood_is_an_error_and_no_empty_list() {
    let error = |sections: &[u8]| Krl::parse(&with_sections(sections)).unwrap_err();
    assert!(Krl::parse(&with_sections(&[])).is_ok());
    assert_eq!(error(&[4, 0, 0, 0, 0]), KrlError::Section(4), "a signature");
    assert_eq!(error(&[2, 0, 0, 0, 5, 0, 0, 0, 2, 1]), KrlError::Malformed);
    assert_eq!(error(&[2, 0, 0, 0, 5, 0, 0, 0]), KrlError::Malformed);
    let extension = |critical| [255, 0, 0, 0, 9, 0, 0, 0, 0, critical, 0, 0, 0, 0];
    assert!(Krl::parse(&with_sections(&extension(0))).is_ok());
    assert_eq!(error(&extension(1)), KrlError::Section(255));
    let mut newer = with_sections(&[]);
    newer[11] = 2;
    assert_eq!(Krl::parse(&newer).unwrap_err(), KrlError::Version(2));
}

proptest! {
    #[test]
    fn no_list_is_too_odd_to_be_read_or_refused(sections: Vec<u8>, cut: prop::sample::Index) {
        let list = with_sections(&sections);
        let _ = Krl::parse(&list);
        let _ = Krl::parse(&list[..cut.index(list.len())]);
        let _ = Krl::parse(&with_sections(&[&[1, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0][..], &sections].concat()));
    }
}
