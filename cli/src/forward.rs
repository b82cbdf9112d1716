//! `fakessh forward`: shows and ends forwards.

use std::io::{self, Write};

use fakessh::daemon::ForwardListing;
use fakessh::daemon::client::Client;
use fakessh::daemon::request::Request;
use fakessh::runtime_dir::RuntimeDir;

use super::table;

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  fakessh ssh -f -N -L 8080:localhost:80 web1
  fakessh forward
  fakessh forward cancel 1")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON: a list of objects with id, context_id, context, forward, port, connections, served
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// End forwards, and the connections through them
    Cancel {
        /// Forwards by their ids in `fakessh forward`
        #[arg(required = true, value_name = "ID")]
        ids: Vec<u64>,
    },
}

pub(super) fn forward(arguments: Arguments) -> anyhow::Result<u8> {
    let client = Client::connect(&RuntimeDir::of_user()?);
    if let Some(Action::Cancel { ids }) = arguments.action {
        client?.request(&Request::CancelForwards(ids), &[])?;
        return Ok(0);
    }
    let listings: Vec<ForwardListing> = match client {
        Err(error) if super::is_no_master(&error) => Vec::new(),
        client => serde_json::from_value(client?.request(&Request::Forwards, &[])?)?,
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        writeln!(stdout, "{}", table::escaped(&serde_json::to_string_pretty(&listings)?))?;
        return Ok(0);
    }
    if listings.is_empty() {
        eprintln!("no forwards");
        return Ok(0);
    }
    let rows = listings.into_iter().map(|listing| {
        [
            listing.id.to_string(),
            listing.context,
            listing.forward,
            listing.connections.to_string(),
            listing.served.to_string(),
        ]
    });
    let heading = ["ID", "CONTEXT", "FORWARD", "CONNECTIONS", "SERVED"].map(str::to_owned);
    table::write(&mut stdout, heading, rows)?;
    Ok(0)
}
