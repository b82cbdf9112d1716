//! A run: which contexts the `ssh` of a tool may reach, and under which names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, PoisonError};

use fakessh_protocol::invocation::Invocation;

use crate::caller::Caller;
use crate::context::{Context, ContextError, Registry};
use crate::ssh_config::Target;

/// Where the hosts of a run's command lines lead.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// To these contexts and to no others.
    Mapped {
        /// Where every name leads that has no route.
        every: Option<Target>,
        /// Where these names lead.
        routes: HashMap<String, Target>,
    },
    /// Where `ssh` itself would go, with these options for the way.
    CommandLine {
        /// Words for `ssh -G`, behind those of the command line.
        connection: Vec<OsString>,
        /// Whether what we can't do is left to the real `ssh`; else it is refused.
        real_ssh: bool,
    },
}

/// What becomes of an invocation.
#[derive(Debug)]
pub(crate) enum Choice {
    /// It goes to this destination.
    Target(Target),
    /// It is the real ssh's, for this reason.
    RealSsh(String),
}

/// A run. Who holds its descriptor may start sessions in its contexts; nothing else.
#[derive(Debug)]
pub struct Run {
    hosts: Hosts,
    registry: Registry,
    /// Contexts that were used, so that a session need not look at any configuration.
    used: Mutex<HashMap<Target, Arc<Context>>>,
}

impl Run {
    /// A run that leads to these hosts.
    pub fn new(hosts: Hosts, registry: Registry) -> Run {
        Run { hosts, registry, used: Mutex::default() }
    }

    /// The destinations that are known before any command line is.
    pub fn targets(&self) -> Vec<Target> {
        match &self.hosts {
            Hosts::Mapped { every, routes } => {
                every.iter().chain(routes.values()).cloned().collect()
            }
            Hosts::CommandLine { .. } => Vec::new(),
        }
    }

    /// Takes a context that was connected for this run already, so that its first session need
    /// not wait.
    pub fn adopt(&self, target: &Target, context: Arc<Context>) {
        self.used().insert(target.clone(), context);
    }

    /// Where an invocation goes.
    pub(crate) fn choose(&self, invocation: &Invocation) -> Result<Choice, String> {
        let destination = &invocation.destination;
        match &self.hosts {
            Hosts::Mapped { every, routes } => {
                let host = &destination.host;
                let target = routes.get(host).or(every.as_ref()).ok_or_else(|| {
                    let mut names: Vec<&str> = routes.keys().map(String::as_str).collect();
                    names.sort_unstable();
                    format!(
                        "{host}: no --route of this run names it (it has {}); add --route {host}=DEST",
                        names.join(", ")
                    )
                })?;
                match &invocation.unserved {
                    Some(option) => Err(format!("{host}: {option} is not supported yet")),
                    None => Ok(Choice::Target(target.clone())),
                }
            }
            Hosts::CommandLine { connection, real_ssh } => {
                if let Some(option) = &invocation.unserved {
                    let why = format!("{option} is not supported yet");
                    return if *real_ssh {
                        Ok(Choice::RealSsh(why))
                    } else {
                        Err(format!("{}: {why}", destination.host))
                    };
                }
                let words = invocation.connection.iter().cloned().map(OsString::from_vec);
                Ok(Choice::Target(Target {
                    host: destination.host.clone(),
                    user: destination.user.clone(),
                    port: destination.port,
                    connection: words.chain(connection.iter().cloned()).collect(),
                }))
            }
        }
    }

    /// The context of a destination, connected if need be.
    pub(crate) async fn context(
        &self,
        target: &Target,
        caller: &Caller,
    ) -> Result<Arc<Context>, ContextError> {
        if let Some(context) = self.find(target) {
            return Ok(context);
        }
        let context = self.registry.context(target, caller).await?;
        self.used().insert(target.clone(), context.clone());
        Ok(context)
    }

    /// The context of a destination, if this run has used it and it is still there.
    pub(crate) fn find(&self, target: &Target) -> Option<Arc<Context>> {
        let mut used = self.used();
        let context = used.get(target)?.clone();
        if context.is_lost() {
            used.remove(target);
            return None;
        }
        Some(context)
    }

    /// A user on the command line says who the program runs as: another one than the context's is
    /// refused, with the route that would do it.
    pub(crate) fn check_user(
        &self,
        invocation: &Invocation,
        context: &Context,
    ) -> Result<(), String> {
        let Hosts::Mapped { .. } = &self.hosts else { return Ok(()) };
        let Some(user) = &invocation.destination.user else { return Ok(()) };
        if user == context.user() {
            return Ok(());
        }
        let (name, ours) = (context.name(), context.user());
        let host = &invocation.destination.host;
        Err(format!(
            "{host} is {name}, where programs run as {ours} and not as {user}; \
             name a destination for {user} (fakessh run {user}@HOST, or --route {host}={user}@HOST)"
        ))
    }

    /// Lets sessions end that only kept a context.
    pub(crate) fn release(&self, context: &Context) {
        context.release();
    }

    fn used(&self) -> std::sync::MutexGuard<'_, HashMap<Target, Arc<Context>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
