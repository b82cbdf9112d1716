//! A run: which contexts the `ssh` of a tool may reach, and under which names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fakessh_protocol::invocation::Invocation;
use tokio::sync::Notify;

use crate::caller::Caller;
use crate::context::{Context, ContextError, Reached, Registry};
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
    /// Where relative paths in the options of mapped destinations are meant from.
    directory: PathBuf,
    /// What was used, so that a session need not look at any configuration.
    used: Mutex<HashMap<(Target, PathBuf), Reached>>,
    /// Where sessions of this run wait that only keep a context.
    kept: Mutex<Vec<(Weak<Context>, Arc<Notify>)>>,
}

impl Run {
    /// A run that leads to these hosts. Relative paths in the options of mapped destinations are
    /// meant from `directory`.
    pub fn new(hosts: Hosts, registry: Registry, directory: PathBuf) -> Run {
        Run { hosts, registry, directory, used: Mutex::default(), kept: Mutex::default() }
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

    /// Connects to the mapped destinations, so that no session has to wait for it. Questions go to
    /// `caller`. Cancelled, what is connected stays so.
    ///
    /// # Errors
    /// The first destination that can't be reached, with the reason.
    pub async fn connect(&self, caller: &Caller) -> Result<(), (Target, ContextError)> {
        for target in self.targets() {
            self.reach(&target, caller).await.map_err(|error| (target, error))?;
        }
        Ok(())
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
    pub(crate) async fn reach(
        &self,
        target: &Target,
        caller: &Caller,
    ) -> Result<Reached, ContextError> {
        let caller = self.at_home(caller);
        let key = (target.clone(), caller.directory.clone());
        if let Some(reached) = self.used().get(&key).filter(|it| !it.context.is_lost()) {
            return Ok(reached.clone());
        }
        let reached = self.registry.reach(target, &caller).await?;
        self.used().insert(key, reached.clone());
        Ok(reached)
    }

    /// The context of a destination, if it is connected.
    pub(crate) async fn held(&self, target: &Target, caller: &Caller) -> Option<Arc<Context>> {
        self.registry.held(target, &self.at_home(caller)).await.ok().flatten()
    }

    /// Whether what we can't do is left to the real `ssh`.
    pub(crate) fn leaves_to_real_ssh(&self) -> bool {
        matches!(self.hosts, Hosts::CommandLine { real_ssh: true, .. })
    }

    /// A caller in the directory that options are meant from.
    fn at_home<'a>(&self, caller: &'a Caller) -> Cow<'a, Caller> {
        match &self.hosts {
            Hosts::CommandLine { .. } => Cow::Borrowed(caller),
            Hosts::Mapped { .. } => {
                Cow::Owned(Caller { directory: self.directory.clone(), ..caller.clone() })
            }
        }
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

    /// Lets sessions of this run end that only kept a context.
    pub(crate) fn release(&self, context: &Arc<Context>) {
        self.released(context).notify_waiters();
    }

    /// Tells its waiters when this run need not keep the context any longer.
    pub(crate) fn released(&self, context: &Arc<Context>) -> Arc<Notify> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(kept, _)| kept.strong_count() > 0);
        let is_it = |(kept, _): &&(Weak<Context>, _)| kept.as_ptr() == Arc::as_ptr(context);
        if let Some((_, notify)) = kept.iter().find(is_it) {
            return notify.clone();
        }
        let notify = Arc::new(Notify::new());
        kept.push((Arc::downgrade(context), notify.clone()));
        notify
    }

    fn used(&self) -> MutexGuard<'_, HashMap<(Target, PathBuf), Reached>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
