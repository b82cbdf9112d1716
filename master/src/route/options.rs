//! ssh's connection options, put on the steps of a route that they are for.

use std::ffi::OsString;

use thiserror::Error;

use super::{Route, RouteError, Step};

/// Options of ssh that say how to get to a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-F`: for every connection.
    pub config: Option<OsString>,
    /// `-J`: for the first connection.
    pub jump: Option<OsString>,
    /// `-l`: for the last connection, where its host names no user.
    pub login: Option<String>,
    /// `-p`: for the last connection, where its host names no port.
    pub port: Option<u16>,
    /// `-i`: for the last connection.
    pub identity: Vec<OsString>,
    /// `-o`: for the last connection.
    pub option: Vec<OsString>,
}

/// There is no step that an option could be put on: it would count for nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// No SSH connection of ours.
    #[error(
        "the route {route} has no SSH connection that {option} could be for; openssh:HOST is the \
         system's ssh, which takes options from its configuration"
    )]
    NoConnection {
        /// The route's text.
        route: String,
        /// The option: `-i`.
        option: &'static str,
    },
    /// `-J` where the first connection does not start from this host.
    #[error("-J is for the first step of a route, and that of {0} is no SSH connection")]
    NoFirstConnection(String),
    /// The user of `-l` is no user.
    #[error(transparent)]
    Route(#[from] RouteError),
}

impl Options {
    /// Options as a parsed command line of ssh has them: pairs of `-F`, `-J`, `-i` or `-o` and a
    /// value. The first configuration file and the first jump count.
    pub fn from_words(words: &[OsString]) -> Options {
        let mut options = Options::default();
        for pair in words.chunks_exact(2) {
            let value = pair[1].clone();
            match pair[0].as_encoded_bytes() {
                b"-F" => options.config = options.config.or(Some(value)),
                b"-J" => options.jump = options.jump.or(Some(value)),
                b"-i" => options.identity.push(value),
                _ => options.option.push(value),
            }
        }
        options
    }

    /// An option that was given.
    fn given(&self) -> Option<&'static str> {
        let given = [
            (self.config.is_some(), "-F"),
            (self.jump.is_some(), "-J"),
            (self.login.is_some(), "-l"),
            (self.port.is_some(), "-p"),
            (!self.identity.is_empty(), "-i"),
            (!self.option.is_empty(), "-o"),
        ];
        given.into_iter().find_map(|(given, option)| given.then_some(option))
    }
}

impl Route {
    /// Whether a step of it is an SSH connection of ours.
    pub(crate) fn has_connection(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Ssh(_)))
    }

    /// This route with these options: `-F` on all SSH connections, `-J` on the first one, the
    /// others on the last one.
    ///
    /// # Errors
    /// [`OptionsError`] where an option was given that counts for no step.
    pub fn with_options(mut self, options: &Options) -> Result<Route, OptionsError> {
        let Some(given) = options.given() else { return Ok(self) };
        let Some(last) = self.steps.iter().rposition(|step| matches!(step, Step::Ssh(_))) else {
            return Err(OptionsError::NoConnection { route: self.to_string(), option: given });
        };
        if options.jump.is_some() && self.starts_here() {
            return Err(OptionsError::NoFirstConnection(self.to_string()));
        }
        for (at, step) in self.steps.iter_mut().enumerate() {
            let Step::Ssh(target) = step else { continue };
            let mut push = |flag: &str, value: &OsString| {
                target.connection.extend([flag.into(), value.clone()]);
            };
            options.config.iter().for_each(|value| push("-F", value));
            if at == last {
                options.identity.iter().for_each(|value| push("-i", value));
            }
            if at == 0 {
                options.jump.iter().for_each(|value| push("-J", value));
            }
            if at == last {
                options.option.iter().for_each(|value| push("-o", value));
                // What the host itself says comes first, as with ssh.
                target.user = target.user.take().or_else(|| options.login.clone());
                target.port = target.port.or(options.port);
            }
        }
        let verbatim = self.verbatim;
        let mut route = Route::from_steps(self.steps)?;
        route.verbatim = verbatim;
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each connection of a route: its text, and its options.
    fn connections(route: &str, options: &Options) -> Vec<(String, String)> {
        let route = Route::parse(route).unwrap().with_options(options).unwrap();
        let ssh = route.steps.into_iter().filter_map(|step| match step {
            Step::Ssh(target) => Some(target),
            Step::Hop { .. } => None,
        });
        let words = |words: Vec<OsString>| words.join(" ".as_ref()).into_string().unwrap();
        ssh.map(|target| (target.to_string(), words(target.connection))).collect()
    }

    fn all() -> Options {
        Options {
            config: Some("conf".into()),
            jump: Some("hop".into()),
            login: Some("alice".into()),
            port: Some(2222),
            identity: vec!["key".into()],
            option: vec!["A=b".into()],
        }
    }

    #[test]
    fn each_option_is_on_the_step_that_it_is_for() {
        let pair = |host: &str, words: &str| (host.to_owned(), words.to_owned());
        let expected = [
            pair("a", "-F conf -J hop"),
            pair("b", "-F conf"),
            pair("alice@c:2222", "-F conf -i key -o A=b"),
        ];
        assert_eq!(connections("a+b+c+sudo", &all()), expected);
        let one = [pair("alice@web1:2222", "-F conf -i key -J hop -o A=b")];
        assert_eq!(connections("web1", &all()), one);
        let own = [pair("bob@web1:22", "-F conf -i key -J hop -o A=b")];
        assert_eq!(connections("bob@web1:22", &all()), own);
    }

    #[test]
    fn an_option_that_would_count_for_nothing_is_refused() {
        let parse = |text| Route::parse(text).unwrap();
        assert_eq!(parse("sudo").with_options(&Options::default()), Ok(parse("sudo")));
        let port = Options { port: Some(22), ..Options::default() };
        let error = parse("openssh:web1+sudo").with_options(&port).unwrap_err();
        assert!(error.to_string().contains("no SSH connection that -p"), "{error}");
        let error = parse("sudo+web1").with_options(&all()).unwrap_err();
        assert!(matches!(error, OptionsError::NoFirstConnection(_)), "{error}");
        let login = Options { login: Some("-x".into()), ..Options::default() };
        let error = parse("web1").with_options(&login).unwrap_err();
        assert!(error.to_string().contains("not a user name"), "{error}");
    }
}
