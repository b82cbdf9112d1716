//! Destinations and the options for the way there, as ssh spells them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Once;

use clap::Args;
use fakessh::daemon::client::say;
use fakessh::route::{Names, NamesError, Options, Route};

/// Options of `ssh` that say how to get to a host.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ConnectionOptions {
    /// Configuration file instead of ~/.ssh/config
    #[arg(short = 'F', value_name = "FILE")]
    config: Option<OsString>,
    /// Private key for the login; may be given several times
    #[arg(short = 'i', value_name = "FILE")]
    identity: Vec<OsString>,
    /// TCP port
    #[arg(short = 'p', value_name = "PORT")]
    port: Option<u16>,
    /// User to log in as
    #[arg(short = 'l', value_name = "USER")]
    login: Option<String>,
    /// Hosts to jump through, separated by commas
    #[arg(short = 'J', value_name = "DEST")]
    jump: Option<OsString>,
    /// Option in the form of ssh_config(5), as Key=value; may be given several times
    #[arg(short = 'o', value_name = "OPTION")]
    option: Vec<OsString>,
}

/// The user's names for routes, as a run takes them.
pub(super) fn named(names: &Names) -> BTreeMap<String, Result<Route, String>> {
    let named = |(name, route): (_, Result<Route, NamesError>)| {
        (name, route.map_err(|error| error.to_string()))
    };
    names.routes().into_iter().map(named).collect()
}

impl ConnectionOptions {
    /// The words for `ssh -G`.
    pub(super) fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        let mut push = |flag: &str, value: &OsString| {
            words.push(flag.into());
            words.push(value.clone());
        };
        self.config.iter().for_each(|value| push("-F", value));
        self.identity.iter().for_each(|value| push("-i", value));
        self.jump.iter().for_each(|value| push("-J", value));
        self.option.iter().for_each(|value| push("-o", value));
        words
    }

    /// These options as they are given.
    pub(super) fn as_given(&self) -> Vec<OsString> {
        let login = self.login.iter().flat_map(|login| ["-l".into(), login.into()]);
        let port = self.port.iter().flat_map(|port| ["-p".into(), port.to_string().into()]);
        self.words().into_iter().chain(login).chain(port).collect()
    }

    /// A route with the names in it replaced by what the user's configuration says, and these
    /// options on the steps that they are for. What a step itself says comes first, as in ssh.
    pub(super) fn route(&self, text: &str, names: &Names) -> anyhow::Result<Route> {
        self.look_at_identities();
        let options = Options {
            config: self.config.clone(),
            jump: self.jump.clone(),
            login: self.login.clone(),
            port: self.port,
            identity: self.identity.clone(),
            option: self.option.clone(),
        };
        Ok(names.expand(Route::parse(text)?)?.with_options(&options)?)
    }

    /// Says which files of `-i` can't be read, as ssh does. Once is enough.
    fn look_at_identities(&self) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let named = self.identity.iter().filter(|file| {
                let first = file.as_encoded_bytes().first();
                !matches!(first, Some(b'~' | b'%' | b'$'))
            });
            for file in named {
                if let Err(error) = std::fs::File::open(file) {
                    say(&format!("the key file {} can't be read: {error}", file.to_string_lossy()));
                }
            }
        });
    }

    /// The words for hosts that are taken from command lines, with user and port among them.
    pub(super) fn all_words(&self) -> Vec<OsString> {
        let mut words = self.words();
        if let Some(login) = &self.login {
            words.extend(["-o".into(), format!("User={login}").into()]);
        }
        if let Some(port) = self.port {
            words.extend(["-o".into(), format!("Port={port}").into()]);
        }
        words
    }
}
