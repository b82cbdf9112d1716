//! The server's own key.

use std::fs;
use std::process::Command;
use std::time::Duration;

use fakessh::hop::ssh::ConnectError;

use crate::lab::Lab;
use fakessh_lab::GUARD;

#[tokio::test]
async fn an_unknown_host_is_asked_about_and_recorded() {
    let Some(lab) = Lab::start("") else { return };
    fs::remove_file(lab.path("known")).unwrap();
    let error = lab.connect(&[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKey(_)), "{error}");
    assert!(error.to_string().contains("ssh-keyscan"), "{error}");
    lab.answer("authenticity of host '[127.0.0.1]", "yes");
    lab.connect(&[]).await.unwrap();
    assert!(lab.person.seen().last().unwrap().contains("Permanently added"));
    lab.connect(&["StrictHostKeyChecking=yes"]).await.unwrap();
}

#[tokio::test]
async fn the_time_of_a_person_is_not_the_time_of_the_connection() {
    let Some(lab) = Lab::start("") else { return };
    /// Answers when this time has passed.
    struct Slow(Duration);
    #[async_trait::async_trait]
    impl fakessh::caller::Ask for Slow {
        async fn ask(
            &self,
            _: fakessh_protocol::message::Question,
        ) -> Option<fakessh_protocol::message::Secret> {
            tokio::time::sleep(self.0).await;
            Some(fakessh_protocol::message::Secret("yes".into()))
        }
    }
    use fakessh::hop::ssh::{SshConnection, Via};
    // What is not the person's has to be done within the limit, however slow this machine is.
    for seconds in [1, 4, 16, 64] {
        let _ = fs::remove_file(lab.path("known"));
        let resolved = lab.resolved(&[&format!("ConnectTimeout={seconds}")]).await;
        let slow = Slow(Duration::from_millis(seconds * 1000 + 500));
        let caller = fakessh::caller::Caller { ask: std::sync::Arc::new(slow), ..lab.caller() };
        let connect = SshConnection::connect(&resolved, Via::Tcp, &caller);
        match tokio::time::timeout(2 * GUARD, connect).await.expect("hangs") {
            Err(ConnectError::TimedOut { .. }) => {}
            connected => {
                connected.unwrap();
                return;
            }
        }
    }
    panic!("the time of the person is counted");
}

#[tokio::test]
async fn a_changed_host_key_is_refused_before_anything_is_sent() {
    let Some(lab) = Lab::start("") else { return };
    let other = fs::read_to_string(lab.path("id.pub")).unwrap();
    fs::write(lab.path("known"), format!("[127.0.0.1]:{} {other}", lab.port)).unwrap();
    for option in ["StrictHostKeyChecking=ask", "StrictHostKeyChecking=no"] {
        let error = lab.connect(&[option]).await.unwrap_err().to_string();
        assert!(error.contains("HAS CHANGED") && error.contains("known:1 "), "{error}");
        assert!(error.contains("ssh-keygen -f '") && !error.contains('\n'), "{error}");
    }
    assert!(lab.person.seen().is_empty());
    assert!(!lab.log().contains("publickey"));
}

#[tokio::test]
async fn a_server_with_several_keys_is_asked_for_the_one_that_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("rsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let Some(lab) = Lab::start(&format!("HostKey {}", key.display())) else { return };
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    fs::write(lab.path("known"), format!("[127.0.0.1]:{} {public}", lab.port)).unwrap();
    lab.connect(&[]).await.unwrap();
}

#[tokio::test]
async fn a_host_certificate_of_a_known_authority_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = directory.path().join("host-cert.pub");
    let Some(mut lab) = Lab::start("") else { return };
    lab.keygen("authority", &["-t", "ed25519", "-N", ""]);
    lab.keygen("other", &["-t", "ed25519", "-N", ""]);
    let sign = |lab: &Lab, hosts: &str| {
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-h", "-I", "test", "-n", hosts, "-s"])
            .args([lab.path("authority"), lab.path("host.pub")])
            .status();
        assert!(signed.unwrap().success());
        fs::copy(lab.path("host-cert.pub"), &certificate).unwrap();
    };
    sign(&lab, "127.0.0.1");
    lab.restart(&format!("HostCertificate {}", certificate.display()));
    let authority = |lab: &Lab, name: &str| {
        let key = fs::read_to_string(lab.path(name)).unwrap();
        fs::write(lab.path("known"), format!("@cert-authority 127.0.0.* {key}")).unwrap();
    };
    authority(&lab, "authority.pub");
    lab.connect(&["StrictHostKeyChecking=yes"]).await.unwrap();
    authority(&lab, "other.pub");
    let error = lab.connect(&["StrictHostKeyChecking=yes"]).await.unwrap_err().to_string();
    assert!(error.contains("is not known"), "{error}");
    authority(&lab, "authority.pub");
    sign(&lab, "elsewhere");
    lab.restart("");
    let error = lab.connect(&["StrictHostKeyChecking=yes"]).await.unwrap_err().to_string();
    assert!(error.contains("host certificate") && error.contains("is for elsewhere"), "{error}");
}

#[tokio::test]
async fn a_revoked_host_key_is_refused_and_a_list_that_is_not_understood_too() {
    let Some(lab) = Lab::start("") else { return };
    let options = ["StrictHostKeyChecking=no", "RevokedHostKeys=list"];
    fs::copy(lab.path("id.pub"), lab.path("list")).unwrap();
    lab.connect(&options).await.unwrap();
    let refused = async || lab.connect(&options).await.unwrap_err().to_string();
    let id = fs::read_to_string(lab.path("id.pub")).unwrap();
    let host = fs::read_to_string(lab.path("host.pub")).unwrap();
    fs::write(lab.path("list"), id + &host).unwrap();
    let error = refused().await;
    assert!(error.contains("is revoked by") && error.contains("list:2"), "{error}");
    fs::remove_file(lab.path("list")).unwrap();
    let error = refused().await;
    assert!(error.contains("there is no such file"), "{error}");
    let binary = |key: &str| {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-k", "-f"])
            .args([lab.path("list"), lab.path(key)])
            .status();
        assert!(made.unwrap().success());
    };
    binary("host.pub");
    let error = refused().await;
    assert!(error.contains("is revoked by") && error.contains("/list ("), "{error}");
    let list = fs::read(lab.path("list")).unwrap();
    fs::write(lab.path("list"), &list[..list.len() - 1]).unwrap();
    let error = refused().await;
    assert!(error.contains("(KRL) is damaged") && !error.contains('\n'), "{error}");
    binary("id.pub");
    let option = format!("RevokedHostKeys={}", lab.path("list").display());
    lab.connect(&[&option]).await.unwrap();
}
