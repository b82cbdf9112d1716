use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect()
}

#[test]
fn the_rules_of_ssh_choose_the_way() {
    let table: &[(&[(&str, &str)], Way)] = &[
        (&[], Way::Terminal { or_askpass: false }),
        (&[("DISPLAY", "")], Way::Terminal { or_askpass: false }),
        (&[("DISPLAY", ":0")], Way::Terminal { or_askpass: true }),
        (&[("WAYLAND_DISPLAY", "w")], Way::Terminal { or_askpass: true }),
        (
            &[("DISPLAY", ":0"), ("SSH_ASKPASS_REQUIRE", "never")],
            Way::Terminal { or_askpass: false },
        ),
        (&[("DISPLAY", ":0"), ("SSH_ASKPASS_REQUIRE", "prefer")], Way::Askpass),
        (&[("SSH_ASKPASS_REQUIRE", "prefer")], Way::Terminal { or_askpass: false }),
        (&[("SSH_ASKPASS_REQUIRE", "Force")], Way::Askpass),
    ];
    for (pairs, way) in table {
        assert_eq!(Way::choose(&environment(pairs)), *way, "{pairs:?}");
    }
}

fn asked(script: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("askpass");
    // Run by a shell that is named, and so never "text file busy" beside other tests' forks.
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let environment = environment(&[
        ("SSH_ASKPASS", path.to_str().unwrap()),
        ("SSH_ASKPASS_REQUIRE", "force"),
        ("PATH", "/usr/bin:/bin"),
        ("MARK", "here"),
    ]);
    let question = Question::secret("Password: ");
    let answer = loop {
        match Command::new(&path).arg("probe").stdout(Stdio::null()).status() {
            Err(error) if error.raw_os_error() == Some(26) => continue,
            _ => {
                let (asker, _far) = UnixStream::pair().unwrap();
                break ask(&question, &environment, asker.as_fd());
            }
        }
    };
    answer.map(|secret| secret.0.clone())
}

#[test]
fn askpass_gets_the_question_and_the_environment_and_gives_one_line() {
    assert_eq!(asked(r#"echo "$1$MARK"; echo more"#).unwrap(), "Password: here");
    assert_eq!(asked("true").unwrap(), "");
}

#[test]
fn an_askpass_that_fails_or_is_missing_gives_no_answer() {
    assert_eq!(asked("echo x; exit 1"), None);
    let environment =
        environment(&[("SSH_ASKPASS", "/nonexistent"), ("SSH_ASKPASS_REQUIRE", "force")]);
    let question = Question::secret("?");
    let (asker, _far) = UnixStream::pair().unwrap();
    assert_eq!(ask(&question, &environment, asker.as_fd()), None);
}

#[test]
fn a_question_ends_with_who_asks() {
    let (asker, far) = UnixStream::pair().unwrap();
    let mut askpass = Command::new("cat");
    let mut child = askpass.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(far);
    assert!(read_answer(child.stdout.take().unwrap(), asker.as_fd()).is_none());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn an_answer_is_the_first_line_and_text() {
    assert_eq!(first_line(b"a b\r\nc").unwrap().0, "a b");
    assert_eq!(first_line(b"\n").unwrap().0, "");
    assert_eq!(first_line(b"\xff\n"), None);
}

#[test]
fn a_password_answers_its_hop_once_whatever_the_hop_says() {
    let password = |text: &str| Secret(text.to_owned());
    let mut passwords = HopPasswords { every: Some(password("all")), ..HopPasswords::default() };
    passwords.named.insert("web1+sudo".into(), password("one"));
    let text = |answer: Option<Option<Secret>>| answer.unwrap().map(|secret| secret.0.clone());
    assert_eq!(text(passwords.answer("web1+sudo")).as_deref(), Some("one"));
    assert_eq!(text(passwords.answer("web2+su")).as_deref(), Some("all"));
    for hop in ["web1+sudo", "web2+su"] {
        assert_eq!(text(passwords.answer(hop)), None, "{hop}");
    }
    // Another hop than the one that is named is the person's to answer.
    passwords.every = None;
    assert_eq!(passwords.answer("web3+su"), None);
}
