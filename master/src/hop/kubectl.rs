//! `kubectl`: inside a container of a Kubernetes pod.

use super::argument::check_name;
use super::{ArgumentError, Kind, PlaceName, Plan, Start};

/// `kubectl exec -i [-n NAMESPACE] POD [-c CONTAINER] -- COMMAND`.
///
/// With a slash, the first part is always the namespace, and an empty one is the namespace that
/// kubectl's configuration has: there is no guessing between `NAMESPACE/POD` and `POD/CONTAINER`.
#[derive(Debug)]
pub(super) struct Kubectl;

/// The forms, for messages.
const FORMS: &str = "expected POD, NAMESPACE/POD, NAMESPACE/POD/CONTAINER, or /POD/CONTAINER in \
                     the current namespace";

/// An argument, parted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place<'a> {
    namespace: &'a str,
    pod: &'a str,
    container: Option<&'a str>,
}

fn place(argument: &str) -> Place<'_> {
    let Some((namespace, rest)) = argument.split_once('/') else {
        return Place { pod: argument, ..Place::default() };
    };
    match rest.split_once('/') {
        Some((pod, container)) => Place { namespace, pod, container: Some(container) },
        None => Place { namespace, pod: rest, container: None },
    }
}

/// Which cluster, and who one is there.
const DECIDED_BY: &[&str] = &["KUBECONFIG", "AWS_PROFILE", "HOME"];

impl Kind for Kubectl {
    fn name(&self) -> &'static str {
        "kubectl"
    }

    fn syntax(&self) -> &'static str {
        "kubectl:[[NAMESPACE]/]POD[/CONTAINER]"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        let Place { namespace, pod, container } = place(argument);
        let before_pod = if argument.contains('/') { namespace.len() + 1 } else { 0 };
        let parts = [
            (0, Some(namespace).filter(|name| !name.is_empty()), "the namespace"),
            (before_pod, Some(pod), "the pod's name"),
            (before_pod + pod.len() + 1, container, "the container's name"),
        ];
        for (before, part, what) in parts {
            let checked = part.map_or(Ok(()), |part| check_name(part, what));
            checked.map_err(|error| {
                let message = format!("{}; {FORMS}", error.message);
                ArgumentError::new(error.at, message).behind(before)
            })?;
        }
        Ok(())
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        let Place { namespace, pod, container } = place(argument);
        let mut words = vec!["kubectl", "exec", "-i"];
        if !namespace.is_empty() {
            words.extend(["-n", namespace]);
        }
        words.push(pod);
        if let Some(container) = container {
            words.extend(["-c", container]);
        }
        words.push("--");
        Plan::of(start.words_behind(&words))
    }

    fn place_name<'a>(&self, argument: &'a str) -> PlaceName<'a> {
        PlaceName::Own(place(argument).pod)
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
    fn the_first_of_several_parts_is_the_namespace() {
        let words = |argument| argv(&Kubectl, argument)[3..].join(" ");
        assert_eq!(argv(&Kubectl, "web")[..3], ["kubectl", "exec", "-i"]);
        assert_eq!(words("web"), "web -- /bin/sh -c cat");
        assert_eq!(words("shop/web"), "-n shop web -- /bin/sh -c cat");
        assert_eq!(words("shop/web/nginx"), "-n shop web -c nginx -- /bin/sh -c cat");
        assert_eq!(words("/web/nginx"), "web -c nginx -- /bin/sh -c cat");
    }

    #[test]
    fn what_is_missing_or_too_much_is_shown() {
        assert_eq!(wrong_at(&Kubectl, ""), 0);
        assert_eq!(wrong_at(&Kubectl, "shop/"), 5);
        assert_eq!(wrong_at(&Kubectl, "web//nginx"), 4);
        assert_eq!(wrong_at(&Kubectl, "shop/web/"), 9);
        assert_eq!(wrong_at(&Kubectl, "shop/web/nginx/x"), 14);
        assert_eq!(wrong_at(&Kubectl, "shop/-web"), 5);
        let message = Kubectl.check("web//nginx").unwrap_err().message;
        assert!(message.contains("/POD/CONTAINER in the current namespace"), "{message}");
    }
}
