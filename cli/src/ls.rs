//! `fakessh ls`: shows what is held.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use fakessh::daemon::Listing;
use fakessh::daemon::client::Client;
use fakessh::daemon::request::Request;
use fakessh::runtime_dir::RuntimeDir;
use fakessh_protocol::printable;

use super::table;

/// Most characters of the reason why no slave runs somewhere, which quotes the target.
const MAX_REASON: usize = 200;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Print JSON: a list of objects with id, name, parent, parent_index, depth, user, host, port,
    /// direct, connected_at, ends_at, persist, busy, sessions, served
    #[arg(long)]
    json: bool,
}

pub(super) fn ls(arguments: &Arguments) -> anyhow::Result<u8> {
    let listings: Vec<Listing> = match Client::connect(&RuntimeDir::of_user()?) {
        Err(error) if super::is_no_master(&error) => Vec::new(),
        client => serde_json::from_value(client?.request(&Request::List, &[])?)?,
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        writeln!(stdout, "{}", table::escaped(&serde_json::to_string_pretty(&listings)?))?;
        return Ok(0);
    }
    if listings.is_empty() {
        eprintln!("no connections");
        return Ok(0);
    }
    let heading = ["ID", "NAME", "USER", "ADDRESS", "OPEN FOR", "ENDS IN", "SESSIONS", "SERVED"];
    let rows = listings.iter().map(|listing| {
        let address = listing.host.as_ref().zip(listing.port);
        [
            listing.id.clone(),
            format!("{}{}", "  ".repeat(listing.depth), listing.name),
            listing.user.clone(),
            address.map_or("-".to_owned(), |(host, port)| format!("{host}:{port}")),
            age(listing.connected_at),
            left(listing),
            listing.sessions.to_string(),
            listing.served.to_string(),
        ]
    });
    table::write(&mut stdout, heading.map(str::to_owned), rows)?;
    for listing in listings.iter() {
        if let Some(why) = &listing.direct {
            let name = &listing.name;
            let why = printable::beginning(why, MAX_REASON);
            let line = format!("{name}: each session has an SSH channel of its own: {why}");
            writeln!(stdout, "{}", table::shown(&line))?;
        }
    }
    Ok(0)
}

/// How long something is open since this time.
fn age(since: u64) -> String {
    duration(now().saturating_sub(since))
}

/// When something ends.
fn left(listing: &Listing) -> String {
    match listing.ends_at {
        Some(end) => duration(end.saturating_sub(now())),
        None if listing.busy => "in use".to_owned(),
        None => "never".to_owned(),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}
