//! `fakessh run`: runs a tool whose ssh goes through the master.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;

use anyhow::{Context as _, bail};
use fakessh::daemon::client::{Client, say};
use fakessh::daemon::control::{Destination, Request, RunRequest};
use fakessh::directory::Directory;
use fakessh::tool::{self, RunDirectory};

use super::destination::ConnectionOptions;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
With DEST, every host name in CMD means DEST. With --route NAME=DEST, NAME means that DEST, and a
name that neither covers is refused. With neither, hosts are taken from each ssh command line and
connected to as ssh would.

The exit status is that of CMD, or 128 plus the number of the signal that killed it; 127 if CMD
does not exist, 126 if it can't be run, 255 if there is no connection.")]
pub(super) struct Arguments {
    #[command(flatten)]
    options: ConnectionOptions,
    /// Where every host name leads: [user@]host[:port], or an alias of ssh_config
    #[arg(value_name = "DEST")]
    destination: Option<String>,
    /// Where NAME leads; may be given several times
    #[arg(long, value_name = "NAME=DEST")]
    route: Vec<String>,
    /// The tool and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let options = &arguments.options;
    let every = arguments.destination.as_deref();
    let every = every.map(|destination| options.target(destination)).transpose()?;
    let mut routes = BTreeMap::new();
    for route in &arguments.route {
        let Some((name, destination)) = route.split_once('=').filter(|(name, _)| !name.is_empty())
        else {
            bail!("--route {route}: it has the form NAME=DEST");
        };
        let target = options.target(destination)?;
        if routes.insert(name.to_owned(), Destination::from(&target)).is_some() {
            bail!("--route {name} is given twice");
        }
    }
    let directory = Directory::of_user()?;
    let run_directory = RunDirectory::create(&directory)?;
    let (ours, masters) = tool::socket_pair()?;
    let mapped = every.is_some() || !routes.is_empty();
    let connection = if mapped { Vec::new() } else { options.all_words() };
    let request = RunRequest {
        every: every.as_ref().map(Destination::from),
        routes,
        connection: connection.iter().map(|word| word.as_os_str().into()).collect(),
        real_ssh: true,
        directory: Some(run_directory.path().to_owned()),
    };
    let descriptors = [masters.as_fd(), run_directory.listener().as_fd()];
    let (client, _) = Client::call(&directory, &Request::Run(request), &descriptors)?;
    drop(masters);
    let (program, words) = arguments.command.split_first().context("no command")?;
    let mut tool = tool::prepare(program, &run_directory, &ours)?;
    tool.args(words);
    // Only the tool holds it from here on: the master sees when nobody does any more.
    drop(ours);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(tool::run(tool));
    if client.is_still_held() {
        // Something that the tool started lives on, and its ssh is still ours.
        run_directory.leave();
    }
    match status {
        Ok(status) => Ok(status),
        Err(error) => {
            say(&format!("can't run {}: {error}", program.to_string_lossy()));
            Ok(tool::status_of_failed_start(&error))
        }
    }
}
