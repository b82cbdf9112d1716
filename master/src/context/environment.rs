//! What a helper that starts from this host has of its caller's environment.
//!
//! The master serves many callers: what `DOCKER_HOST` or `KUBECONFIG` says of one must not lead
//! another elsewhere. So what decides is a part of the context's key.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::caller::Caller;
use crate::hop::Kind;
use crate::ssh_config::is_run_directory;

/// Variables that are of the caller's own process.
const ITS_OWN: [&str; 4] = ["OLDPWD", "PWD", "SHLVL", "_"];

/// Variables that are ours begin so.
const OURS: &[u8] = b"FAKESSH_";

/// The values by which a caller decides where a helper leads, by their names.
pub(super) type Decided = Vec<(&'static str, OsString)>;

/// What a helper of this kind gets of the caller's environment; nothing where nothing of it
/// decides where that leads.
pub(super) fn of(kind: &Kind, caller: &Caller) -> Vec<(OsString, OsString)> {
    if kind.variables().is_empty() {
        return Vec::new();
    }
    let all = caller.environment.iter().filter(|(name, _)| is_passed_on(name));
    all.map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

/// What this caller decides of where a helper of this kind leads.
pub(super) fn decided(kind: &Kind, caller: &Caller) -> Decided {
    let names = kind.variables().iter();
    let set = names.filter_map(|name| Some((*name, caller.variable(name)?)));
    set.map(|(name, value)| (name, shown(OsStr::new(name), value))).collect()
}

fn is_passed_on(name: &OsStr) -> bool {
    !ITS_OWN.iter().any(|own| name == *own) && !name.as_bytes().starts_with(OURS)
}

/// A helper may call `ssh`, and means the real one: runs are taken out of `PATH`. Each has a
/// directory of its own there, and would have a context of its own.
fn shown(name: &OsStr, value: &OsStr) -> OsString {
    if name != "PATH" {
        return value.to_owned();
    }
    let directories = std::env::split_paths(value).filter(|path| !is_run_directory(path));
    std::env::join_paths(directories).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::caller::AskNobody;
    use crate::hop::{KINDS, kind};

    fn caller(environment: &[(&str, &str)]) -> Caller {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Caller {
            environment: environment.collect(),
            directory: "/".into(),
            ask: Arc::new(AskNobody),
        }
    }

    #[test]
    fn what_decides_is_told_apart_and_all_of_it_is_passed_on() {
        let docker = kind("docker").unwrap();
        let [blue, red] = ["blue", "red"].map(|host| caller(&[("DOCKER_HOST", host), ("A", "b")]));
        assert_ne!(decided(docker, &blue), decided(docker, &red));
        let more = caller(&[("A", "c"), ("DOCKER_HOST", "blue"), ("FAKESSH_FD", "100")]);
        assert_eq!(decided(docker, &blue), decided(docker, &more));
        let passed = [("A".into(), "c".into()), ("DOCKER_HOST".into(), "blue".into())];
        assert_eq!(of(docker, &more), passed);
        for kind in &KINDS {
            let all: Vec<_> = kind.variables().iter().map(|name| (*name, "x")).collect();
            let passed = of(kind, &caller(&all));
            assert_eq!(passed.len(), all.len(), "{kind:?} is decided by what it does not get");
        }
    }

    #[test]
    fn sudo_gets_nothing_of_a_caller() {
        let sudo = kind("sudo").unwrap();
        let caller = caller(&[("PATH", "/home/a/bin"), ("HOME", "/home/a")]);
        assert_eq!((of(sudo, &caller), decided(sudo, &caller)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn runs_are_taken_out_of_path() {
        let run = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(run.path().join("master")).unwrap();
        let path = format!("{}:/usr/bin:/bin", run.path().display());
        let inside = caller(&[("PATH", &path)]);
        let outside = caller(&[("PATH", "/usr/bin:/bin")]);
        let exec = kind("exec").unwrap();
        assert_eq!(of(exec, &inside), of(exec, &outside));
        assert_eq!(decided(exec, &inside), decided(exec, &outside));
    }
}
