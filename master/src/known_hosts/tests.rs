use std::time::Duration;

use proptest::prelude::*;

use super::*;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJD+HVKt7i+DzFKUiBdrL9frK1qWs8uoMpWVaUnZ4gCn";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJOtUA6XwBCdjC/+BnjJAX3uibvD1E8uoTy23Mn4j8Z/";
const E: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDgH73XtrCo6QM\
    LRn0V5J+wIwjDL2psTGb835zu4N+pkRPG69PMcnAe2Q9aSPunarV1+HALbe6TuUkkrjYAeXHE=";
const AUTHORITY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKg914HdHGDn91gwt2Qssbi6KfMkPBIhxXK1vOA6ubXQ";
/// B, signed by AUTHORITY for web1 and *.example.net, from 2020 to 2030.
const B_CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAI\
    FyObBFFX7vZTflucKxF3+Gf3ibv8PIGQvylvC+1HVVzAAAAIJOtUA6XwBCdjC/+BnjJAX3uibvD1E8uoTy23Mn\
    4j8Z/AAAAAAAAAAAAAAACAAAAAmlkAAAAGQAAAAR3ZWIxAAAADSouZXhhbXBsZS5uZXQAAAAAXgvhAAAAAABw2\
    9iAAAAAAAAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACCoPdeB3Rxg5/dYMLdkLLG4uinzJDwSIcVytbz\
    gOrm10AAAAFMAAAALc3NoLWVkMjU1MTkAAABAl7ZpJ/2bZaiicvkshBecmLLzVQxZRadg3QBp9zvDo2TvZSHFZ\
    g9OFk/l87RnNAJUr7YrMmQWDtC2Ek0GYprNDw==";
/// An RSA key of 1024 bits.
const SHORT_RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDGQDbBH49fTPfnIiskbznUw6jmaN4qc1l67qyTHDeHhIkPfNUG\
    zGNYFhAs3lFFjm1V87vS8cHDPuMQwhARZBIEwaj5whWsM/UFBo4B70IeAzKzQSylWud2oxMFY+z7a7dgvSMGNiJL\
    o7trKdgxwjpHYo33F4CxQp6xl5GlvhXbyw==";
/// Names hashed by `ssh-keygen -H`: web1 and [web1]:2222.
const HASHED_WEB1: &str = "|1|XTD3ZaZ5QLMPQ41eDrvnaVFO6hw=|dn4Kyy04FOYjokuCKEo3dKfjbT8=";
const HASHED_WEB1_2222: &str = "|1|BY61i9ErYwkiCy8ceBqDwS1lvwc=|F2Of/lKkzhXKJhlHRPyy52MZ46k=";

fn key(text: &str) -> PublicKeyOrCertificate {
    let key = PublicKey::from_openssh(text).unwrap();
    PublicKeyOrCertificate::PublicKey { key, hash_alg: None }
}

fn certificate() -> PublicKeyOrCertificate {
    PublicKeyOrCertificate::Certificate(Certificate::from_openssh(B_CERTIFICATE).unwrap())
}

/// Seconds from 1970 to a day of 2025.
fn in_2025() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

fn check(text: &str, host: &str, port: u16, shown: &PublicKeyOrCertificate) -> Verdict {
    let records = KnownHosts::new(vec![("first".into(), text.into())]);
    records.check(&HostName::new(host, port, None), shown, in_2025())
}

fn place(file: &str, line: usize) -> Place {
    Place { file: file.into(), line: Some(line) }
}

#[test]
fn a_recorded_key_is_trusted_and_any_other_is_a_change() {
    let text = format!("# comment\n\nother {E}\nweb1,10.0.0.1 {A} a comment # with a hash\n");
    assert_eq!(check(&text, "WEB1", 22, &key(A)), Verdict::Trusted);
    assert_eq!(check(&text, "10.0.0.1", 22, &key(A)), Verdict::Trusted);
    assert_eq!(check(&text, "web1", 22, &key(B)), Verdict::Changed(place("first", 4)));
    // A key of another kind is a change, too: else who sits between would only have to offer one.
    assert_eq!(check(&text, "web1", 22, &key(E)), Verdict::Changed(place("first", 4)));
    assert_eq!(check(&text, "web2", 22, &key(A)), Verdict::Unknown);
}

#[test]
fn one_of_several_recorded_keys_is_enough_in_any_file() {
    let files = vec![("a".into(), format!("web1 {A}\n")), ("b".into(), format!("web1\t{B}"))];
    let records = KnownHosts::new(files);
    let name = HostName::new("web1", 22, None);
    assert_eq!(records.check(&name, &key(B), in_2025()), Verdict::Trusted);
    assert_eq!(records.check(&name, &key(E), in_2025()), Verdict::Changed(place("a", 1)));
}

