//! Routes in the messages between clients and the master: the text, and the options of the
//! connections where there are any.

use std::ffi::OsString;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Route, Step};
use crate::json_bytes::JsonBytes;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Json {
    Plain(String),
    WithOptions(WithOptions),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithOptions {
    route: String,
    /// The number of a step, and its options.
    connection: Vec<(usize, Vec<JsonBytes>)>,
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = self.steps.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Ssh(target) if !target.connection.is_empty() => {
                Some((at, target.connection.iter().map(|word| word.as_os_str().into()).collect()))
            }
            _ => None,
        });
        let connection: Vec<(usize, Vec<JsonBytes>)> = options.collect();
        let route = self.to_string();
        let json = if connection.is_empty() {
            Json::Plain(route)
        } else {
            Json::WithOptions(WithOptions { route, connection })
        };
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Route, D::Error> {
        let (text, connection) = match Json::deserialize(deserializer)? {
            Json::Plain(text) => (text, Vec::new()),
            Json::WithOptions(json) => (json.route, json.connection),
        };
        let mut route = Route::parse(&text).map_err(D::Error::custom)?;
        for (at, words) in connection {
            let Some(Step::Ssh(target)) = route.steps.get_mut(at) else {
                return Err(D::Error::custom(format!("step {at} of {text} has no options")));
            };
            target.connection = words.into_iter().map(OsString::from).collect();
        }
        Ok(route)
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
            r#"{"route":"web1","connection":[],"more":1}"#,
        ] {
            assert!(serde_json::from_str::<Route>(text).is_err(), "{text}");
        }
    }
}
