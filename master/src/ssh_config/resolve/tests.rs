use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::*;
use crate::caller::AskNobody;
use crate::ssh_config::ssh_g::{USUAL_SSH, is_program};

fn caller(directory: &Path) -> Caller {
    let environment = vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("SSH_AUTH_SOCK".into(), "/run/agent".into()),
    ];
    Caller { environment, directory: directory.into(), ask: Arc::new(AskNobody) }
}

#[tokio::test]
async fn the_configuration_file_of_the_command_line_counts() {
    if !is_program(Path::new(USUAL_SSH)) {
        eprintln!("skipped: no {USUAL_SSH}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let text = "Match host web1 exec \"test -f here\"\n  HostName 10.0.0.1\n  User bob\n\
                Host *\n  IdentityFile keys/%r\n  ProxyCommand relay %h\n  IdentityAgent none\n";
    std::fs::write(directory.path().join("config"), text).unwrap();
    std::fs::write(directory.path().join("here"), "").unwrap();
    let connection = ["-F", "config", "-oPort=2222"].map(OsString::from).to_vec();
    let target = Target { host: "web1".into(), user: None, port: Some(22), connection };
    let resolved = resolve(&target, &caller(directory.path())).await.unwrap();
    assert_eq!((resolved.hostname.as_str(), resolved.user.as_str()), ("10.0.0.1", "bob"));
    assert_eq!(resolved.port, 22, "the port of the destination wins");
    assert_eq!(resolved.identity_files, [directory.path().join("keys/bob")]);
    assert_eq!(resolved.identity_agent, None);
    let command = resolved.proxy_command.clone().unwrap();
    let caller = caller(directory.path());
    assert_eq!(super::super::expand_proxy_command(&command, &resolved, &caller), "relay 10.0.0.1");
    assert_eq!(resolved.algorithms, crate::ssh_config::Algorithms::default());
}

#[tokio::test]
async fn what_would_be_dropped_is_named_and_a_plain_configuration_is_not() {
    if !is_program(Path::new(USUAL_SSH)) {
        eprintln!("skipped: no {USUAL_SSH}");
        return;
    }
    // As Debian ships it.
    let text = "Host x11\n  ForwardX11 yes\n  RequestTTY yes\nHost keys\n  \
                ProxyUseFdpass yes\n  ProxyCommand nc\nHost *\n  SendEnv LANG LC_*\n  \
                HashKnownHosts yes\n  GSSAPIAuthentication yes\n";
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config"), text).unwrap();
    let look_up = async |host: &str| {
        let connection = vec!["-Fconfig".into()];
        let target = Target { host: host.into(), connection, ..Target::default() };
        resolve(&target, &caller(directory.path())).await
    };
    assert_eq!(look_up("web1").await.unwrap().unsupported_notice(), None);
    let notice = look_up("x11").await.unwrap().unsupported_notice().unwrap();
    assert!(notice.contains("asks for ForwardX11 for x11"), "{notice}");
    let error = look_up("keys").await.unwrap_err().to_string();
    assert!(error.contains("'keys' sets ProxyUseFdpass, which is not"), "{error}");
}

#[tokio::test]
async fn settings_for_sessions_do_not_hide_the_way() {
    if !is_program(Path::new(USUAL_SSH)) {
        eprintln!("skipped: no {USUAL_SSH}");
        return;
    }
    for setting in ["ForkAfterAuthentication=yes", "SessionType=subsystem", "SessionType=none"] {
        let connection = vec![format!("-o{setting}").into(), "-oPort=7".into()];
        let target = Target { host: "web1".into(), connection, ..Target::default() };
        let resolved = resolve(&target, &caller(Path::new("/"))).await.unwrap();
        assert_eq!(resolved.port, 7, "{setting}");
    }
}

#[tokio::test]
async fn a_bad_option_is_reported_in_the_words_of_ssh() {
    if !is_program(Path::new(USUAL_SSH)) {
        eprintln!("skipped: no {USUAL_SSH}");
        return;
    }
    let connection = vec!["-oNoSuchThing=1".into()];
    let target = Target { host: "web1".into(), connection, ..Target::default() };
    let error = resolve(&target, &caller(Path::new("/"))).await.unwrap_err();
    assert!(error.to_string().contains("nosuchthing"), "{error}");
}

#[tokio::test]
async fn commands_of_the_configuration_get_the_old_limit_of_open_files() {
    if !is_program(Path::new(USUAL_SSH)) {
        eprintln!("skipped: no {USUAL_SSH}");
        return;
    }
    let original = crate::fd_limit::tests::raised();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config"), "Match exec \"ulimit -Sn >limit\"\n").unwrap();
    let connection = vec!["-Fconfig".into()];
    let target = Target { host: "web1".into(), connection, ..Target::default() };
    resolve(&target, &caller(directory.path())).await.unwrap();
    let limit = std::fs::read_to_string(directory.path().join("limit")).unwrap();
    assert_eq!(limit.trim(), original);
}

#[tokio::test]
async fn one_callers_environment_is_not_in_what_another_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let ssh = directory.path().join("ssh");
    // An ssh whose defaults some variable changes, as OPENSSL_CONF may.
    let script = "#!/bin/sh\necho hostname h\necho ciphers ${CIPHERS:-aes256-ctr}\n";
    // By a process of its own, or a test that forks meanwhile has it open for writing.
    let written = std::process::Command::new("sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .args([ssh.as_os_str(), OsStr::new(script)])
        .status();
    assert!(written.unwrap().success());
    let target = Target { host: "h".into(), ..Target::default() };
    let mut first = Caller {
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        directory: directory.path().into(),
        ask: Arc::new(AskNobody),
    };
    let second = first.clone();
    first.environment.push(("CIPHERS".into(), "aes128-ctr".into()));
    let resolved = resolve_with(&ssh, &target, &first).await.unwrap();
    assert_eq!(resolved.algorithms.ciphers, Some(vec!["aes128-ctr".to_owned()]));
    let resolved = resolve_with(&ssh, &target, &second).await.unwrap();
    assert_eq!(resolved.algorithms.ciphers, None);
}

mod without_ssh {
    use super::*;

    fn caller() -> Caller {
        let environment = vec![("SSH_AUTH_SOCK".into(), "/run/agent".into())];
        Caller { environment, directory: "/".into(), ask: Arc::new(AskNobody) }
    }

    #[test]
    fn the_options_of_the_command_line_still_count() {
        let connection = ["-F", "none", "-i", "/k", "-o", "StrictHostKeyChecking=yes"];
        let connection = connection.map(OsString::from).to_vec();
        let target = Target { host: "h".into(), user: Some("u".into()), port: Some(7), connection };
        let resolved = resolve_without_ssh(&target, &caller()).unwrap();
        assert_eq!((resolved.user.as_str(), resolved.port), ("u", 7));
        assert_eq!(resolved.identity_files, [PathBuf::from("/k")]);
        assert_eq!(resolved.identity_agent, Some("/run/agent".into()));
        let strict = crate::ssh_config::StrictHostKeyChecking::Yes;
        assert_eq!(resolved.strict_host_key_checking, strict);

        let target = Target { connection: vec!["-F".into(), "/c".into()], ..target };
        assert!(matches!(resolve_without_ssh(&target, &caller()), Err(ConfigError::NeedsSsh(_))));
    }

    #[test]
    fn algorithms_are_those_of_ssh_or_refused() {
        let look_up = |option: &str| {
            let connection = ["-o", option].map(OsString::from).to_vec();
            resolve_without_ssh(
                &Target { host: "h".into(), connection, ..Target::default() },
                &caller(),
            )
        };
        for option in ["Ciphers=none", "MACs=none", "KexAlgorithms=none", "Ciphers=aes128-ctr,x"] {
            let error = look_up(option).unwrap_err().to_string();
            assert!(error.contains("Bad SSH2 "), "{error}");
        }
        let resolved = look_up("CIPHERS=^aes256-ctr").unwrap();
        assert_eq!(resolved.algorithms.ciphers.unwrap()[0], "aes256-ctr");
        let resolved = look_up("CASignatureAlgorithms=ssh-ed25519").unwrap();
        assert_eq!(resolved.key_rules.authority_signatures, ["ssh-ed25519"]);
        assert_eq!(resolved.algorithms, crate::ssh_config::Algorithms::default());
        assert_eq!(look_up("RequiredRSASize=4096").unwrap().key_rules.required_rsa_size, 4096);
    }

    #[test]
    fn the_first_value_wins_as_with_ssh() {
        let look_up = |user: Option<&str>, port, words: &[&str]| {
            let connection = words.iter().map(OsString::from).collect();
            let target =
                Target { host: "h".into(), user: user.map(str::to_owned), port, connection };
            resolve_without_ssh(&target, &caller()).unwrap()
        };
        let words = ["-oUser bob", "-oUser=eve", "-oPort=7", "-oPort=8"];
        let resolved = look_up(None, None, &words);
        assert_eq!((resolved.user.as_str(), resolved.port), ("bob", 7));
        let resolved = look_up(Some("u"), Some(9), &words);
        assert_eq!((resolved.user.as_str(), resolved.port), ("u", 9));
        let words = ["-o", "UserKnownHostsFile = \"/k\"", "-o", "ProxyCommand nc -o x=y %h"];
        let resolved = look_up(None, None, &words);
        assert_eq!(resolved.user_known_hosts_files, [PathBuf::from("/k")]);
        assert_eq!(resolved.proxy_command.as_deref(), Some("nc -o x=y %h"));
        assert_eq!(resolved.port, 22);
    }
}
