//! Routes: how a context is reached, as hops joined by `+`.
//!
//! `bastion+web1+sudo:postgres` is two SSH connections, the second through the first, and an
//! account behind sudo. The grammar is in `parse`, names for routes in [`config`].

pub mod config;
mod error;
mod json;
mod nearest;
mod options;
mod own_names;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub use config::{Names, NamesError};
pub use error::RouteError;
pub use json::RouteJson;
pub use options::{Options, OptionsError};

use crate::hop::{self, Kind};
use crate::ssh_config::Target;

/// Most steps of a route, those of the names in it included. Each is a process or a connection on
/// the way of every byte; what is longer is a mistake.
pub const MAX_STEPS: usize = 32;

/// One step of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// An SSH connection: from this host where it is the first, else through the place before it.
    Ssh(Target),
    /// A helper, which is run in the place before it, or on this host where it is the first.
    Hop {
        /// Which helper.
        kind: &'static Kind,
        /// What stands behind the colon; empty where its default is meant.
        argument: String,
    },
}

/// How a context is reached: one step or several, each from where the one before it leads.
///
/// ```
/// use fakessh::route::Route;
///
/// let route = Route::parse("bastion+alice@web1:2222+sudo:postgres")?;
/// let same = Route::ssh("bastion")?.then("alice@web1:2222")?.hop("sudo", "postgres")?;
/// assert_eq!(route, same);
/// assert_eq!(route.to_string(), "bastion+alice@web1:2222+sudo:postgres");
/// assert_eq!(route.ssh_prefix(), 2);
///
/// // The exact place of a mistake, and what was expected there.
/// let error = Route::parse("web1+dokcer:app").unwrap_err().to_string();
/// assert!(error.contains("  web1+dokcer:app\n       ^^^^^^\ndid you mean docker:app?"), "{error}");
/// # Ok::<(), fakessh::route::RouteError>(())
/// ```
///
/// Its text ([`fmt::Display`]) is canonical: `sudo:root` is `sudo`, `local+sudo` is `sudo`. Two
/// routes are equal when their steps are, options of the connections included. Whether a host was
/// written `ssh:web1`, so that no configured name is meant ([`Names::expand`]), is in the text and
/// makes no difference otherwise.
#[derive(Clone)]
pub struct Route {
    /// Never empty. `local` stands alone, other kinds that only begin a route stand first.
    steps: Vec<Step>,
    /// The steps that are a host's bare name and were written with `ssh:`.
    verbatim: BTreeSet<usize>,
}

impl Route {
    /// Reads a route: steps joined by `+`, where `\+` is a plus in a step. A step that is the name
    /// of a hop, or begins with one and a colon, is that hop; every other is
    /// `[user@]host[:port]`, and `ssh:` before it says so for hosts with the name of a hop.
    ///
    /// # Errors
    /// [`RouteError`], with the place and what is expected there.
    pub fn parse(text: &str) -> Result<Route, RouteError> {
        parse::route(text).map(|read| read.route)
    }

    /// The route to a host, `[user@]host[:port]`, whatever its name is.
    ///
    /// # Errors
    /// [`RouteError`] where it is no destination.
    pub fn ssh(destination: &str) -> Result<Route, RouteError> {
        let target = crate::ssh_config::parse_destination(destination)
            .map_err(|error| RouteError::of_destination(destination, &error))?;
        Route::from_steps(vec![Step::Ssh(target)])
    }

    /// The route of these steps.
    ///
    /// # Errors
    /// [`RouteError`] where there is none, or one that can't stand there, or whose text would be
    /// read as something else: a host that holds blanks, an argument that its hop refuses.
    pub fn from_steps(steps: Vec<Step>) -> Result<Route, RouteError> {
        let text = join(steps.iter().map(Step::to_string));
        let mut route = Route::parse(&text)?;
        let canonical = canonical(steps);
        let expected = canonical.iter().map(Step::without_options);
        if !route.steps.iter().cloned().eq(expected) {
            let what = "a step of this route can't be written so that it is read again";
            return Err(RouteError::new(&text, 0..text.len(), what));
        }
        route.steps = canonical;
        route.verbatim.clear();
        Ok(route)
    }

    /// This route, and further steps, written as in [`Route::parse`].
    ///
    /// # Errors
    /// As [`Route::parse`]; the place is that in the whole route.
    pub fn then(self, steps: &str) -> Result<Route, RouteError> {
        let mut longer = Route::parse(&format!("{self}+{steps}"))?;
        if !self.is_local() {
            // The text does not hold the options of connections.
            longer.steps.splice(..self.steps.len(), self.steps);
        }
        Ok(longer)
    }

