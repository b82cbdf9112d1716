//! `fakessh ls`: shows what is held.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use fakessh::daemon::Listing;
use fakessh::daemon::client::Client;
use fakessh::daemon::request::Request;
use fakessh::runtime_dir::RuntimeDir;
use fakessh_protocol::printable::{self, MAX_QUOTE};

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
        writeln!(stdout, "{}", escaped(&serde_json::to_string_pretty(&listings)?))?;
        return Ok(0);
    }
    if listings.is_empty() {
        eprintln!("no connections");
        return Ok(0);
    }
    let heading = ["ID", "NAME", "USER", "ADDRESS", "OPEN FOR", "ENDS IN", "SESSIONS", "SERVED"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(listings.iter().map(|listing| {
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
    }));
    // The last place before the terminal, whatever the master has filtered.
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| shown(cell))).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        writeln!(stdout, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    for listing in listings.iter() {
        if let Some(why) = &listing.direct {
            let name = &listing.name;
            let why = printable::beginning(why, MAX_REASON);
            let line = format!("{name}: each session has an SSH channel of its own: {why}");
            writeln!(stdout, "{}", shown(&line))?;
        }
    }
    Ok(0)
}

/// A cell, or a line, as it is printed.
fn shown(text: &str) -> String {
    printable::word(text, MAX_QUOTE)
}

/// JSON that means the same and holds nothing that a terminal obeys.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        // Line feeds stand between its parts alone: within strings they are escaped already.
        if character == '\n' || printable::is_shown(character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_and_harms_no_terminal() {
        let text = "a\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{e0041}\n\"\\\u{e4}";
        let json = escaped(&serde_json::to_string(&[text]).unwrap());
        assert!(json.chars().all(printable::is_shown), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }
}
