//! `fakessh ls`: shows what is held.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fakessh::daemon::client::Client;
use fakessh::daemon::control::{Listing, Request};
use fakessh::directory::Directory;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Print JSON: a list of objects with id, name, parent, parent_index, depth, user, host, port,
    /// direct, connected_at, sessions, served
    #[arg(long)]
    json: bool,
}

pub(super) fn ls(arguments: &Arguments) -> anyhow::Result<u8> {
    let listings: Vec<Listing> = match Client::connect(&Directory::of_user()?) {
        Err(error) if super::is_no_master(&error) => Vec::new(),
        client => serde_json::from_value(client?.request(&Request::List, &[])?)?,
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &listings)?;
        writeln!(stdout)?;
        return Ok(0);
    }
    if listings.is_empty() {
        eprintln!("no connections");
        return Ok(0);
    }
    let heading = ["ID", "NAME", "USER", "ADDRESS", "OPEN FOR", "SESSIONS", "SERVED"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(listings.iter().map(|listing| {
        let address = listing.host.as_ref().zip(listing.port);
        [
            listing.id.clone(),
            format!("{}{}", "  ".repeat(listing.depth), listing.name),
            listing.user.clone(),
            address.map_or("-".to_owned(), |(host, port)| format!("{host}:{port}")),
            age(listing.connected_at),
            listing.sessions.to_string(),
            listing.served.to_string(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        writeln!(stdout, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    for listing in listings.iter() {
        if let Some(why) = &listing.direct {
            let name = &listing.name;
            writeln!(stdout, "{name}: each session has an SSH channel of its own: {why}")?;
        }
    }
    Ok(0)
}

fn age(connected_at: u64) -> String {
    let since = UNIX_EPOCH + Duration::from_secs(connected_at);
    let seconds = SystemTime::now().duration_since(since).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}
