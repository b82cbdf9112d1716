//! How contexts are reached, and what kind of error it is if they are not.

use fakessh::ErrorKind;
use fakessh_lab::Lab;
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;

use crate::{library, remote, soon, with_both};

#[tokio::test]
async fn one_login_serves_all_who_connect() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let tasks = (0..20).map(|number| {
            let fakessh = fakessh.clone();
            tokio::spawn(async move {
                let context = fakessh.connect("remote").await.unwrap();
                let output =
                    context.command("echo").arg(number.to_string()).output().await.unwrap();
                assert_eq!(output.stdout, format!("{number}\n").as_bytes());
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            soon(task).await.unwrap();
        }
        assert_eq!(lab.logins(), 1);
        fakessh.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_route_leads_to_root() {
    with_both(async |holder| {
        if !root_for("rules of sudo") {
            return;
        }
        let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
        let fakessh = library(&lab, holder).await;
        let root = soon(fakessh.connect("remote+sudo")).await.unwrap();
        assert_eq!((root.name(), root.user()), ("remote+sudo", "root"));
        let output = soon(root.command("id").arg("-un").output()).await.unwrap();
        assert_eq!(output.stdout, b"root\n");
        // What comes from data is a host.
        let error = soon(fakessh.connect_host("remote+sudo")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Resolve | ErrorKind::Config), "{error}");
        fakessh.close().await;
    })
    .await;
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let error = async |route: &str| soon(fakessh.connect(route)).await.unwrap_err();
        let no_route = error("remote+dokcer:app").await;
        assert_eq!(no_route.kind(), ErrorKind::Config);
        assert!(no_route.to_string().contains("docker:app"), "{no_route}");
        assert_eq!(error("no.such.host.invalid").await.kind(), ErrorKind::Resolve);

        lab.host_through("closed", 1, &[]);
        let closed = error("closed").await;
        assert_eq!((closed.kind(), closed.route()), (ErrorKind::Connect, Some("closed")));
        assert!(closed.is_retryable());

        lab.host_through(
            "other",
            lab.port(),
            &["UserKnownHostsFile /nonexistent", "StrictHostKeyChecking yes"],
        );
        assert_eq!(error("other").await.kind(), ErrorKind::HostKey);

        lab.host_through("keyless", lab.port(), &["PubkeyAuthentication no"]);
        let keyless = error("keyless").await;
        assert!(matches!(keyless.kind(), ErrorKind::Auth | ErrorKind::NeedsAnswer), "{keyless}");
        assert!(!keyless.is_retryable());
        let hop = error("remote+exec:false").await;
        assert_eq!(hop.kind(), ErrorKind::Hop, "{hop}");
        fakessh.close().await;
    })
    .await;
}

#[tokio::test]
async fn options_for_connections_do_not_concern_a_route_without_one() {
    with_both(async |holder| {
        let lab = Lab::start();
        // It has a configuration file, which is for connections by SSH.
        let fakessh = library(&lab, holder).await;
        let error = soon(fakessh.connect("exec:false")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hop, "{error}");
        fakessh.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_password_that_nobody_is_asked_for_needs_an_answer() {
    with_both(async |holder| {
        if !root_for("an account with a password") {
            return;
        }
        let lab = Lab::builder().password().start();
        let error = soon(library(&lab, holder).await.connect("remote")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeedsAnswer, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_closed_connection_is_lost_for_those_who_have_it() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let context = soon(fakessh.connect("remote")).await.unwrap();
        soon(context.close()).await;
        assert_eq!(soon(context.lost()).await.kind(), ErrorKind::ConnectionLost);
        let error = soon(context.command("true").output()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
        // The next one is new.
        let again = soon(fakessh.connect("remote")).await.unwrap();
        assert!(soon(again.command("true").status()).await.unwrap().success());
        fakessh.close().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_of_what_is_dropped_while_it_connects() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        for _ in 0..20 {
            tokio::select! {
                biased;
                _ = fakessh.connect("remote") => {}
                () = tokio::task::yield_now() => {}
            }
        }
        let context = soon(fakessh.connect("remote")).await.unwrap();
        assert!(soon(context.command("true").status()).await.unwrap().success());
        drop(remote(&lab, holder).await);
        fakessh.close().await;
    })
    .await;
}
