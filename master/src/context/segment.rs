//! A route as it is walked: in segments, each of which leads to a context.

use std::sync::Arc;

use crate::caller::Caller;
use crate::hop::{self, Kind};
use crate::route::{Route, Step};
use crate::ssh_config::Resolved;

use super::ContextError;
use super::environment::{self, Decided};
use super::path::{self, Endpoint, Host};

/// What makes two contexts, or the connections on the path to them, the same: every step that leads
/// there. The key of a context begins with the key of the context that it hangs on.
pub(super) type Key = Vec<KeyPart>;

/// One step of a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyPart {
    Host(Arc<Endpoint>),
    Helper(HelperHop),
}

/// A hop that a helper takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HelperHop {
    pub(super) kind: &'static Kind,
    pub(super) argument: String,
    /// What the caller's variables decide. Empty if the hop does not start from this host.
    decided: Decided,
}

/// What leads from one context to the next.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The text of the route up to its end.
    pub(super) name: String,
    pub(super) hops: Hops,
}

/// The hops of a segment.
#[derive(Clone, Debug)]
pub(super) enum Hops {
    /// SSH, through the hosts before the last; there is always one.
    Ssh(Vec<Host>),
    Helper(HelperHop),
}

impl Segment {
    /// The name of the kind of hop that leads to its end.
    pub(super) fn kind(&self) -> &'static str {
        match &self.hops {
            Hops::Ssh(_) => "ssh",
            Hops::Helper(hop) => hop.kind.name(),
        }
    }
}

/// The segments of a route. There is always one.
#[derive(Clone, Debug)]
pub(super) struct Walk(pub(super) Vec<Segment>);

impl Walk {
    /// Finds the walk along a route. A row of `ssh` steps is one segment: their hosts only pass the
    /// connection on.
    pub(super) async fn along(route: &Route, caller: &Caller) -> Result<Walk, ContextError> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut hosts = Vec::new();
        let steps = route.steps();
        let name = |steps| route.prefix(steps).map(|route| route.to_string()).unwrap_or_default();
        if let Some(Step::Hop { kind, .. }) = steps.first()
            && let Some(local) = hop::kind("local")
            && *kind != local
        {
            let hop = HelperHop { kind: local, argument: String::new(), decided: Decided::new() };
            segments.push(Segment { name: "local".to_owned(), hops: Hops::Helper(hop) });
        }
        for (index, step) in steps.iter().enumerate() {
            let hops = match step {
                Step::Ssh(target) => {
                    hosts.push(target.clone());
                    if matches!(steps.get(index + 1), Some(Step::Ssh(_))) {
                        continue;
                    }
                    let targets = std::mem::take(&mut hosts);
                    Hops::Ssh(path::path(&targets, !segments.is_empty(), caller).await?)
                }
                Step::Hop { kind, argument } => {
                    let from_here = index == 0;
                    let decided = from_here.then(|| environment::decided(kind, caller));
                    let (argument, decided) = (argument.clone(), decided.unwrap_or_default());
                    Hops::Helper(HelperHop { kind, argument, decided })
                }
            };
            segments.push(Segment { name: name(index + 1), hops });
        }
        Ok(Walk(segments))
    }

    /// The key of the context at the end.
    pub(super) fn key(&self) -> Key {
        key(&self.0)
    }

    /// The configuration of the last SSH connection, if there is one.
    pub(super) fn resolved(&self) -> Option<&Resolved> {
        resolved(&self.0)
    }

    /// Whether a configuration on the path says that nobody is to be asked.
    pub(super) fn is_batch(&self) -> bool {
        self.0.iter().any(|segment| match &segment.hops {
            Hops::Ssh(hosts) => hosts.iter().any(|host| host.resolved.batch_mode),
            Hops::Helper(_) => false,
        })
    }
}

/// The key of the context at the end of these segments.
pub(super) fn key(segments: &[Segment]) -> Key {
    let mut key = Key::new();
    for segment in segments {
        match &segment.hops {
            Hops::Ssh(hosts) => key.extend(parts(hosts)),
            Hops::Helper(hop) => key.push(KeyPart::Helper(hop.clone())),
        }
    }
    key
}

/// The parts of a key that these hosts are.
pub(super) fn parts(hosts: &[Host]) -> impl Iterator<Item = KeyPart> {
    hosts.iter().map(|host| KeyPart::Host(host.endpoint.clone()))
}

/// The configuration of the last SSH connection of these segments.
pub(super) fn resolved(segments: &[Segment]) -> Option<&Resolved> {
    segments.iter().rev().find_map(|segment| match &segment.hops {
        Hops::Ssh(hosts) => hosts.last().map(|host| &host.resolved),
        Hops::Helper(_) => None,
    })
}
