//! Tools on this host whose own `ssh` leads to contexts: rsync, git, Ansible.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use crate::error::Error;
use crate::route::Route;
use crate::run::{self, RunDestination};
use crate::socket::Socket;
use crate::tool::{RunDirectory, ServedRun, prepare};

/// Where the host names lead that a tool gives its `ssh`. A name that is not here is refused: a tool
/// that names `prod-db` must not write to another host.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    routes: BTreeMap<String, String>,
    every: Option<String>,
}

impl Hosts {
    /// No name yet: see [`Hosts::route`]. A run wants at least one.
    pub fn mapped() -> Hosts {
        Hosts::default()
    }

    /// Every name leads to the end of this route, as `fakessh run --any-name` has it.
    pub fn every(route: impl Into<String>) -> Hosts {
        Hosts { every: Some(route.into()), ..Hosts::default() }
    }

    /// This name leads to the end of a route, as `fakessh run --route NAME=DEST` has it. Somebody wrote
    /// the route, as for [`Fakessh::connect`](crate::Fakessh::connect).
    #[must_use]
    pub fn route(mut self, name: impl Into<String>, route: impl Into<String>) -> Hosts {
        self.routes.insert(name.into(), route.into());
        self
    }

    /// The hosts with their routes read.
    ///
    /// # Errors
    /// That of the first route that is none. If there is no route at all: the master would take that
    /// for a run whose `ssh` may go anywhere.
    pub(crate) fn read(
        self,
        read: impl Fn(&str) -> Result<Route, Error>,
    ) -> Result<MappedHosts, Error> {
        if self.every.is_none() && self.routes.is_empty() {
            return Err(Error::config("", "the run has no hosts: give it one with Hosts::route"));
        }
        let every = self.every.as_deref().map(&read).transpose()?;
        let destination =
            every.map(|route| RunDestination { any_name: true, ..RunDestination::new(route) });
        let routes = self.routes.into_iter().map(|(name, route)| Ok((name, read(&route)?)));
        Ok(MappedHosts { destination, routes: routes.collect::<Result<_, Error>>()? })
    }
}

/// Hosts whose routes were read.
pub(crate) struct MappedHosts {
    pub(crate) destination: Option<RunDestination>,
    pub(crate) routes: BTreeMap<String, Route>,
}

impl From<MappedHosts> for run::Hosts {
    fn from(hosts: MappedHosts) -> run::Hosts {
        let MappedHosts { destination, routes } = hosts;
        run::Hosts::Mapped { on: None, destination, routes: routes.into_iter().collect() }
    }
}

/// A run: tools that are started by it find an `ssh`, a `scp` and an `sftp` on their `PATH` that lead to
/// its [`Hosts`], and to nothing else. Made by [`Fakessh::run`](crate::Fakessh::run).
///
/// Keep it until its tools have ended. Dropped before, it ends their sessions, unless they are those of
/// the user's master.
#[derive(Debug)]
pub struct Run(Served);

/// Who serves a run.
#[derive(Debug)]
enum Served {
    Here(ServedRun),
    Shared {
        directory: RunDirectory,
        /// The end that tools inherit.
        socket: OwnedFd,
        /// The master serves the run until this is closed and no tool holds it any more.
        _request: Socket,
    },
}

impl Run {
    pub(crate) fn here(run: ServedRun) -> Run {
        Run(Served::Here(run))
    }

    pub(crate) fn shared(directory: RunDirectory, socket: OwnedFd, request: Socket) -> Run {
        Run(Served::Shared { directory, socket, _request: request })
    }

    /// A tool, to be given arguments and started. Its own `ssh` asks for what it needs on the
    /// terminal of the tool, if there is one.
    ///
    /// # Errors
    /// Failures of the system.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<tokio::process::Command> {
        let command = match &self.0 {
            Served::Here(run) => run.command(program),
            Served::Shared { directory, socket, .. } => prepare(program, directory, socket),
        };
        Ok(command?.into())
    }
}
