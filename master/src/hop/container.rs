//! `docker`, `podman`, `lxc` and `incus`: inside a container that runs.

use super::argument::check_name;
use super::{ArgumentError, Kind, PlaceName, Plan, Start, Variables};

/// `docker exec -i [-u USER] CONTAINER COMMAND`. Never `-t`: a terminal would change the bytes.
pub(super) const DOCKER: Kind = Kind {
    // Which engine: docker(1), and `~/.docker`.
    variables: Variables::These(&[
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_CERT_PATH",
        "DOCKER_TLS",
        "DOCKER_TLS_VERIFY",
        "HOME",
    ]),
    place: |argument| PlaceName::Own(user_and_container(argument).1),
    ..Kind::new("docker", "docker:[USER@]CONTAINER", check_user_and_container, |argument, start| {
        exec(&["docker", "exec", "-i"], argument, start)
    })
};

/// `podman exec -i --detach-keys= [-u USER] CONTAINER COMMAND`.
///
/// Podman looks for its detach keys (Ctrl-P, Ctrl-Q) in any input, also in one that is no terminal:
/// it would hold a lone byte 0x10 back, and end at 0x10 0x11. Without keys it does not look.
pub(super) const PODMAN: Kind = Kind {
    // Which engine and whose storage: podman(1), containers.conf(5), containers-storage.conf(5).
    variables: Variables::These(&[
        "CONTAINER_HOST",
        "CONTAINER_CONNECTION",
        "CONTAINER_SSHKEY",
        "CONTAINERS_CONF",
        "CONTAINERS_STORAGE_CONF",
        "HOME",
    ]),
    place: |argument| PlaceName::Own(user_and_container(argument).1),
    ..Kind::new("podman", "podman:[USER@]CONTAINER", check_user_and_container, |argument, start| {
        exec(&["podman", "exec", "-i", "--detach-keys="], argument, start)
    })
};

/// `lxc-attach --clear-env --name NAME -- COMMAND`.
///
/// Without `--clear-env` the container would get the environment of the host's account.
pub(super) const LXC: Kind = Kind {
    // Whose containers: those of an account are below its home.
    variables: Variables::These(&["HOME"]),
    place: |argument| PlaceName::Own(argument),
    ..Kind::new(
        "lxc",
        "lxc:NAME",
        |argument| check_name(argument, "the container's name"),
        |argument, start| start.after(&["lxc-attach", "--clear-env", "--name", argument, "--"]),
    )
};

/// `incus exec --mode=non-interactive [REMOTE:]NAME -- COMMAND`.
///
/// The mode keeps incus from making a terminal, whatever its own descriptors are.
pub(super) const INCUS: Kind = Kind {
    // Which server and project.
    variables: Variables::These(&[
        "INCUS_CONF",
        "INCUS_DIR",
        "INCUS_SOCKET",
        "INCUS_REMOTE",
        "INCUS_PROJECT",
        "HOME",
    ]),
    place: |argument| PlaceName::Own(after_last(argument, ':')),
    ..Kind::new("incus", "incus:[REMOTE:]NAME", check_instance, |argument, start| {
        start.after(&["incus", "exec", "--mode=non-interactive", argument, "--"])
    })
};

/// The plan of an engine's `exec` that begins with these words.
fn exec(words: &[&str], argument: &str, start: &Start) -> Plan {
    let (user, container) = user_and_container(argument);
    let user = user.map(|user| ["-u", user]);
    start.after(&[words, user.as_ref().map_or(&[][..], |user| &user[..]), &[container]].concat())
}

/// `[USER@]CONTAINER`, parted.
fn user_and_container(argument: &str) -> (Option<&str>, &str) {
    match argument.rsplit_once('@') {
        Some((user, container)) => (Some(user), container),
        None => (None, argument),
    }
}

/// The user may be `UID:GID`, as the engines take it.
fn check_user_and_container(argument: &str) -> Result<(), ArgumentError> {
    let (user, container) = user_and_container(argument);
    if let Some(user) = user {
        check_name(user, "the user's name")?;
    }
    let before = argument.len() - container.len();
    check_name(container, "the container's name").map_err(|error| error.after(before))
}

fn check_instance(argument: &str) -> Result<(), ArgumentError> {
    check_name(argument, "the instance's name")?;
    if argument.ends_with(':') {
        let message = "the instance's name is missing after that of the remote";
        return Err(ArgumentError::new(argument.len(), message));
    }
    Ok(())
}

fn after_last(text: &str, character: char) -> &str {
    text.rsplit(character).next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn an_engine_runs_as_the_container_does_or_as_who_is_named() {
        let plain = ["docker", "exec", "-i", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&DOCKER, "app"), plain);
        let user = ["docker", "exec", "-i", "-u", "0:0", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&DOCKER, "0:0@app"), user);
    }

    #[test]
    fn podman_is_kept_from_looking_for_keys_in_the_stream() {
        let plain = ["podman", "exec", "-i", "--detach-keys=", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&PODMAN, "app"), plain);
        let user =
            ["podman", "exec", "-i", "--detach-keys=", "-u", "bob", "app", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&PODMAN, "bob@app"), user);
    }

    #[test]
    fn errors_say_where_in_the_argument_it_is_wrong() {
        for kind in [DOCKER, PODMAN] {
            assert_eq!(wrong_at(&kind, ""), 0);
            assert_eq!(wrong_at(&kind, "app@"), 4);
            assert_eq!(wrong_at(&kind, "@app"), 0);
            assert_eq!(wrong_at(&kind, "-u@app"), 0);
            assert_eq!(wrong_at(&kind, "bob@--privileged"), 4);
            assert_eq!(wrong_at(&kind, "bob@app/web"), 7);
            assert_eq!(wrong_at(&kind, "b\u{f6}b@a pp"), 6);
            assert_eq!(kind.check("1000:1000@app_1.web-2"), Ok(()));
        }
    }

    #[test]
    fn lxc_attaches_with_an_empty_environment() {
        let expected = ["lxc-attach", "--clear-env", "--name", "box", "--", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&LXC, "box"), expected);
        assert_eq!(wrong_at(&LXC, ""), 0);
        assert_eq!(wrong_at(&LXC, "a/b"), 1);
    }

    #[test]
    fn incus_makes_no_terminal() {
        let words = |name| {
            ["incus", "exec", "--mode=non-interactive", name, "--", "/bin/sh", "-c", "cat"].to_vec()
        };
        assert_eq!(argv(&INCUS, "box"), words("box"));
        assert_eq!(argv(&INCUS, "lab:box"), words("lab:box"));
        assert_eq!(wrong_at(&INCUS, "lab:"), 4);
        assert_eq!(wrong_at(&INCUS, "--project"), 0);
    }
}
