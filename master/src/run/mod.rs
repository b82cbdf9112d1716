//! A run: which contexts the `ssh` of a tool may reach, and under which names.

mod confirm;
mod holding;
mod plan;
mod real_ssh;
mod tunnel;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::invocation::{Invocation, Request};
use fakessh_protocol::message::RealWords;

mod destination;

pub use destination::RunDestination;
use destination::is_placeholder;

use crate::audit::Refusals;
use crate::caller::{Ask, AskNobody, Caller};
use crate::context::{Context, ContextError, Reached, Registry};
use crate::hop::ssh::SshConnection;
use crate::lifetime::{InUse, Use};
use crate::open_forwards::OpenForwards;
use crate::route::{Options, Route, Step};
use crate::ssh_config::Target;

use holding::Holding;
pub(crate) use plan::{Denied, Plan, Program, Start, not_from_a_target};
use real_ssh::{CONFIGURATION, Choice, behind, configuration, jump_in};
use tunnel::HoldFor;

/// Where the hosts of a run's command lines lead.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// To these contexts and to no others.
    Mapped {
        /// Where the tool itself runs; on this host where there is none.
        on: Option<Route>,
        /// Where names without a route lead, as far as they mean it.
        destination: Option<RunDestination>,
        /// Where these names lead.
        routes: HashMap<String, Route>,
    },
    /// Where `ssh` itself would go, with these options for the way.
    CommandLine {
        /// Words for `ssh -G`, behind those of the command line.
        connection: Vec<OsString>,
        /// Names that lead elsewhere: those of the user's configuration of routes. A reason is
        /// what becomes of one that leads nowhere.
        names: HashMap<String, Result<Route, String>>,
        /// Whether what we can't do is left to the real `ssh`; else it is refused.
        real_ssh: bool,
    },
}

/// Variables of a caller that decide which account of a host its command line leads to: whose keys
/// and whose configuration.
const DECIDING: [&str; 2] = ["SSH_AUTH_SOCK", "HOME"];

/// What makes two destinations of a run the same, so that a session need not look anything up.
#[derive(Debug, PartialEq, Eq, Hash)]
enum CacheKey {
    /// A mapped destination is settled by its route: everything else is the run's.
    Mapped(Route),
    /// That of a command line also depends on the directory and on the deciding variables.
    CommandLine(Route, PathBuf, Vec<Option<OsString>>),
}

/// A run. Who holds its descriptor may start sessions in its contexts; nothing else.
#[derive(Debug)]
pub struct Run {
    hosts: Hosts,
    registry: Registry,
    /// Environment and directory of whoever opened the run. Mapped destinations are looked up and
    /// connected to with these alone, also when a connection was lost or is only asked about: what
    /// a tool hands over must not reach `ssh -G`, a ProxyCommand or a helper, which run with the
    /// rights of the master and outside of the tool's namespaces.
    origin: Origin,
    holding: Holding,
    /// The one context of the run, which is never connected to again.
    pinned: Option<Reached>,
    /// What `ssh_config` makes of the last host of the run's DEST, if DEST is a place on it. Known
    /// as soon as it was connected to.
    hostname: OnceLock<String>,
    /// What was used, so that a session need not look at any configuration. As long as the run
    /// lives, that is held.
    used: Mutex<HashMap<CacheKey, (Reached, Option<InUse>)>>,
    /// Whether a shim of this run was started.
    called: AtomicBool,
    refusals: Arc<Refusals>,
}

/// These options, for the real `ssh`.
fn real_words(options: &[OsString]) -> RealWords {
    RealWords::With(options.iter().map(|word| word.as_encoded_bytes().to_vec()).collect())
}

impl Run {
    /// A run that leads to these hosts. Mapped destinations are reached with the environment of
    /// `opener`, and relative paths in their options are meant from its directory.
    pub fn new(hosts: Hosts, registry: Registry, opener: &Caller) -> Run {
        let origin =
            Origin { environment: opener.environment.clone(), directory: opener.directory.clone() };
        let (holding, used, hostname, pinned) = Default::default();
        let called = AtomicBool::new(false);
        let refusals = Arc::new(Refusals::new(registry.audit().clone()));
        Run { hosts, registry, origin, holding, pinned, hostname, used, called, refusals }
    }

