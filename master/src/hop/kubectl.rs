//! `kubectl`: inside a container of a Kubernetes pod.

use super::argument::check_name;
use super::{ArgumentError, Kind, PlaceName, Plan, Start, Variables};

/// `kubectl exec -i [-n NAMESPACE] POD [-c CONTAINER] -- COMMAND`.
///
/// With a slash, the first part is always the namespace, and an empty one is the namespace of
/// kubectl's configuration: nobody guesses between `NAMESPACE/POD` and `POD/CONTAINER`.
pub(super) const KUBECTL: Kind = Kind {
    // Which cluster, and who one is there.
    variables: Variables::These(&["KUBECONFIG", "AWS_PROFILE", "HOME"]),
    place: |argument| PlaceName::Own(pod(argument).name),
    ..Kind::new("kubectl", "kubectl:[[NAMESPACE]/]POD[/CONTAINER]", check, plan)
};

/// The forms, for messages.
const FORMS: &str = "expected POD, NAMESPACE/POD, NAMESPACE/POD/CONTAINER, or /POD/CONTAINER in \
                     the current namespace";

/// An argument in its parts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pod<'a> {
    namespace: &'a str,
    name: &'a str,
    container: Option<&'a str>,
}

fn pod(argument: &str) -> Pod<'_> {
    let Some((namespace, rest)) = argument.split_once('/') else {
        return Pod { name: argument, ..Pod::default() };
    };
    match rest.split_once('/') {
        Some((name, container)) => Pod { namespace, name, container: Some(container) },
        None => Pod { namespace, name: rest, container: None },
    }
}

fn check(argument: &str) -> Result<(), ArgumentError> {
    let Pod { namespace, name, container } = pod(argument);
    let before_name = if argument.contains('/') { namespace.len() + 1 } else { 0 };
    let parts = [
        (0, Some(namespace).filter(|namespace| !namespace.is_empty()), "the namespace"),
        (before_name, Some(name), "the pod's name"),
        (before_name + name.len() + 1, container, "the container's name"),
    ];
    for (before, part, what) in parts {
        part.map_or(Ok(()), |part| check_name(part, what)).map_err(|error| {
            let message = format!("{}; {FORMS}", error.message);
            ArgumentError::new(error.at, message).after(before)
        })?;
    }
    Ok(())
}

fn plan(argument: &str, start: &Start) -> Plan {
    let Pod { namespace, name, container } = pod(argument);
    let mut words = vec!["kubectl", "exec", "-i"];
    if !namespace.is_empty() {
        words.extend(["-n", namespace]);
    }
    words.push(name);
    if let Some(container) = container {
        words.extend(["-c", container]);
    }
    words.push("--");
    start.after(&words)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn the_first_of_several_parts_is_the_namespace() {
        let words = |argument| argv(&KUBECTL, argument)[3..].join(" ");
        assert_eq!(argv(&KUBECTL, "web")[..3], ["kubectl", "exec", "-i"]);
        assert_eq!(words("web"), "web -- /bin/sh -c cat");
        assert_eq!(words("shop/web"), "-n shop web -- /bin/sh -c cat");
        assert_eq!(words("shop/web/nginx"), "-n shop web -c nginx -- /bin/sh -c cat");
        assert_eq!(words("/web/nginx"), "web -c nginx -- /bin/sh -c cat");
    }

    #[test]
    fn what_is_missing_or_too_much_is_shown() {
        assert_eq!(wrong_at(&KUBECTL, ""), 0);
        assert_eq!(wrong_at(&KUBECTL, "shop/"), 5);
        assert_eq!(wrong_at(&KUBECTL, "web//nginx"), 4);
        assert_eq!(wrong_at(&KUBECTL, "shop/web/"), 9);
        assert_eq!(wrong_at(&KUBECTL, "shop/web/nginx/x"), 14);
        assert_eq!(wrong_at(&KUBECTL, "shop/-web"), 5);
        let message = KUBECTL.check("web//nginx").unwrap_err().message;
        assert!(message.contains("/POD/CONTAINER in the current namespace"), "{message}");
    }
}
