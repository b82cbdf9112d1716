//! The processes of a lab while it runs: the server's, the master, the slaves, and what they started.

use std::sync::PoisonError;

use crate::namespaces::Namespaces;
use crate::process::{self, Process};
use crate::server::Server;
use crate::{Lab, privilege};

impl Lab {
    /// The server's processes that serve connections, and all that they started.
    pub fn server_processes(&self) -> Vec<Process> {
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map_or_else(Vec::new, |server| process::descendants(server.pid()))
    }

    /// The server's process that listens.
    pub fn server_pid(&self) -> u32 {
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::pid).expect("the server runs")
    }

    /// Kills the server's processes that serve connections, but not the one that listens: what a
    /// crash or an administrator does to sessions.
    pub fn kill_connections(&self) {
        for process in self.server_processes() {
            if process.command.starts_with("sshd") {
                process.kill();
            }
        }
    }

    /// The accounts' processes, those with the lab's mark, and those in its containers and its
    /// mount namespace; not the server, the engines and what the lab started in containers.
    pub fn processes(&self) -> Vec<Process> {
        let mut uids: Vec<u32> = self.0.others.iter().map(|account| account.uid).collect();
        if privilege::is_root() {
            uids.push(self.account().uid);
        }
        let mut own = self.0.containers.running();
        let holder = self.0.mounts.as_ref().map(Namespaces::pid);
        let inside = own.iter().chain(&holder).filter_map(|&pid| process::mount_namespace(pid));
        let inside: Vec<u64> = inside.collect();
        own.extend(holder);
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        own.extend(server.as_ref().map(Server::pid));
        let engines = ["docker", "lxc", "container"].map(|name| self.dir().join(name));
        let is_engine = |process: &Process| {
            engines.iter().any(|dir| process.command.contains(&*dir.to_string_lossy()))
        };
        let mut found = process::find(self.mark(), &uids, &inside);
        found.retain(|process| !own.contains(&process.pid) && !is_engine(process));
        found
    }

    /// The master's process.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[track_caller]
    pub fn master(&self) -> Process {
        let mut masters = self.processes();
        masters.retain(|process| process.command.contains("/fakessh master"));
        assert_eq!(masters.len(), 1, "not one master: {masters:?}");
        masters.remove(0)
    }

    /// The slaves on the target, and the processes that watch over them.
    pub fn slaves(&self) -> Vec<Process> {
        let mut slaves = self.processes();
        slaves.retain(|process| {
            let program = process.command.split(' ').next().unwrap_or_default();
            program.contains("/.fakessh-")
        });
        slaves
    }
}