    /// A run that leads to this one context, of which `route` is the way. If the context is lost, the
    /// run leads nowhere. As long as the run lives, the context is in use.
    pub(crate) fn in_context(
        route: Route,
        reached: Reached,
        registry: Registry,
        opener: &Caller,
    ) -> Run {
        let hosts =
            Hosts::Mapped { on: Some(route.clone()), destination: None, routes: HashMap::new() };
        let held = reached.context.hold(Use::Run);
        let used = HashMap::from([(CacheKey::Mapped(route), (reached.clone(), held))]).into();
        Run { used, pinned: Some(reached), ..Run::new(hosts, registry, opener) }
    }

    /// A run that leads to this one context of it, for the clients of a ControlPath.
    fn pinned_to(&self, route: Route, reached: Reached, ask: &Arc<dyn Ask>) -> Run {
        let opener = self.origin.caller(ask.clone());
        let run = Run::in_context(route, reached, self.registry.clone(), &opener);
        let rules = self.holding.rules.clone();
        match &self.holding.opener {
            Some(opener) => run.held_by(rules).confirmed_by(opener.clone()),
            None => run.held_by(rules).confirmed_by(ask.clone()),
        }
    }

    /// The forwards that are open, of all runs.
    pub(crate) fn forwards(&self) -> &OpenForwards {
        self.registry.forwards()
    }

    /// Notes that a shim of this run was started.
    pub(crate) fn note_call(&self) {
        self.called.store(true, Ordering::Relaxed);
    }

    /// Whether a shim of this run was started.
    pub(crate) fn was_called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// The routes that are known before any command line is.
    pub fn routes(&self) -> Vec<Route> {
        match &self.hosts {
            Hosts::Mapped { on, destination, routes } => {
                let destination = destination.as_ref().map(|destination| &destination.route);
                on.iter().chain(destination).chain(routes.values()).cloned().collect()
            }
            Hosts::CommandLine { .. } => Vec::new(),
        }
    }

    /// Connects to the mapped destinations, so that no session has to wait for it. Questions go to
    /// `ask`. Cancelled, what is connected stays so.
    ///
    /// # Errors
    /// The first destination that can't be reached, with the reason.
    pub async fn connect(&self, ask: &Arc<dyn Ask>) -> Result<(), (Route, ContextError)> {
        for route in self.routes() {
            match self.reach_mapped(&route, ask).await {
                Ok(reached) => self.note_hostname(&route, &reached.context),
                Err(error) => return Err((route, error)),
            }
        }
        Ok(())
    }

    /// Notes what `ssh_config` makes of the last host of DEST, which is one more name for it.
    fn note_hostname(&self, route: &Route, context: &Context) {
        let Hosts::Mapped { destination: Some(destination), .. } = &self.hosts else { return };
        if destination.route == *route
            && route.ends_at_host()
            && let Some((hostname, _)) = context.address()
        {
            let _ = self.hostname.set(hostname.to_owned());
        }
    }

    /// Decides where an invocation goes.
    fn choose(&self, invocation: &Invocation) -> Result<Choice, Failure> {
        let refused = |why: String| Failure::new(FailureKind::Refused, why);
        let config = |why: String| Failure::new(FailureKind::Config, why);
        if self.pinned.is_some() || invocation.request.is_none_of_ssh() {
            return match &self.hosts {
                Hosts::Mapped { on: Some(on), .. } => Ok(Choice::Route(on.clone())),
                _ => Err(refused("this run has no host where its tool is to run".to_owned())),
            };
        }
        let destination = &invocation.destination;
        let host = &destination.host;
        match &self.hosts {
            Hosts::Mapped { destination: own, routes, .. } => {
                let route = match (routes.get(host), own) {
                    (Some(route), _) => route,
                    (None, Some(own)) => {
                        let hostname = self.hostname.get().map(String::as_str);
                        if !own.is_meant_by(host, hostname) {
                            return Err(refused(own.refusal(destination)));
                        }
                        &own.route
                    }
                    (None, None) => return Err(refused(unknown(host, routes))),
                };
                if invocation.request == Request::Configuration {
                    return configuration(destination, route, &self.origin.directory);
                }
                match &invocation.unserved {
                    Some(option) => Err(refused(format!("{host}: {option} is not supported yet"))),
                    None => Ok(Choice::Route(route.clone())),
                }
            }
            Hosts::CommandLine { connection, names, .. } => {
                let is_bare = destination.user.is_none() && destination.port.is_none();
                let named = names.get(host).filter(|_| is_bare);
                let is_configuration = invocation.request == Request::Configuration;
                let of_run = behind(&invocation.connection, connection);
                if let Some(option) = &invocation.unserved {
                    return self.unserved(invocation, option);
                }
                let words = invocation.connection.iter().cloned().map(OsString::from_vec);
                let words: Vec<OsString> = words.chain(of_run.iter().cloned()).collect();
                if let Some(route) = named {
                    let route = route.clone().map_err(|why| config(format!("{host}: {why}")))?;
                    let route = with_words(route, &words)?;
                    return if is_configuration {
                        configuration(destination, &route, Path::new(""))
                    } else {
                        Ok(Choice::Route(route))
                    };
                }
                if is_configuration {
                    let why = CONFIGURATION.to_owned();
                    return Ok(Choice::RealSsh { why, words: real_words(&of_run) });
                }
                let target = Target {
                    host: host.clone(),
                    user: destination.user.clone(),
                    port: destination.port,
                    connection: words,
                };
                // A host and never a route, whatever is in its name: command lines of tools hold
                // what stands in URLs, and routes come from people.
                target.check().map_err(|error| config(error.to_string()))?;
                Ok(Choice::Route(target.into()))
            }
        }
    }

