//! `fakessh connect`: connects, and keeps the connections.

use fakessh::daemon::client::Client;
use fakessh::daemon::request::{ConnectRequest, Place, Request};
use fakessh::route::Names;
use fakessh::runtime_dir::RuntimeDir;

use super::FAILURE;
use super::destination::ConnectionOptions;
use super::held::HeldFor;
use super::password::PasswordFiles;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    options: ConnectionOptions,
    #[command(flatten)]
    password: PasswordFiles,
    #[command(flatten)]
    held: HeldFor,
    /// Hosts, aliases of ssh_config, or routes: web1, bastion+web1+sudo
    #[arg(required = true, value_name = "DEST")]
    destinations: Vec<String>,
}

pub(super) fn connect(arguments: Arguments) -> anyhow::Result<u8> {
    let directory = RuntimeDir::of_user()?;
    let names = Names::of_user()?;
    let routes = arguments.destinations.iter().map(|text| arguments.options.route(text, &names));
    let routes = routes.collect::<anyhow::Result<Vec<_>>>()?;
    let used: Vec<_> = routes.iter().collect();
    arguments.password.read(|text| arguments.options.route(text, &names), &used)?;
    let rules = arguments.held.rules(&names);
    let mut status = 0;
    for route in routes {
        let to = Place::Route((&route).into());
        let request = Request::Connect(ConnectRequest { to, rules: rules.clone() });
        // One that fails is no reason to leave out the others.
        if let Err(error) = Client::call(&directory, &request, &[]) {
            super::say(&error.into());
            status = FAILURE;
        }
    }
    Ok(status)
}