#[test]
fn ports_have_records_of_their_own_and_fall_back_to_the_bare_name() {
    let text = format!("[web1]:2222 {A}\nweb1 {B}\n");
    assert_eq!(check(&text, "web1", 2222, &key(A)), Verdict::Trusted);
    assert_eq!(check(&text, "web1", 2222, &key(B)), Verdict::Changed(place("first", 1)));
    assert_eq!(check(&text, "web1", 22, &key(A)), Verdict::Changed(place("first", 2)));
    assert_eq!(check(&text, "web1", 2223, &key(B)), Verdict::Trusted);
    assert_eq!(check(&text, "web1", 2223, &key(A)), Verdict::Unknown);
}

#[test]
fn hashed_names_match() {
    let text = format!("{HASHED_WEB1} {A}\n{HASHED_WEB1_2222} {B}\n");
    assert_eq!(check(&text, "web1", 22, &key(A)), Verdict::Trusted);
    assert_eq!(check(&text, "web1", 2222, &key(B)), Verdict::Trusted);
    assert_eq!(check(&text, "web1", 22, &key(B)), Verdict::Changed(place("first", 1)));
    assert_eq!(check(&text, "web2", 22, &key(A)), Verdict::Unknown);
}

#[test]
fn wildcards_and_negations_match() {
    let text = format!("*.example.net,!test.* {A}\n[10.0.0.?]:2222 {B}\n");
    assert_eq!(check(&text, "web.example.net", 22, &key(A)), Verdict::Trusted);
    assert_eq!(check(&text, "test.example.net", 22, &key(A)), Verdict::Unknown);
    assert_eq!(check(&text, "10.0.0.7", 2222, &key(B)), Verdict::Trusted);
}

#[test]
fn a_revoked_key_is_refused_even_where_it_is_recorded() {
    let text = format!("web1 {A}\n@revoked * {A}\n@revoked web1 {AUTHORITY}\n");
    assert_eq!(check(&text, "web1", 22, &key(A)), Verdict::Revoked(place("first", 2)));
    assert_eq!(check(&text, "web1", 22, &certificate()), Verdict::Revoked(place("first", 3)));
}

#[test]
fn a_certificate_counts_by_its_authority_and_not_by_its_key() {
    let text = format!("@cert-authority *.example.net,web1 {AUTHORITY}\n");
    assert_eq!(check(&text, "web1", 22, &certificate()), Verdict::Trusted);
    assert_eq!(check(&text, "a.example.net", 2222, &certificate()), Verdict::Trusted);
    // The same key without the certificate, and a certificate by another authority.
    assert_eq!(check(&text, "web1", 22, &key(B)), Verdict::Unknown);
    assert_eq!(check(&text, "web1", 22, &key(AUTHORITY)), Verdict::Unknown);
    let text = format!("@cert-authority * {A}\n");
    assert_eq!(check(&text, "web1", 22, &certificate()), Verdict::Unknown);
    let text = format!("web1 {B}\n");
    assert_eq!(check(&text, "web1", 22, &certificate()), Verdict::Trusted);
}

#[test]
fn a_certificate_for_other_hosts_or_times_is_refused() {
    let text = format!("@cert-authority * {AUTHORITY}\n");
    let problem = CertificateProblem::OtherHost(vec!["web1".into(), "*.example.net".into()]);
    assert_eq!(check(&text, "web2", 22, &certificate()), Verdict::BadCertificate(problem));
    let records = KnownHosts::new(vec![("first".into(), text)]);
    let name = HostName::new("web1", 22, None);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let verdict = records.check(&name, &certificate(), at(1_000_000_000));
    assert_eq!(verdict, Verdict::BadCertificate(CertificateProblem::NotYetValid));
    let verdict = records.check(&name, &certificate(), at(3_000_000_000));
    assert_eq!(verdict, Verdict::BadCertificate(CertificateProblem::Expired));
}

#[test]
fn an_alias_is_looked_up_without_a_port() {
    let records = KnownHosts::new(vec![("first".into(), format!("Cluster {A}\n"))]);
    let name = HostName::new("10.0.0.1", 2222, Some("cluster"));
    assert_eq!(records.check(&name, &key(A), in_2025()), Verdict::Trusted);
    assert_eq!(name.recorded(), "cluster");
}

#[test]
fn what_is_recorded_says_which_key_to_ask_for() {
    let text = format!("web1 {E}\n@cert-authority web2 {AUTHORITY}\n@revoked web2 {A}\n");
    let records = KnownHosts::new(vec![("first".into(), text)]);
    let algorithms = records.recorded_algorithms(&HostName::new("web1", 2222, None));
    assert_eq!(algorithms.len(), 1);
    assert!(algorithms[0].clone().is_ecdsa());
    assert!(records.recorded_algorithms(&HostName::new("web2", 22, None)).is_empty());
    assert!(records.has_authority(&HostName::new("web2", 22, None)));
    assert!(!records.has_authority(&HostName::new("web1", 22, None)));
}

