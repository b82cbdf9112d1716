//! Routes in the messages between clients and the master: the text, and the options of the
//! connections where there are any.

use std::ffi::OsString;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Route, RouteError, Step};
use crate::json_bytes::JsonBytes;

/// A route as a message holds it, before anybody has understood it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RouteJson {
    /// Its text.
    Plain(String),
    /// Its text, and options of its connections.
    WithOptions(WithOptions),
}

/// The text of a route, and options of its connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithOptions {
    route: String,
    /// The number of a step, from 0, and its options as words for ssh(1).
    connection: Vec<(usize, Vec<JsonBytes>)>,
}

/// The options that say how to get to a host. Others would be about sessions, or name another host.
const OPTIONS: [&str; 4] = ["-F", "-J", "-i", "-o"];

impl From<&Route> for RouteJson {
    fn from(of: &Route) -> RouteJson {
        let options = of.steps.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Ssh(target) if !target.connection.is_empty() => {
                Some((at, target.connection.iter().map(|word| word.as_os_str().into()).collect()))
            }
            _ => None,
        });
        let connection: Vec<(usize, Vec<JsonBytes>)> = options.collect();
        let route = of.to_string();
        if connection.is_empty() {
            RouteJson::Plain(route)
        } else {
            RouteJson::WithOptions(WithOptions { route, connection })
        }
    }
}

impl TryFrom<RouteJson> for Route {
    type Error = RouteError;

    fn try_from(json: RouteJson) -> Result<Route, RouteError> {
        let (text, connection) = match json {
            RouteJson::Plain(text) => (text, Vec::new()),
            RouteJson::WithOptions(json) => (json.route, json.connection),
        };
        let mut route = Route::parse(&text)?;
        for (at, words) in connection {
            let Some(Step::Ssh(target)) = route.steps.get_mut(at) else {
                let what = format!("step {at} is no connection that options could be for");
                return Err(RouteError::new(&text, 0..text.len(), &what));
            };
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            let are_options = words.chunks(2).all(|pair| match pair {
                [flag, _] => OPTIONS.iter().any(|option| flag == option),
                _ => false,
            });
            if !are_options {
                let what = "the options of a connection are pairs of -F, -J, -i or -o and a value";
                return Err(RouteError::new(&text, 0..text.len(), what));
            }
            target.connection = words;
        }
        Ok(route)
    }
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RouteJson::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Route, D::Error> {
        Route::try_from(RouteJson::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn there_and_back(route: &Route) -> Route {
        serde_json::from_str(&serde_json::to_string(route).unwrap()).unwrap()
    }

    #[test]
    fn a_route_is_its_text_and_the_options_of_its_connections() {
        let mut route = Route::parse("bastion+ssh:sudo+docker:app").unwrap();
        assert_eq!(serde_json::to_string(&route).unwrap(), "\"bastion+ssh:sudo+docker:app\"");
        assert_eq!(there_and_back(&route), route);
        let Step::Ssh(target) = &mut route.steps[1] else { panic!("a host") };
        target.connection = vec!["-i".into(), OsString::from_vec(vec![b'k', 0xff])];
        let text = serde_json::to_string(&route).unwrap();
        let expected =
            r#"{"route":"bastion+ssh:sudo+docker:app","connection":[[1,["-i",[107,255]]]]}"#;
        assert_eq!(text, expected);
        assert_eq!(there_and_back(&route), route);
    }

    #[test]
    fn a_host_that_is_no_name_stays_one() {
        let route = Route::parse("ssh:web1+sudo").unwrap();
        assert_eq!(there_and_back(&route).to_string(), "ssh:web1+sudo");
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in [
            "\"\"",
            "\"web1+\"",
            "7",
            r#"{"route":"web1+sudo","connection":[[1,["-i","k"]]]}"#,
            r#"{"route":"web1","connection":[[9,["-i","k"]]]}"#,
            r#"{"route":"web1","connection":[[0,["-i","k","web2"]]]}"#,
            r#"{"route":"web1","connection":[[0,["-L","1:h:2"]]]}"#,
            r#"{"route":"web1","connection":[[0,["web2","-i"]]]}"#,
            r#"{"route":"web1","connection":[],"more":1}"#,
        ] {
            assert!(serde_json::from_str::<Route>(text).is_err(), "{text}");
        }
    }
}
