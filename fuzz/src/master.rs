//! What the master reads of people, of files and of other programs.

use std::path::Path;
use std::str::FromStr;

use fakessh::control::{ClientMessage, Envelope, Reply, encode_answer};
use fakessh::daemon::request::Request;
use fakessh::fuzzing;
use fakessh::hop::Prompt;
use fakessh::route::{MAX_STEPS, Route};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The text of a route: what is read is said again, and read the same.
pub fn route(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(route) = Route::parse(&text) else { return };
    let steps = route.steps().len();
    assert!((1..=MAX_STEPS).contains(&steps));
    let said = route.to_string();
    assert!(!said.contains(char::is_control), "{said:?}");
    let again = Route::from_str(&said).expect("what we say is a route");
    assert_eq!(again, route, "{said:?}");
    assert_eq!(again.to_string(), said);
    assert_eq!(route.prefix(steps).as_ref(), Some(&route));
    assert_eq!(route.parent().map_or(0, |parent| parent.steps().len()), steps - 1);
}

/// `config.toml`: its names lead to routes, or a line of it is to blame.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let file = Path::new("/etc/names.toml");
    match fuzzing::names(file, &text) {
        Ok(names) => {
            for (name, route) in names.routes() {
                assert!(Route::parse(&name).is_ok_and(|route| route.steps().len() == 1));
                let Ok(route) = route else { continue };
                assert!((1..=MAX_STEPS).contains(&route.steps().len()));
                assert_eq!(Route::parse(&route.to_string()).as_ref(), Ok(&route));
            }
        }
        Err(error) => {
            let said = error.to_string();
            let line = said.strip_prefix("/etc/names.toml, line ").expect("a place");
            let line: usize = line.split(':').next().unwrap_or_default().parse().expect("a number");
            assert!((1..=text.lines().count().max(1) + 1).contains(&line), "{said}");
        }
    }
}

/// A `known_hosts` file, or one of revoked keys.
pub fn known_hosts(input: &[u8]) {
    use fuzzing::KEY;
    let text = String::from_utf8_lossy(input);
    for (host, port) in [("web1.example.net", 22), ("web1.example.net", 2222)] {
        let verdict = |text: &str| fuzzing::known_hosts(text, host, port);
        let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
        let blob = KEY.split(' ').nth(1).expect("a key has two words");
        let found = verdict(&text);
        if found == "trusted" {
            assert!(text.contains(blob), "trusted, and not there");
        }
        // What is no line of its own changes nothing.
        assert_eq!(verdict(&format!("# {KEY}\n\n{text}\n# end")), found);
        assert_eq!(verdict(&format!("other.example.org {KEY}\n{text}")), found);
        // What is revoked is revoked, and what is recorded is not unknown.
        assert_eq!(verdict(&format!("@revoked * {KEY}\n{text}")), "revoked");
        let with = verdict(&format!("{name} {KEY}\n{text}"));
        assert!(with == "trusted" || with == "revoked", "{with}");
    }
    if let Some(line) = fuzzing::revoked(&text) {
        let line = text.lines().nth(line - 1).expect("a line of the file");
        assert!(line.contains("AAAA"), "{line:?} revokes a key");
    }
    assert!(fuzzing::revoked(&format!("{text}\n{KEY}")).is_some());
}

/// A binary list of revoked keys.
pub fn krl(input: &[u8]) {
    if let Err(why) = fuzzing::krl(input) {
        assert!(!why.contains('\n') && !why.contains(char::is_control), "{why:?}");
    } else {
        assert!(input.starts_with(b"SSHKRL\n"), "it is no list");
    }
}

/// What `ssh -G` prints.
pub fn ssh_g(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(read) = fuzzing::ssh_g(&text) else { return };
    assert!(read.connection_attempts >= 1);
    for value in [&read.host, &read.hostname, &read.user, &read.log_level] {
        assert!(!value.contains('\n'), "{value:?}");
    }
    for value in [Some(&read.hostname), read.proxy_jump.as_ref(), read.proxy_command.as_ref()] {
        let value = value.map_or("", String::as_str);
        assert!(value == fuzzing::HOST || text.contains(value), "{value:?} was not there");
    }
    // Of a keyword that stands there twice the first counts, and what is not known says nothing.
    let more = format!("nosuchkeyword yes\n{text}");
    let again = fuzzing::ssh_g(&more).expect("it could be read without that");
    assert_eq!(format!("{again:?}"), format!("{read:?}"));
    let first = format!("hostname first\nport 1\n{text}");
    let first = fuzzing::ssh_g(&first).expect("files are named as before");
    assert_eq!((first.hostname.as_str(), first.port), ("first", 1));
}

/// A datagram on the control socket.
pub fn control(input: &[u8]) {
    again::<Envelope>(input);
    again::<Request>(input);
    again::<Reply>(input);
    again::<ClientMessage>(input);
    if let Some(answer) = fuzzing::answer(input) {
        assert_eq!(encode_answer(Some(&answer))[..], *input);
    }
}

/// What can be read says the same when it is said again.
fn again<T: Serialize + DeserializeOwned>(input: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(input) else { return };
    let said: Value = serde_json::to_value(&message).expect("it was JSON");
    let read: T = serde_json::from_value(said.clone()).expect("we said it");
    assert_eq!(serde_json::to_value(&read).expect("it was JSON"), said);
}

/// What the helper of a hop prints: only its last line asks.
pub fn prompt(input: &[u8]) {
    let printed = String::from_utf8_lossy(input);
    let endings = Prompt::Endings {
        secret: &["assword:", "Password"],
        line: &["(yes/no)?"],
        of_account: true,
    };
    if let Some(asked) = endings.asked(&printed) {
        assert!(!asked.text.contains(['\n', '\r']), "{asked:?}");
        let last = printed.rsplit(['\n', '\r']).next().unwrap_or_default();
        assert!(asked.text.len() <= last.len() && !last.trim().is_empty(), "{asked:?}");
        assert_eq!(endings.asked(&format!("{printed}\n")), None);
        assert_eq!(endings.asked(&format!("\u{7}\n{printed}")), Some(asked));
    }
    let marker = Prompt::Marker("5eed".into());
    let asked = marker.asked(&printed);
    assert_eq!(asked.is_some(), printed.contains("5eed"));
    assert!(asked.is_none_or(|asked| asked.text.is_empty()));
}
