//! `docker`: inside a running Docker container.

use super::argument::{check_user_and_container, container, in_container};
use super::{ArgumentError, Kind, PlaceName, Plan, Start};

/// `docker exec -i [-u USER] CONTAINER COMMAND`. Never `-t`: a terminal would change the bytes.
#[derive(Debug)]
pub(super) struct Docker;

/// Which engine: docker(1), and `~/.docker`.
const DECIDED_BY: &[&str] = &[
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "HOME",
];

impl Kind for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn syntax(&self) -> &'static str {
        "docker:[USER@]CONTAINER"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        check_user_and_container(argument)
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        in_container(&["docker", "exec", "-i"], argument, start)
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
    fn docker_runs_as_the_container_does_or_as_who_is_named() {
        let plain = ["docker", "exec", "-i", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Docker, "app"), plain);
        let user = ["docker", "exec", "-i", "-u", "0:0", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Docker, "0:0@app"), user);
    }

    #[test]
    fn a_container_needs_a_name() {
        assert_eq!(wrong_at(&Docker, ""), 0);
        assert_eq!(wrong_at(&Docker, "bob@"), 4);
        assert_eq!(wrong_at(&Docker, "bob@--privileged"), 4);
    }
}