    /// This route, and one further helper. Nothing in the argument needs to be escaped.
    ///
    /// # Errors
    /// As [`Route::parse`].
    pub fn hop(self, kind: &str, argument: &str) -> Result<Route, RouteError> {
        match hop::kind(kind) {
            Some(kind) => {
                let step = Step::Hop { kind, argument: argument.to_owned() };
                // Its default is what an empty one stands for, but not behind a colon.
                let step = canonical_step(step);
                self.then(&step.to_string())
            }
            None => {
                let before = self.to_string().len() + 1;
                let text = format!("{self}+{kind}");
                let error = RouteError::new(&text, before..text.len(), "there is no such hop");
                Err(error.with_hops())
            }
        }
    }

    /// Its steps; never none.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many of the first steps are SSH connections.
    pub fn ssh_prefix(&self) -> usize {
        self.steps.iter().take_while(|step| matches!(step, Step::Ssh(_))).count()
    }

    /// Whether it starts in a place on this host, and not with an SSH connection from here.
    pub fn starts_here(&self) -> bool {
        self.ssh_prefix() == 0
    }

    /// The route to where its last step starts from; none where that is this host.
    pub fn parent(&self) -> Option<Route> {
        self.prefix(self.steps.len() - 1)
    }

    /// The route of its first steps; none where there are not so many, and for 0.
    pub fn prefix(&self, steps: usize) -> Option<Route> {
        let first = self.steps.get(..steps).filter(|first| !first.is_empty())?;
        let verbatim = self.verbatim.range(..steps).copied().collect();
        Some(Route { steps: first.to_vec(), verbatim })
    }

    /// The host, where the route is one SSH connection and nothing else.
    pub fn as_target(&self) -> Option<&Target> {
        match &self.steps[..] {
            [Step::Ssh(target)] => Some(target),
            _ => None,
        }
    }

    /// Whether it is `local` alone.
    fn is_local(&self) -> bool {
        matches!(&self.steps[..], [step] if step.is_local())
    }
}

impl Step {
    fn is_local(&self) -> bool {
        matches!(self, Step::Hop { kind, .. } if kind.name() == LOCAL)
    }

    /// Whether it can only begin a route.
    fn is_first_only(&self) -> bool {
        matches!(self, Step::Hop { kind, .. } if kind.is_first_only())
    }

    /// The host's name, where that is all there is.
    fn bare_host(&self) -> Option<&str> {
        match self {
            Step::Ssh(Target { host, user: None, port: None, connection })
                if connection.is_empty() =>
            {
                Some(host)
            }
            _ => None,
        }
    }

    fn without_options(&self) -> Step {
        match self {
            Step::Ssh(target) => Step::Ssh(Target { connection: Vec::new(), ..target.clone() }),
            hop @ Step::Hop { .. } => hop.clone(),
        }
    }
}

/// The hop that a route starts with where it starts with any other helper.
const LOCAL: &str = "local";

/// Steps as routes hold them.
fn canonical(steps: Vec<Step>) -> Vec<Step> {
    let mut steps: Vec<Step> = steps.into_iter().map(canonical_step).collect();
    // What follows it starts from this host anyway.
    if steps.len() > 1 && steps[0].is_local() {
        steps.remove(0);
    }
    steps
}

fn canonical_step(step: Step) -> Step {
    match step {
        Step::Hop { kind, argument } if argument == kind.default_argument() => {
            Step::Hop { kind, argument: String::new() }
        }
        other => other,
    }
}

fn join(steps: impl Iterator<Item = String>) -> String {
    steps.collect::<Vec<_>>().join("+")
}

/// As it is written in a route, without the options of connections.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Step::Hop { kind, argument } if argument.is_empty() => kind.name().to_owned(),
            Step::Hop { kind, argument } => format!("{}:{argument}", kind.name()),
            Step::Ssh(target) => {
                let plain = target.to_string();
                // A host with the name of a hop would be read as that.
                match parse::step(&plain) {
                    Ok(read) if read.step == self.without_options() => plain,
                    _ => format!("{}{plain}", parse::SSH),
                }
            }
        };
        f.write_str(&text.replace('+', "\\+"))
    }
}

/// As [`Route::parse`] reads it, without the options of connections.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().enumerate().map(|(at, step)| {
            let text = step.to_string();
            let marked = self.verbatim.contains(&at) && step.bare_host().is_some();
            if marked && !text.starts_with(parse::SSH) {
                format!("{}{text}", parse::SSH)
            } else {
                text
            }
        });
        f.write_str(&join(steps))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&self.to_string()).field(&self.steps).finish()
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        self.steps == other.steps
    }
}

impl Eq for Route {}

impl std::hash::Hash for Route {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.steps.hash(state);
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Route, RouteError> {
        Route::parse(text)
    }
}

/// The route that is this one connection, to a target that `parse_destination` has read; one that
/// it would read in another way goes through [`Route::from_steps`], which refuses it.
impl From<Target> for Route {
    fn from(target: Target) -> Route {
        Route { steps: vec![Step::Ssh(target)], verbatim: BTreeSet::new() }
    }
}

impl From<&Target> for Route {
    fn from(target: &Target) -> Route {
        Route::from(target.clone())
    }
}

impl From<&Route> for Route {
    fn from(route: &Route) -> Route {
        route.clone()
    }
}
