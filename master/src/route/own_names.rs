//! What the place at the end of a route is called.

use super::{Route, Step};
use crate::hop::PlaceName;

/// Names of this host, where a route starts and perhaps ends.
const THIS_HOST: [&str; 2] = ["local", "localhost"];

impl Route {
    /// The names of the place that it leads to: the last host's as it is written, with and without
    /// its port, or the container's. Another account is in the same place (`web1+sudo` is web1), and
    /// a container is another place than its host. A place behind nsenter, chroot and exec has no
    /// name.
    pub fn own_names(&self) -> Vec<String> {
        let mut names = THIS_HOST.map(str::to_owned).to_vec();
        for step in &self.steps {
            match step {
                Step::Ssh(target) => {
                    names = vec![target.host.clone()];
                    names.extend(target.port.map(|port| format!("{}:{port}", target.host)));
                }
                Step::Hop { kind, argument } => match kind.place_name(argument) {
                    PlaceName::AsBefore => {}
                    PlaceName::Own(name) => names = vec![name.to_owned()],
                    PlaceName::None => names.clear(),
                },
            }
        }
        names
    }

    /// Whether it leads to the last host that it names, and not into something on it.
    pub(crate) fn ends_at_host(&self) -> bool {
        let last = self.steps.iter().rev().find(|step| match step {
            Step::Ssh(_) => true,
            Step::Hop { kind, argument } => {
                !matches!(kind.place_name(argument), PlaceName::AsBefore)
            }
        });
        matches!(last, Some(Step::Ssh(_)))
    }
}
