//! Hosts that reach each other only where there is a link between them: network namespaces and
//! pairs of interfaces, none of which is in the namespace of the tests.

use std::process::Command;
use std::sync::Arc;

use crate::namespaces::Namespaces;

/// A few hosts with links between them. Nothing is forwarded.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    name: String,
    namespace: Namespaces,
    /// Where it is reached by whoever stands first in its first link; empty for who only calls.
    address: String,
}

impl Network {
    /// Hosts with these links between them: `[("client", "bastion"), ("bastion", "db")]`. The
    /// first of a link calls the second. Root only.
    ///
    /// # Panics
    /// If the kernel or Debian's iproute2 can't do it.
    pub fn start(links: &[(&str, &str)]) -> Arc<Network> {
        let mut hosts: Vec<Host> = Vec::new();
        for (number, (one, other)) in links.iter().enumerate() {
            for name in [one, other] {
                if !hosts.iter().any(|host| host.name == **name) {
                    let namespace = Namespaces::new(&["--net"], "ip link set lo up", "");
                    let name = (*name).to_owned();
                    hosts.push(Host { name, namespace, address: String::new() });
                }
            }
            let [calling, called] = [one, other].map(|name| {
                hosts.iter().position(|host| host.name == **name).expect("made right above")
            });
            let pid = hosts[called].namespace.pid();
            let [near, far] = [1, 2].map(|end| format!("10.77.{number}.{end}"));
            let make = format!(
                "ip link add link{number} type veth peer name link{number} netns {pid}
                ip addr add {near}/24 dev link{number}
                ip link set link{number} up"
            );
            hosts[calling].run(&make);
            let join =
                format!("ip addr add {far}/24 dev link{number}; ip link set link{number} up");
            hosts[called].run(&join);
            if hosts[called].address.is_empty() {
                hosts[called].address = far;
            }
        }
        Arc::new(Network { hosts })
    }

    fn host(&self, name: &str) -> &Host {
        let host = self.hosts.iter().find(|host| host.name == name);
        host.unwrap_or_else(|| panic!("no host {name:?} in this network"))
    }

    /// The address of a host.
    ///
    /// # Panics
    /// If there is no such host, or if nobody calls it.
    pub fn address(&self, name: &str) -> &str {
        let host = self.host(name);
        assert!(!host.address.is_empty(), "nobody calls {name}");
        &host.address
    }

    /// An option of `nsenter(1)` that leads to a host.
    pub(crate) fn enter(&self, name: &str) -> String {
        self.host(name).namespace.enter("net", "net")
    }
}

impl Host {
    /// Runs these commands on this host.
    fn run(&self, script: &str) {
        let done = Command::new("nsenter")
            .args([&self.namespace.enter("net", "net"), "sh", "-e", "-c", script])
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .output()
            .expect("starting nsenter");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "on {}: {script}: {said}", self.name);
    }
}
