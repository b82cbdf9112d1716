//! `podman`: inside a running Podman container.

use super::argument::{check_user_and_container, container, in_container};
use super::{ArgumentError, Kind, PlaceName, Plan, Start};

/// `podman exec -i --detach-keys= [-u USER] CONTAINER COMMAND`.
///
/// Podman looks for its detach keys (Ctrl-P, Ctrl-Q) in any input, also in one that is no terminal:
/// it would hold a lone byte 0x10 back, and end at 0x10 0x11. No keys, no looking.
#[derive(Debug)]
pub(super) struct Podman;

/// Which engine and whose storage: podman(1), containers.conf(5), containers-storage.conf(5).
const DECIDED_BY: &[&str] = &[
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
    "CONTAINER_SSHKEY",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "HOME",
];

impl Kind for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn syntax(&self) -> &'static str {
        "podman:[USER@]CONTAINER"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        check_user_and_container(argument)
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        in_container(&["podman", "exec", "-i", "--detach-keys="], argument, start)
    }

    fn place_name<'a>(&self, argument: &'a str) -> PlaceName<'a> {
        PlaceName::Own(container(argument))
    }

    fn decided_by(&self) -> &'static [&'static str] {
        DECIDED_BY
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn podman_is_kept_from_looking_for_keys_in_the_stream() {
        let plain = ["podman", "exec", "-i", "--detach-keys=", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Podman, "app"), plain);
        let user =
            ["podman", "exec", "-i", "--detach-keys=", "-u", "bob", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Podman, "bob@app"), user);
        assert_eq!(wrong_at(&Podman, "bob@"), 4);
    }
}
