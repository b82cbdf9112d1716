use std::fs;
use std::os::unix::fs::symlink;

use crate::ssh_config::read_dump;

use super::*;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJD+HVKt7i+DzFKUiBdrL9frK1qWs8uoMpWVaUnZ4gCn";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJOtUA6XwBCdjC/+BnjJAX3uibvD1E8uoTy23Mn4j8Z/";
const E: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDgH73XtrCo6QM\
    LRn0V5J+wIwjDL2psTGb835zu4N+pkRPG69PMcnAe2Q9aSPunarV1+HALbe6TuUkkrjYAeXHE=";

fn key(text: &str) -> PublicKey {
    text.parse().unwrap()
}

/// What follows for `[web1]:22` with these records, if it has shown A and tells of these keys.
fn change(known: &str, told: &[&str]) -> Option<KeyChange> {
    change_with("", known, told)
}

fn change_with(lines: &str, known: &str, told: &[&str]) -> Option<KeyChange> {
    let resolved = read_dump(&format!("hostname web1\n{lines}"), "web1").unwrap();
    let announced = Announced { used: key(A), keys: told.iter().map(|text| key(text)).collect() };
    find(&[known.to_owned()], &resolved, &announced)
}

#[test]
fn new_keys_are_learned_and_old_ones_forgotten() {
    let known = format!("# mine\nweb1 {A}\nweb1 {B}\nother ssh-foo AAAA\n");
    let found = change(&known, &[A, E, E]).unwrap();
    assert_eq!((found.new, found.obsolete), (vec![key(E)], vec![key(B)]));
    assert!(change(&known, &[A, B]).is_none());
    assert_eq!(change(&format!("web1,web2 {A}\n"), &[A, B]).unwrap().new, [key(B)]);
    let hashed = line::hashed_name("web1", [7; 20]).unwrap();
    assert_eq!(change(&format!("{hashed} {A}\n"), &[A, B]).unwrap().new, [key(B)]);
}

#[test]
fn what_somebody_has_written_with_a_purpose_is_left_alone() {
    for known in [
        // A marker, and patterns.
        format!("web1 {A}\n@cert-authority * {B}\n"),
        format!("web1 {A}\n@revoked web1 {B}\n"),
        format!("web* {A}\n"),
        format!("web1 {A}\n*,!web2 {A}\n"),
        // Keys that have other names, too.
        format!("web1 {A}\nother {A}\n"),
        format!("web1 {A}\nother {E}\n"),
        format!("web1 {A}\nweb1 {B}\nother {B}\n"),
        format!("web1 {A}\nweb1,other {B}\n"),
        // It is not by these records that the host was believed.
        format!("web1 {B}\n"),
        format!("other {B}\n"),
        String::new(),
    ] {
        let found = change(&known, &[A, E]);
        assert!(found.is_none(), "{known}: {found:?}");
    }
    // A server that does not tell of the key that it uses is not taken at its word.
    assert!(change(&format!("web1 {A}\n"), &[E]).is_none());
    assert!(change(&format!("web1 {A}\n"), &[]).is_none());
    // The port belongs to the name.
    assert!(change_with("port 2222\n", &format!("web1 {A}\n"), &[A, E]).is_none());
    let known = format!("[web1]:2222 {A}\n");
    assert!(change_with("port 2222\n", &known, &[A, E]).is_some());
}

#[test]
fn only_kinds_of_keys_that_are_allowed_are_learned() {
    let lines = "hostkeyalgorithms ssh-ed25519\n";
    assert!(change_with(lines, &format!("web1 {A}\n"), &[A, E]).is_none());
    let found = change_with(lines, &format!("web1 {A}\n"), &[A, B, E]).unwrap();
    assert_eq!(found.new, [key(B)]);
    // What the server has and the list leaves out is not forgotten.
    assert!(change_with(lines, &format!("web1 {A}\nweb1 {E}\n"), &[A, E]).is_none());
}

#[test]
fn other_lines_stay_as_they_are_and_links_stay_links() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("real"), directory.path().join("known"));
    let second = directory.path().join("second");
    let kept = "# \u{e4}\n\n  other   ssh-foo\tx \n";
    fs::write(
        &file,
        [kept.as_bytes(), b"\xff\n", format!("web1 {A} me\nweb1 {B}").as_bytes()].concat(),
    )
    .unwrap();
    fs::write(&second, format!("web1 {B}\n@revoked web1 {B}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    symlink(&file, &link).unwrap();
    let before = fs::read(&file).unwrap();
    let files = format!("userknownhostsfile {} {}", link.display(), second.display());
    let resolved = read_dump(&format!("hostname web1\n{files}\n"), "web1").unwrap();
    let change = KeyChange { new: vec![key(E)], obsolete: vec![key(B)] };
    change.write(&resolved).unwrap();
    let expected =
        [kept.as_bytes(), b"\xff\n", format!("web1 {A} me\nweb1 {E}\n").as_bytes()].concat();
    assert_eq!(fs::read(&file).unwrap(), expected);
    assert!(link.is_symlink());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(directory.path().join("real.old")).unwrap(), before);
    assert_eq!(fs::read_to_string(&second).unwrap(), format!("@revoked web1 {B}\n"));
    // Once more changes nothing.
    change.write(&resolved).unwrap();
    assert_eq!(fs::read(&file).unwrap(), expected);
}
