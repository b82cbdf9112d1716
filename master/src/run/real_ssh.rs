//! What the real `ssh` is run with, for what is left to it: it must not go elsewhere, or check less,
//! than a session of the run would.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::invocation::Destination;
use fakessh_protocol::message::RealWords;

use crate::route::{Route, Step};

/// Where an invocation goes.
#[derive(Debug)]
pub(super) enum Choice {
    /// Along a route.
    Route(Route),
    /// To the real `ssh`.
    RealSsh {
        /// Why.
        why: String,
        /// What the real `ssh` is run with.
        words: RealWords,
    },
}

/// Why `ssh -G` is not answered here.
pub(super) const CONFIGURATION: &str = "-G is a question to the real ssh";

/// `-J` in the form of `-o`.
const PROXY_JUMP: &str = "ProxyJump=";

/// Options of a run as they stand behind those of a command line, so that the first value counts.
/// For ssh the last `-F` does, and a second `-J` is a mistake.
pub(super) fn behind(own: &[Vec<u8>], of_run: &[OsString]) -> Vec<OsString> {
    let has_config = own.chunks(2).any(|pair| pair[0] == b"-F");
    let mut words = Vec::new();
    for pair in of_run.chunks_exact(2) {
        match pair[0].as_encoded_bytes() {
            b"-F" if has_config => {}
            b"-J" => {
                let mut option = OsString::from(PROXY_JUMP);
                option.push(&pair[1]);
                words.extend(["-o".into(), option]);
            }
            _ => words.extend_from_slice(pair),
        }
    }
    words
}

/// The jump hosts of an option that [`behind`] has written.
pub(super) fn jump_in(option: &OsStr) -> Option<OsString> {
    let jump = option.as_bytes().strip_prefix(PROXY_JUMP.as_bytes())?;
    Some(OsStr::from_bytes(jump).to_owned())
}

