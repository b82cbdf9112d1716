//! A route as it is walked: legs, each of which leads to a context.

use std::sync::Arc;

use crate::caller::Caller;
use crate::hop::{self, Kind};
use crate::route::{Route, Step};
use crate::ssh_config::Resolved;

use super::ContextError;
use super::environment::{self, Decided};
use super::way::{self, Endpoint, Host};

/// What makes two contexts, or the connections on their way, the same: every step that leads
/// there. What hangs on a context has its key as a beginning.
pub(super) type Key = Vec<Part>;

/// One step of a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// An SSH connection.
    Host(Arc<Endpoint>),
    /// A helper, and what its caller decides of where it leads.
    Helper(&'static Kind, String, Decided),
}

/// What leads from one context to the next.
#[derive(Clone, Debug)]
pub(super) enum Leg {
    /// SSH, through the hosts before the last; there is always one.
    Ssh(Vec<Host>),
    /// A helper, and what its caller decides of where it leads: nothing behind another place.
    Helper(&'static Kind, String, Decided),
}

impl Leg {
    /// The name of the kind of hop that leads to its end.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Leg::Ssh(_) => "ssh",
            Leg::Helper(kind, ..) => kind.name(),
        }
    }
}

/// A route as it is walked.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The legs, each with the text of the route up to its end. There is always one.
    pub(super) legs: Vec<(Leg, String)>,
}

impl Walk {
    /// The walk along a route. A row of `ssh` steps is one leg: their hosts only pass it on.
    pub(super) async fn along(route: &Route, caller: &Caller) -> Result<Walk, ContextError> {
        let mut legs: Vec<(Leg, String)> = Vec::new();
        let mut hosts = Vec::new();
        let steps = route.steps();
        let name = |steps| route.prefix(steps).map(|route| route.to_string()).unwrap_or_default();
        if let Some(Step::Hop { kind, .. }) = steps.first()
            && let Some(local) = hop::kind("local")
            && *kind != local
        {
            legs.push((Leg::Helper(local, String::new(), Decided::new()), "local".to_owned()));
        }
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Ssh(target) => {
                    hosts.push(target.clone());
                    if !matches!(steps.get(index + 1), Some(Step::Ssh(_))) {
                        let way = way::way(&hosts, !legs.is_empty(), caller).await?;
                        legs.push((Leg::Ssh(way), name(index + 1)));
                        hosts.clear();
                    }
                }
                Step::Hop { kind, argument } => {
                    let from_here = index == 0;
                    let decided = from_here.then(|| environment::decided(kind, caller));
                    let leg = Leg::Helper(kind, argument.clone(), decided.unwrap_or_default());
                    legs.push((leg, name(index + 1)));
                }
            }
        }
        Ok(Walk { legs })
    }

    /// What the context at the end is.
    pub(super) fn key(&self) -> Key {
        key(&self.legs)
    }

    /// What the nearest SSH connection's configuration says, if there is one.
    pub(super) fn resolved(&self) -> Option<&Resolved> {
        resolved(&self.legs)
    }

    /// Whether a configuration on the way says that nobody is to be asked.
    pub(super) fn is_batch(&self) -> bool {
        self.legs.iter().any(|(leg, _)| match leg {
            Leg::Ssh(way) => way.iter().any(|host| host.resolved.batch_mode),
            Leg::Helper(..) => false,
        })
    }
}

/// The key of the context at the end of these legs.
pub(super) fn key(legs: &[(Leg, String)]) -> Key {
    let mut key = Key::new();
    for (leg, _) in legs {
        match leg {
            Leg::Ssh(way) => key.extend(parts(way)),
            Leg::Helper(kind, argument, decided) => {
                key.push(Part::Helper(kind, argument.clone(), decided.clone()));
            }
        }
    }
    key
}

/// The parts of a key that these hosts are.
pub(super) fn parts(hosts: &[Host]) -> impl Iterator<Item = Part> {
    hosts.iter().map(|host| Part::Host(host.endpoint.clone()))
}

/// The configuration of the last SSH connection on these legs.
pub(super) fn resolved(legs: &[(Leg, String)]) -> Option<&Resolved> {
    legs.iter().rev().find_map(|(leg, _)| match leg {
        Leg::Ssh(way) => way.last().map(|host| &host.resolved),
        Leg::Helper(..) => None,
    })
}
