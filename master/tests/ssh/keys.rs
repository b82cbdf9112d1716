//! Logging in with keys: from files, from an agent, with certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use fakessh::hop::ssh::{ConnectError, SshConnection, Via};

use crate::lab::{Lab, account, output};
use fakessh_lab::KillOnDrop;

#[tokio::test]
async fn every_kind_of_key_logs_in() {
    let Some(lab) = Lab::start("") else { return };
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "521"), ("rsa", "2048")] {
        let name = format!("id_{kind}");
        lab.keygen(&name, &["-t", kind, "-b", bits, "-N", ""]);
        fs::copy(lab.path(&format!("{name}.pub")), lab.path("authorized")).unwrap();
        let mut resolved = lab.resolved(&[]).await;
        resolved.identity_files = vec![lab.path(&name)];
        let caller = lab.caller();
        let connection = SshConnection::connect(&resolved, Via::Tcp, &caller).await.unwrap();
        assert_eq!(output(&connection, "echo ok").await, "ok\n", "{kind}");
    }
    assert!(lab.log().contains("Accepted publickey"));
}

#[tokio::test]
async fn keys_in_the_older_forms_log_in_too() {
    let Some(lab) = Lab::start("") else { return };
    for (name, form, passphrase) in
        [("pem", "PEM", ""), ("pkcs8", "PKCS8", ""), ("pkcs8_encrypted", "PKCS8", "secret")]
    {
        lab.keygen(name, &["-t", "rsa", "-b", "2048", "-m", form, "-N", passphrase]);
        fs::copy(lab.path(&format!("{name}.pub")), lab.path("authorized")).unwrap();
        let mut resolved = lab.resolved(&[]).await;
        resolved.identity_files = vec![lab.path(name)];
        lab.answer("passphrase", "secret");
        let caller = lab.caller();
        SshConnection::connect(&resolved, Via::Tcp, &caller).await.expect(name);
    }
    assert_eq!(lab.person.seen().len(), 1);
}