/// What becomes of `ssh -G` for a destination that is this route: the real ssh says what it says
/// of the route's one host, with the route's options and no others. They count for sessions, too.
/// Relative paths in them are meant from `directory`.
pub(super) fn configuration(
    destination: &Destination,
    route: &Route,
    directory: &Path,
) -> Result<Choice, Failure> {
    let refused = |why: String| Err(Failure::new(FailureKind::Refused, why));
    let host = &destination.host;
    let [Step::Ssh(target)] = route.steps() else {
        return refused(format!("{host}: ssh has no configuration for the route {route} (-G)"));
    };
    let mut target = target.clone();
    match (&destination.user, &target.user) {
        (Some(asked), Some(user)) if asked != user => {
            return refused(format!(
                "{host} is {route}, and programs do not run as {asked} there (-G)"
            ));
        }
        (Some(asked), None) => target.user = Some(asked.clone()),
        _ => {}
    }
    for pair in target.connection.chunks_exact_mut(2) {
        let is_path = match pair[0].as_encoded_bytes() {
            b"-F" => !pair[1].eq_ignore_ascii_case("none"),
            b"-i" => !matches!(pair[1].as_bytes().first(), Some(b'~' | b'%')),
            _ => false,
        };
        if is_path {
            pair[1] = directory.join(&pair[1]).into();
        }
    }
    let words = crate::ssh_config::words(&target).into_iter().map(OsString::into_vec).collect();
    Ok(Choice::RealSsh { why: CONFIGURATION.to_owned(), words: RealWords::These(words) })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use fakessh_protocol::invocation::{Invocation, Request};

    use super::*;
    use crate::caller::{AskNobody, Caller};
    use crate::context::Registry;
    use crate::route::Options;
    use crate::run::{Hosts, Run};

    fn run(hosts: Hosts) -> Run {
        let ask = Arc::new(AskNobody);
        let opener = Caller { environment: Vec::new(), directory: "/home/me".into(), ask };
        Run::new(hosts, Registry::default(), &opener)
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    /// What the real ssh is run with, or why it is not.
    fn real(run: &Run, invocation: &Invocation) -> Result<String, String> {
        let text = |words: Vec<Vec<u8>>| String::from_utf8(words.join(&b' ')).unwrap();
        match run.choose(invocation).map_err(|failure| failure.message)? {
            Choice::RealSsh { words: RealWords::With(options), .. } => {
                Ok(format!("+ {}", text(options)))
            }
            Choice::RealSsh { words: RealWords::These(words), .. } => Ok(text(words)),
            Choice::Route(route) => panic!("{route}"),
        }
    }

    fn asked(host: &str, connection: &[&str]) -> Invocation {
        let connection = connection.iter().map(|word| word.as_bytes().to_vec()).collect();
        let destination = Destination { host: host.to_owned(), ..Destination::default() };
        let request = Request::Configuration;
        Invocation { destination, request, connection, ..Invocation::default() }
    }

    #[test]
    fn the_real_ssh_gets_the_options_of_the_run_behind_its_own() {
        let of_run = words(&["-F", "conf", "-i", "key", "-J", "b", "-o", "User=u", "-o", "Port=7"]);
        let db = ("db".to_owned(), Ok(Route::parse("alice@db1:70").unwrap()));
        let root = ("root".to_owned(), Ok(Route::parse("db1+sudo").unwrap()));
        let run = run(Hosts::CommandLine {
            connection: of_run,
            names: HashMap::from([db, root]),
            real_ssh: true,
        });
        let rest = "-i key -o ProxyJump=b -o User=u -o Port=7";
        let with = |connection: &[&str]| {
            let configuration = real(&run, &asked("h", connection)).unwrap();
            // Whatever it is for.
            let unserved = Invocation {
                request: Request::Login,
                unserved: Some("-t".to_owned()),
                ..asked("h", connection)
            };
            assert_eq!(real(&run, &unserved).unwrap(), configuration);
            configuration
        };
        assert_eq!(with(&[]), format!("+ -F conf {rest}"));
        assert_eq!(with(&["-J", "c"]), format!("+ -F conf {rest}"));
        // Of several the last one would count.
        assert_eq!(with(&["-o", "A=b", "-F", "own"]), format!("+ {rest}"));
        let named = real(&run, &asked("db", &[])).unwrap();
        assert_eq!(named, "-l alice -p 70 -F conf -i key -J b -o User=u -o Port=7 -G -- db1");
        let why = real(&run, &asked("root", &[])).unwrap_err();
        assert!(why.contains("db1+sudo"), "{why}");
    }

    #[test]
    fn a_mapped_name_has_the_configuration_of_its_destination() {
        let options = Options {
            config: Some("conf".into()),
            identity: words(&["~/key", "/key", "key"]),
            ..Options::default()
        };
        let route = Route::parse("web1").unwrap().with_options(&options).unwrap();
        let root = ("root".to_owned(), Route::parse("web1+sudo").unwrap());
        let bob = ("bob".to_owned(), Route::parse("bob@web1").unwrap());
        let mapped = ("remote".to_owned(), route);
        let routes = HashMap::from([mapped, root, bob]);
        let run = run(Hosts::Mapped { on: None, destination: None, routes });
        let words = "-F /home/me/conf -i ~/key -i /key -i /home/me/key -G -- web1";
        // The way there is settled, for sessions as well.
        let other = ["-F", "other", "-o", "Port=7"];
        assert_eq!(real(&run, &asked("remote", &other)).unwrap(), words);
        let as_user = |host: &str, user: &str| {
            let mut invocation = asked(host, &[]);
            invocation.destination.user = Some(user.to_owned());
            real(&run, &invocation)
        };
        assert_eq!(as_user("remote", "u").unwrap(), format!("-l u {words}"));
        assert_eq!(as_user("bob", "bob").unwrap(), "-l bob -G -- web1");
        assert!(as_user("bob", "eve").unwrap_err().contains("eve"));
        assert!(real(&run, &asked("root", &[])).unwrap_err().contains("web1+sudo"));
        assert!(real(&run, &asked("other", &[])).unwrap_err().contains("--route"));
    }
}