    /// What becomes of an invocation that wants something that is not there yet: it is left to the
    /// real `ssh` if that may be.
    ///
    /// # Errors
    /// Names what is wanted, if it may not be.
    fn unserved(&self, invocation: &Invocation, what: &str) -> Result<Choice, Failure> {
        let destination = &invocation.destination;
        let why = format!("{what} is not supported yet");
        match &self.hosts {
            Hosts::CommandLine { connection, names, real_ssh: true } => {
                let is_bare = destination.user.is_none() && destination.port.is_none();
                if !(is_bare && names.contains_key(&destination.host)) {
                    let words = real_words(&behind(&invocation.connection, connection));
                    return Ok(Choice::RealSsh { why, words });
                }
            }
            Hosts::CommandLine { .. } | Hosts::Mapped { .. } => {}
        }
        Err(Failure::new(FailureKind::Refused, format!("{}: {why}", destination.host)))
    }

    /// Gets the context of a destination, and connects it if need be. Questions go to `ask`.
    async fn reach(
        &self,
        route: &Route,
        invocation: &Invocation,
        ask: &Arc<dyn Ask>,
    ) -> Result<Reached, ContextError> {
        match (&self.hosts, &self.pinned) {
            (_, Some(reached)) => Ok(reached.clone()),
            (Hosts::Mapped { .. }, None) => self.reach_mapped(route, ask).await,
            (Hosts::CommandLine { .. }, None) => {
                let hold = |context: &Context| HoldFor::of(&self.hosts, invocation, context);
                let caller = Caller::of_invocation(invocation, ask.clone());
                let deciding = deciding(route, &caller);
                let key = CacheKey::CommandLine(route.clone(), caller.directory.clone(), deciding);
                if let Some(reached) = self.reached_before(&key) {
                    // Each command asks anew for what its configuration says.
                    reached.say_unsupported(&**ask).await;
                    return Ok(reached);
                }
                self.reach_as(key, route, || caller, hold).await
            }
        }
    }

    async fn reach_mapped(
        &self,
        route: &Route,
        ask: &Arc<dyn Ask>,
    ) -> Result<Reached, ContextError> {
        let caller = || self.origin.caller(ask.clone());
        self.reach_as(CacheKey::Mapped(route.clone()), route, caller, |_| HoldFor::Rules).await
    }

    async fn reach_as(
        &self,
        key: CacheKey,
        route: &Route,
        caller: impl FnOnce() -> Caller,
        hold: impl FnOnce(&Context) -> HoldFor,
    ) -> Result<Reached, ContextError> {
        if let Some(reached) = self.reached_before(&key) {
            return Ok(reached);
        }
        let reached = self.registry.reach(route, &self.holding.rules, &caller()).await?;
        let hold = hold(&reached.context);
        reached.context.hold_briefly(hold != HoldFor::Rules);
        let held = if hold == HoldFor::Moment { None } else { reached.context.hold(Use::Run) };
        self.used().insert(key, (reached.clone(), held));
        Ok(reached)
    }

    /// What this run has reached before and can use still.
    fn reached_before(&self, key: &CacheKey) -> Option<Reached> {
        let used = self.used().get(key).map(|(reached, _)| reached.clone());
        used.filter(|reached| reached.context.is_usable())
    }

    /// Holds nothing any more: nobody can begin a session.
    pub(crate) fn let_go(&self) {
        self.used().clear();
    }

    /// The caller that an invocation comes from, who is not asked anything.
    fn quiet_caller(&self, invocation: &Invocation) -> Caller {
        match &self.hosts {
            Hosts::Mapped { .. } => self.origin.caller(Arc::new(AskNobody)),
            Hosts::CommandLine { .. } => Caller::of_invocation(invocation, Arc::new(AskNobody)),
        }
    }

