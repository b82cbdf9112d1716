//! What is left to the real `ssh`, `scp` and `sftp`. Their part is played by scripts.
#![allow(missing_docs, clippy::unwrap_used)]

mod lab;

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use fakessh_protocol::message::RealWords;
use lab::Lab;

const SHOW: &str = r#"for word in "$0" "$@"; do printf '[%s]' "$word"; done; cat; exit 42"#;

#[test]
fn an_invocation_that_is_not_ours_is_run_by_the_real_ssh_with_its_descriptors() {
    let lab = Lab::new();
    let bin = lab.script("ssh", SHOW);
    let words = || vec![b"-l".to_vec(), b"\xff".to_vec()];
    for (words, expected) in [
        (RealWords::With(Vec::new()), &b"[-v][h][-p][22][a  b]"[..]),
        (RealWords::With(words()), b"[-v][h][-p][22][-l][\xff][--][a  b]"),
        (RealWords::These(words()), b"[-l][\xff]"),
    ] {
        let mut command = lab.ssh(&["-v", "h", "-p", "22", "a  b"]);
        command.env("PATH", format!("{}:{}:/bin", lab.directory.display(), bin.display()));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        lab.accept().leave_to_real_ssh(words);
        child.stdin.take().unwrap().write_all(b"input").unwrap();
        let output = child.wait_with_output().unwrap();
        let name = format!("[{}/ssh]", bin.display());
        let expected = [name.as_bytes(), expected, b"input"].concat();
        assert_eq!(output.stdout, expected, "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(42));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.ends_with("fakessh: running the real ssh: no route\n"), "{said}");
    }
}

#[test]
fn the_configuration_is_asked_for_with_what_the_master_knows() {
    let lab = Lab::new();
    let bin = lab.script("ssh", SHOW);
    let mut command = lab.ssh(&["-G", "h"]);
    command.env("PATH", format!("{}:/bin", bin.display()));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    lab.accept().leave_to_real_ssh(RealWords::With(vec![b"-oA=b".to_vec()]));
    let output = child.wait_with_output().unwrap();
    let expected = format!("[{}/ssh][-G][h][-oA=b][--]", bin.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn questions_about_ssh_itself_are_answered_by_the_real_one_without_a_master() {
    let lab = Lab::new();
    let bin = lab.script("ssh", SHOW);
    for words in [&[][..], &["-V"], &["-G"], &["-Q", "cipher"], &["-p", "2"]] {
        let mut command = lab.ssh(words);
        command.env("PATH", format!("{}:/bin", bin.display()));
        let output = command.output().unwrap();
        let words: String = words.iter().map(|word| format!("[{word}]")).collect();
        let expected = format!("[{}/ssh]{words}", bin.display());
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(output.status.code(), Some(42));
    }
}

#[test]
fn a_wrapper_that_leads_back_to_the_shim_is_passed_over() {
    let lab = Lab::new();
    let real = lab.directory.join("real");
    std::fs::create_dir(&real).unwrap();
    std::fs::rename(lab.script("ssh", SHOW).join("ssh"), real.join("ssh")).unwrap();
    for leads_back in ["exec $SHIM \"$@\"", "$SHIM \"$@\"; exit $?"] {
        let bin = lab.script("ssh", leads_back);
        let mut command = lab.ssh(&["-V"]);
        command.env("PATH", format!("{}:{}:/bin", bin.display(), real.display()));
        command.env("SHIM", lab.directory.join("ssh"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(42));
        let expected = format!("[{}/ssh][-V]", real.display());
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn scp_and_sftp_are_the_real_ones_with_our_ssh() {
    let lab = Lab::new();
    for name in ["scp", "sftp"] {
        let bin = lab.script(name, SHOW);
        let path = format!("{}:{}:/bin", lab.directory.display(), bin.display());
        let ours = lab.directory.join("ssh");
        let expected = format!("[{}/{name}][-S][{}][-r][a b][h:]", bin.display(), ours.display());
        let output = lab.command(name, &["-r", "a b", "h:"]).env("PATH", &path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(output.status.code(), Some(42));
        // Found by PATH alone, too, where argv[0] has no slash.
        let output = lab.shell(&format!("PATH={path} exec {name} -r 'a b' h:")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn what_is_renamed_or_linked_to_is_what_was_executed() {
    let lab = Lab::new();
    let bin = lab.script("scp", SHOW);
    let (scp, ours) = (lab.directory.join("scp"), lab.directory.join("ssh"));
    // Two links, the second of them relative.
    symlink(&scp, bin.join("copy")).unwrap();
    symlink("bin/copy", lab.directory.join("other")).unwrap();
    let expected = format!("[{}/scp][-S][{}][f][h:]", bin.display(), ours.display());
    for script in ["exec -a renamed \"$0\"/scp f h:", "\"$0\"/other f h:"] {
        let mut command = std::process::Command::new("bash");
        command.args(["-c", script]).arg(&lab.directory).env_clear();
        let output = command.env("PATH", format!("{}:/bin", bin.display())).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{script}");
        assert_eq!(output.status.code(), Some(42));
    }
}

#[test]
fn a_usage_error_is_one_line_and_255() {
    let lab = Lab::new();
    let output = lab.ssh(&["-o", "Foo=bar", "h", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(output.stderr, b"fakessh: Bad configuration option: foo\n");
    assert!(output.stdout.is_empty());
}
