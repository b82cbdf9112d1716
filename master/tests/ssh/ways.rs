//! What makes two connections the same: the way there, the trust, the keys.

use std::fs;
use std::sync::Arc;

use fakessh::context::{Context, ContextError, Registry};
use fakessh::ssh_config::Target;

use crate::keys::Agent;
use crate::lab::{Lab, account};
use fakessh_lab::GUARD;

/// Lines of `ssh_config` about a server.
fn host(name: &str, lab: &Lab) -> String {
    let (port, user, directory) = (lab.port, account(), lab.directory.path().display());
    format!(
        "Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  \
         IdentityFile {directory}/id\n  UserKnownHostsFile {directory}/known\n  \
         GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
    )
}

fn logins(lab: &Lab) -> usize {
    lab.log().matches("Accepted publickey").count()
}

/// A context as the configuration file `config` of a directory says, with these further options.
async fn context(
    registry: &Registry,
    lab: &Lab,
    name: &str,
    options: &[&str],
) -> Result<Arc<Context>, ContextError> {
    let connection = [&["-F", "config"], options].concat().into_iter().map(Into::into).collect();
    let target = Target { host: name.into(), connection, ..Target::default() };
    let caller = lab.caller();
    let context = registry.context(&target, &caller);
    tokio::time::timeout(GUARD, context).await.expect("hangs")
}

#[tokio::test]
async fn a_circle_of_jump_hosts_is_refused_and_not_waited_for() {
    let lab = Lab::without_server();
    let registry = Registry::default();
    let config = "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n";
    fs::write(lab.path("config"), config).unwrap();
    let error = context(&registry, &lab, "a", &[]).await.unwrap_err().to_string();
    assert!(error.contains("in a circle: a > b > a;"), "{error}");
    // A host twice on the way is no circle where its way the second time is another.
    let last = format!("Host c\n  HostName 127.0.0.1\n  Port {}\n", lab.port);
    fs::write(lab.path("config"), config.replace("ProxyJump a", "ProxyJump c,a") + &last).unwrap();
    let error = context(&registry, &lab, "a", &[]).await.unwrap_err();
    assert!(matches!(error, ContextError::Connect(_)), "{error}");
}

#[tokio::test]
async fn the_same_address_behind_another_host_is_another_host() {
    let (Some(a), Some(b)) = (Lab::start(""), Lab::start("")) else { return };
    let Some(inner) = Lab::start("") else { return };
    let config = host("siteA", &a) + &host("siteB", &b) + &host("10.0.0.5", &inner);
    fs::write(inner.path("config"), config).unwrap();
    let registry = Registry::default();
    let connect =
        async |jumps: &str| context(&registry, &inner, "10.0.0.5", &["-J", jumps]).await.unwrap();
    let first = connect("siteA").await;
    let second = connect("siteB").await;
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!((logins(&a), logins(&b), logins(&inner)), (1, 1, 2));
    // It is a jump host itself now, by way of A and by way of B: over the connections that are
    // there.
    let _third = connect("siteA,10.0.0.5").await;
    let _fourth = connect("siteB,10.0.0.5").await;
    assert_eq!((logins(&a), logins(&b), logins(&inner)), (1, 1, 4));
    // Another configuration, in which A is another server.
    let config = host("siteA", &b) + &host("10.0.0.5", &inner);
    fs::write(inner.path("config"), config).unwrap();
    assert!(Arc::ptr_eq(&second, &connect("siteA").await));
}

#[tokio::test]
async fn who_trusts_less_does_not_get_the_connection_of_who_trusts_all() {
    let Some(lab) = Lab::start("") else { return };
    fs::remove_file(lab.path("known")).unwrap();
    let (registry, caller) = (Registry::default(), lab.caller());
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"];
    let held = registry.context(&lab.target(&options), &caller).await.unwrap();
    let again = registry.context(&lab.target(&options), &caller).await.unwrap();
    assert!(Arc::ptr_eq(&held, &again));
    let strict = lab.target(&["StrictHostKeyChecking=yes"]);
    let error = registry.context(&strict, &caller).await.unwrap_err().to_string();
    assert!(error.contains("is not known"), "{error}");
}

#[tokio::test]
async fn another_socket_of_an_agent_is_the_same_and_other_keys_behind_it_are_not() {
    let Some(mut lab) = Lab::start("") else { return };
    let mut other = Lab::without_server();
    let (agent, other_agent) = (Agent::start(&mut lab), Agent::start(&mut other));
    lab.keygen("second", &["-t", "ed25519", "-N", ""]);
    for name in ["id", "id.pub", "second", "second.pub"] {
        fs::rename(lab.path(name), other.path(name)).unwrap();
        fs::copy(other.path(name), lab.path(name)).unwrap();
    }
    let keys = ["id.pub", "second.pub"].map(|name| fs::read_to_string(lab.path(name)).unwrap());
    fs::write(lab.path("authorized"), keys.concat()).unwrap();
    fs::write(lab.path("config"), host("web1", &lab).replace("IdentityFile", "# ")).unwrap();
    fs::copy(lab.path("config"), other.path("config")).unwrap();
    agent.add(&lab, "id");
    other_agent.add(&other, "id");

    let registry = Registry::default();
    let first = context(&registry, &lab, "web1", &[]).await.unwrap();
    let second = context(&registry, &other, "web1", &[]).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    other_agent.add(&other, "second");
    let second = context(&registry, &other, "web1", &[]).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    // A key that is named decides, whatever agents there are.
    let key = lab.path("id").display().to_string();
    let first = context(&registry, &lab, "web1", &["-i", &key]).await.unwrap();
    let second = context(&registry, &other, "web1", &["-i", &key]).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}