#[tokio::test]
async fn a_passphrase_is_asked_for_up_to_three_times_and_only_for_an_accepted_key() {
    let Some(lab) = Lab::start("") else { return };
    lab.keygen("other", &["-t", "ed25519", "-N", "unasked"]);
    lab.keygen("locked", &["-t", "ed25519", "-N", "secret"]);
    fs::copy(lab.path("locked.pub"), lab.path("authorized")).unwrap();
    let mut resolved = lab.resolved(&[]).await;
    resolved.identity_files = vec![lab.path("other"), lab.path("locked")];
    let caller = lab.caller();

    lab.answer("Enter passphrase", "wrong");
    lab.answer("Bad passphrase", "secret");
    SshConnection::connect(&resolved, Via::Tcp, &caller).await.unwrap();
    let seen = lab.person.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|text| text.contains("locked")), "{seen:?}");

    for _ in 0..4 {
        lab.answer("passphrase", "wrong");
    }
    let error = SshConnection::connect(&resolved, Via::Tcp, &caller).await.unwrap_err();
    assert!(error.to_string().contains("passphrase was wrong 3 times"), "{error}");
    assert_eq!(lab.person.seen().len(), 5);
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_a_refusal_that_says_what_was_tried() {
    let Some(lab) = Lab::start("") else { return };
    fs::write(lab.path("authorized"), "").unwrap();
    let error = lab.connect(&[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Auth(_)));
    let text = error.to_string();
    let denied = format!("{}@127.0.0.1: Permission denied (publickey). ", account());
    assert!(text.starts_with(&denied), "{text}");
    assert!(text.contains("id (refused)"), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[tokio::test]
async fn a_private_key_that_others_can_read_is_not_used() {
    let Some(lab) = Lab::start("") else { return };
    fs::set_permissions(lab.path("id"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = lab.connect(&[]).await.unwrap_err().to_string();
    assert!(error.contains("0644 are too open") && error.contains("chmod 600"), "{error}");
    assert!(!lab.log().contains("Accepted"));
}

/// An agent, ended with the test.
pub(crate) struct Agent {
    _process: KillOnDrop,
}

impl Agent {
    pub(crate) fn start(lab: &mut Lab) -> Agent {
        let socket = lab.path("agent");
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints where it listens when it does.
        let mut stdout = child.stdout.take().unwrap();
        std::io::Read::read(&mut stdout, &mut [0; 1]).unwrap();
        lab.environment.push(("SSH_AUTH_SOCK".into(), socket.into()));
        child.stdout = Some(stdout);
        Agent { _process: KillOnDrop(child) }
    }

    pub(crate) fn add(&self, lab: &Lab, name: &str) {
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(lab.path(name))
            .env("SSH_AUTH_SOCK", lab.path("agent"))
            .status();
        assert!(added.unwrap().success());
    }
}

#[tokio::test]
async fn keys_of_the_callers_agent_log_in_and_configured_ones_go_first() {
    let Some(mut lab) = Lab::start("MaxAuthTries 2") else { return };
    let agent = Agent::start(&mut lab);
    for name in ["a1", "a2", "a3", "a4"] {
        lab.keygen(name, &["-t", "ed25519", "-N", ""]);
        agent.add(&lab, name);
    }
    agent.add(&lab, "id");
    // Only the agent has the private key now.
    fs::remove_file(lab.path("id")).unwrap();
    let connection = lab.connect(&[]).await.unwrap();
    assert_eq!(output(&connection, "echo ok").await, "ok\n");

    fs::remove_file(lab.path("id.pub")).unwrap();
    let error = lab.connect(&[]).await.unwrap_err().to_string();
    assert!(error.contains("MaxAuthTries") && error.contains("IdentitiesOnly=yes"), "{error}");

    let error = lab.connect(&["IdentitiesOnly=yes"]).await.unwrap_err().to_string();
    assert!(error.contains("there is no such file") && !error.contains("agent key"), "{error}");
}

#[tokio::test]
async fn rsa_keys_of_an_agent_log_in() {
    let Some(mut lab) = Lab::start("") else { return };
    let agent = Agent::start(&mut lab);
    lab.keygen("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
    fs::copy(lab.path("rsa.pub"), lab.path("authorized")).unwrap();
    agent.add(&lab, "rsa");
    lab.connect(&[]).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_gone_is_mentioned_and_does_no_harm() {
    let Some(mut lab) = Lab::start("") else { return };
    lab.environment.push(("SSH_AUTH_SOCK".into(), lab.path("gone").into()));
    lab.connect(&[]).await.unwrap();
    fs::write(lab.path("authorized"), "").unwrap();
    let error = lab.connect(&[]).await.unwrap_err().to_string();
    assert!(error.contains("gone (not reached: "), "{error}");
}

#[tokio::test]
async fn certificates_of_files_and_of_the_agent_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("authority.pub");
    let lines = format!("TrustedUserCAKeys {}", authority.display());
    let Some(mut lab) = Lab::start(&lines) else { return };
    lab.keygen("authority", &["-t", "ed25519", "-N", ""]);
    fs::copy(lab.path("authority.pub"), &authority).unwrap();
    fs::write(lab.path("authorized"), "").unwrap();
    for (name, kind) in [("id", "ed25519"), ("rsa", "rsa")] {
        if kind == "rsa" {
            lab.keygen("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
        }
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-I", "test", "-n", &account(), "-s"])
            .args([lab.path("authority"), lab.path(&format!("{name}.pub"))])
            .status();
        assert!(signed.unwrap().success());
    }
    // Beside the key, by name, and of another kind.
    lab.connect(&[]).await.unwrap();
    fs::rename(lab.path("id-cert.pub"), lab.path("elsewhere.pub")).unwrap();
    assert!(lab.connect(&[]).await.is_err());
    let named = format!("CertificateFile={}", lab.path("elsewhere.pub").display());
    lab.connect(&[&named]).await.unwrap();
    let named = format!("IdentityFile={}", lab.path("rsa").display());
    lab.connect(&[&named]).await.unwrap();
    // The agent takes the certificate along with the key.
    let agent = Agent::start(&mut lab);
    agent.add(&lab, "rsa");
    let connection = lab.connect(&["PreferredAuthentications=publickey"]).await.unwrap();
    // sshd may log a login after it has told of it, but not after it has served it.
    output(&connection, "true").await;
    assert!(lab.log().contains("RSA-CERT"));
}