    /// Makes another connection to a destination that is connected already, for one session alone.
    /// `None` if somebody would have to be asked.
    async fn another(&self, route: &Route, caller: &Caller) -> Option<SshConnection> {
        let connected = self.registry.another(route, caller).await;
        connected.inspect_err(|error| tracing::debug!(%error, "no other connection")).ok()
    }

    /// The failure of an invocation whose destination can't be reached.
    fn failure(&self, invocation: &Invocation, route: &Route, error: &ContextError) -> Failure {
        let failure = error.failure();
        let host = &invocation.destination.host;
        let is_mapped = matches!(self.hosts, Hosts::Mapped { .. });
        if !is_mapped && error.is_of_the_path() && is_placeholder(host) {
            let message = format!(
                "{route}: {error}; in a run without a DEST {host} is an ordinary name: write \
                 `fakessh run DEST -- CMD`"
            );
            return Failure { message, ..failure };
        }
        if is_mapped || !error.is_of_the_path() || !looks_like_route(host) {
            return failure.of(route);
        }
        let message = format!(
            "{host}: {error}; a host that a tool names is never read as a route: for one, type \
             `fakessh ssh web1+sudo` or `fakessh run web1+sudo`, or name it in config.toml"
        );
        Failure { message, ..failure }
    }

    /// Refuses another user on the command line than the context's, and names the route that would
    /// lead to it: the command line says who the program runs as.
    fn check_user(&self, invocation: &Invocation, context: &Context) -> Result<(), Failure> {
        let Hosts::Mapped { .. } = &self.hosts else { return Ok(()) };
        let Some(user) = &invocation.destination.user else { return Ok(()) };
        if user == context.user() {
            return Ok(());
        }
        let (name, ours) = (context.name(), context.user());
        let host = &invocation.destination.host;
        let hop = if user == "root" { "sudo".to_owned() } else { format!("sudo:{user}") };
        let what = if destination::is_plain(user) {
            format!("the route {name}+{hop} would do that")
        } else {
            "leave the user away".to_owned()
        };
        let message =
            format!("{host} is {name}, where programs run as {ours} and not as {user}; {what}");
        Err(Failure::new(FailureKind::Refused, message))
    }

    fn used(&self) -> MutexGuard<'_, HashMap<CacheKey, (Reached, Option<InUse>)>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a tool is told that names a host to which no route of its run leads.
fn unknown(host: &str, routes: &HashMap<String, Route>) -> String {
    let mut names: Vec<&str> = routes.keys().map(String::as_str).collect();
    names.sort_unstable();
    let known = match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    format!("{host}: no --route of this run names it (it has {known}); add --route {host}=DEST")
}

/// Environment and directory of whoever opened a run. Held in memory only, as long as the run.
struct Origin {
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Origin {
    /// The opener as a caller whose questions are asked somewhere else.
    fn caller(&self, ask: Arc<dyn Ask>) -> Caller {
        let (environment, directory) = (self.environment.clone(), self.directory.clone());
        Caller { environment, directory, ask }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Origin").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The values of the variables that decide, for the route's hops, too.
fn deciding(route: &Route, caller: &Caller) -> Vec<Option<OsString>> {
    let hops = route.steps().iter().filter_map(|step| match step {
        Step::Hop { kind, .. } => Some(kind.variables()),
        Step::Ssh(_) => None,
    });
    let names = DECIDING.iter().chain(hops.flatten());
    names.map(|name| caller.variable(name).map(Into::into)).collect()
}

/// Whether a host's name would be a route, or was meant to be one.
fn looks_like_route(host: &str) -> bool {
    host.contains('+') || Route::parse(host).is_ok_and(|route| route.as_target().is_none())
}

/// A route with options as `ssh -G` takes them. Those that none of its steps could have are of no
/// account: they come with every command line of the run.
fn with_words(route: Route, words: &[OsString]) -> Result<Route, Failure> {
    if !route.steps().iter().any(|step| matches!(step, Step::Ssh(_))) {
        return Ok(route);
    }
    let mut options = Options::from_words(words);
    // The run's own -J stands among the options.
    let of_run = options.option.iter().find_map(|option| jump_in(option));
    options.option.retain(|option| jump_in(option).is_none());
    options.jump = options.jump.or(of_run);
    if route.starts_here() {
        options.jump = None;
    }
    let with_options = route.with_options(&options);
    with_options.map_err(|error| Failure::new(FailureKind::Config, error.to_string()))
}