#[test]
fn lines_that_make_no_sense_are_passed_over() {
    let long = "x".repeat(100_000);
    let text = format!("web1\n@nonsense web1 {A}\nweb1 ssh-ed25519 !!\n{long} {A}\nweb1 {B}\n");
    assert_eq!(check(&text, "web1", 22, &key(B)), Verdict::Trusted);
}

#[test]
fn a_key_of_the_list_of_revoked_ones_is_refused_whatever_is_recorded() {
    let revoked = |list: &str, known: &str, shown: &PublicKeyOrCertificate| {
        let mut records = KnownHosts::new(vec![("first".into(), known.into())]);
        records.revoked = vec![("revoked".into(), Revoked::Lines(list.into()))];
        records.check(&HostName::new("web1", 22, None), shown, in_2025())
    };
    let known = format!("web1 {A}\n@cert-authority * {AUTHORITY}\n");
    let list = format!("# lost\n\n{A} of web1\n");
    assert_eq!(revoked(&list, &known, &key(A)), Verdict::Revoked(place("revoked", 3)));
    assert_eq!(revoked(&list, &known, &certificate()), Verdict::Trusted);
    for list in [AUTHORITY, B] {
        assert_eq!(revoked(list, &known, &certificate()), Verdict::Revoked(place("revoked", 1)));
    }
}

#[test]
fn nothing_of_a_certificate_counts_before_its_signature_is_right() {
    let mut blob = certificate_bytes();
    *blob.last_mut().unwrap() ^= 1;
    let spoiled = PublicKeyOrCertificate::from(Certificate::from_bytes(&blob).unwrap());
    let bad = Verdict::BadCertificate(CertificateProblem::BadSignature);
    // Not even for another host are its principals told; and its key is no way out.
    for text in [format!("@cert-authority * {AUTHORITY}\n"), format!("* {B}\n"), String::new()] {
        for host in ["web1", "elsewhere"] {
            assert_eq!(check(&text, host, 22, &spoiled), bad, "{text}");
        }
    }
}

fn certificate_bytes() -> Vec<u8> {
    Certificate::from_openssh(B_CERTIFICATE).unwrap().to_bytes().unwrap()
}

#[test]
fn an_authority_counts_if_its_algorithm_does() {
    let text = format!("@cert-authority * {AUTHORITY}\n");
    let mut records = KnownHosts::new(vec![("first".into(), text)]);
    records.rules.authority_signatures = vec!["rsa-sha2-512".to_owned()];
    let verdict = records.check(&HostName::new("web1", 22, None), &certificate(), in_2025());
    let problem = CertificateProblem::WeakSignature("ssh-ed25519".to_owned());
    assert_eq!(verdict, Verdict::BadCertificate(problem));
}

#[test]
fn a_key_without_a_voucher_has_to_be_of_a_kind_that_is_allowed() {
    let check = |allowed: &[&str]| {
        let mut records = KnownHosts::new(vec![("first".into(), format!("web1 {B}\n"))]);
        records.allowed = Some(allowed.iter().map(|&name| name.to_owned()).collect());
        records.check(&HostName::new("web1", 22, None), &certificate(), in_2025())
    };
    let only_certificates = check(&["ssh-ed25519-cert-v01@openssh.com"]);
    assert_eq!(only_certificates, Verdict::NotAllowed(Algorithm::Ed25519));
    assert_eq!(check(&["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"]), Verdict::Trusted);
}

#[test]
fn a_short_rsa_key_is_refused_whatever_is_recorded() {
    let mut records = KnownHosts::new(vec![("first".into(), format!("web1 {SHORT_RSA}\n"))]);
    let name = HostName::new("web1", 22, None);
    assert_eq!(records.check(&name, &key(SHORT_RSA), in_2025()), Verdict::Trusted);
    records.rules.required_rsa_size = 2048;
    let short = ShortRsa { bits: 1024, required: 2048 };
    assert_eq!(records.check(&name, &key(SHORT_RSA), in_2025()), Verdict::TooShort(short));
}

/// Pieces of which files of known hosts are made, well or badly.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "web1",
        "*",
        "!web1",
        "[web1]:2222",
        "|1|",
        "@revoked",
        "@cert-authority",
        "@",
        "#",
        ",",
        " ",
        "\t",
        "\n",
        "\r\n",
        "ssh-ed25519",
        "AAAA",
        "=",
        A,
        B,
        AUTHORITY,
        B_CERTIFICATE,
        HASHED_WEB1,
    ];
    prop_oneof![
        prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn no_file_makes_a_key_trusted_that_is_not_in_it(
        pieces in prop::collection::vec(piece(), 0..40)
    ) {
        let text = pieces.concat();
        let blob = |key: &str| key.split(' ').nth(1).unwrap().to_owned();
        for (shown, listed) in [(key(A), vec![A]), (certificate(), vec![B, AUTHORITY])] {
            let verdict = check(&text, "web1", 22, &shown);
            let is_there = listed.iter().any(|key| text.contains(&blob(key)));
            prop_assert!(verdict != Verdict::Trusted || is_there, "{verdict:?}");
        }
    }
}
