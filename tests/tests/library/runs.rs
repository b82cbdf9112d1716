//! Tools with an `ssh` of their own.

use fakessh::{ErrorKind, Hosts};
use fakessh_lab::Lab;

use crate::{library, soon, with_both};

#[tokio::test]
async fn a_tool_reaches_the_hosts_of_its_run_and_no_other() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let run = soon(fakessh.run(Hosts::mapped().route("db", "remote"))).await.unwrap();
        let ssh = async |host: &str| {
            let mut ssh = run.command("ssh").unwrap();
            soon(ssh.args([host, "echo there; exit 4"]).output()).await.unwrap()
        };
        let there = ssh("db").await;
        assert_eq!((there.status.code(), &*there.stdout), (Some(4), &b"there\n"[..]));
        let other = ssh("prod-db").await;
        assert_eq!(other.status.code(), Some(255));
        let said = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(said.starts_with("fakessh: ") && said.contains("prod-db"), "{said}");
        let every = soon(fakessh.run(Hosts::every("remote"))).await.unwrap();
        let mut ssh = every.command("ssh").unwrap();
        let output = soon(ssh.args(["prod-db", "echo any"]).output()).await.unwrap();
        assert_eq!(output.stdout, b"any\n");
        assert_eq!(lab.logins(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_run_without_hosts_is_none_and_no_way_to_everywhere() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        let error = soon(fakessh.run(Hosts::mapped())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_run_whose_host_is_not_there_is_an_error() {
    with_both(async |holder| {
        let lab = Lab::start();
        let fakessh = library(&lab, holder).await;
        lab.host_through("closed", 1, &[]);
        let hosts = Hosts::mapped().route("db", "closed");
        let error = soon(fakessh.run(hosts)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        let hosts = Hosts::mapped().route("db", "remote+dokcer:app");
        assert_eq!(soon(fakessh.run(hosts)).await.unwrap_err().kind(), ErrorKind::Config);
    })
    .await;
}
