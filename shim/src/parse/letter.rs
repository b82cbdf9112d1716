//! The option letters, read as getopt(3) does: clusters, values glued or apart.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use fakessh_protocol::forward::{BadForward, Forward, ListenAddress};
use fakessh_protocol::invocation::ForwardAgent;
use fakessh_protocol::message::Peer;
use fakessh_protocol::terminal::RequestTty;

use super::settings::{Demand, SessionType, Settings};
use super::{Level, UsageError, destination};

/// The letters that take a value.
const WITH_VALUE: &[u8] = b"BDEFIJLOPQRSWbceilmopw";

/// Whether an option of `ssh(1)` takes a value: the rest of its word, or the next word.
pub fn takes_value(letter: u8) -> bool {
    WITH_VALUE.contains(&letter)
}

/// Most that `-v` is counted.
const MAX_VERBOSITY: u8 = 3;

/// What stands after a row of options.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The words left; `--` may have ended the options.
    Words { terminated: bool },
    /// An option that the real `ssh` answers.
    RealSsh,
}

impl Settings {
    /// Takes options off the front of `words`, up to the first word that is none.
    pub(super) fn options(&mut self, words: &mut &[&[u8]]) -> Result<Next, UsageError> {
        while let Some((&word, rest)) = words.split_first() {
            if word == b"--" {
                *words = rest;
                return Ok(Next::Words { terminated: true });
            }
            let Some(mut cluster) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty())
            else {
                break;
            };
            *words = rest;
            while let Some((&letter, glued)) = cluster.split_first() {
                cluster = glued;
                // What asks a master talks to a ControlPath and to nothing else, and the real ssh
                // speaks its protocol.
                if matches!(letter, b'V' | b'Q' | b'O') {
                    return Ok(Next::RealSsh);
                }
                if !takes_value(letter) {
                    self.flag(letter)?;
                    continue;
                }
                let value = if !glued.is_empty() {
                    glued
                } else if let Some((&value, rest)) = words.split_first() {
                    *words = rest;
                    value
                } else {
                    let letter = char::from(letter);
                    let message = format!("option requires an argument -- {letter}");
                    return Err(UsageError::new(message));
                };
                self.valued(letter, value)?;
                break;
            }
        }
        Ok(Next::Words { terminated: false })
    }

    fn flag(&mut self, letter: u8) -> Result<(), UsageError> {
        match letter {
            b'1' => return Err(UsageError::new("SSH protocol v.1 is no longer supported")),
            // No-ops of old, and of Kerberos.
            b'2' | b'k' => {}
            b'g' => self.forward_options.gateway_ports = Some(true),
            b'M' => self.master = Some(true),
            b'4' => self.connect_by(b"AddressFamily", b"inet"),
            b'6' => self.connect_by(b"AddressFamily", b"inet6"),
            b'C' => self.connect_by(b"Compression", b"yes"),
            b'G' => self.configuration = true,
            b'n' => self.null_stdin = Some(true),
            b'f' => {
                self.background = Some(true);
                self.null_stdin = Some(true);
            }
            b'x' => self.x11 = Some(false),
            b'X' | b'Y' => {
                self.x11 = Some(true);
                self.demand(Demand::X11, format!("-{}", char::from(letter)));
            }
            b'a' => self.agent = Some(ForwardAgent::No),
            b'A' => self.agent = Some(ForwardAgent::Yes),
            b'K' | b'Z' => self.demand(Demand::Other, format!("-{}", char::from(letter))),
            b'y' => self.syslog = true,
            b't' => {
                let again = self.tty == Some(RequestTty::Yes);
                self.tty = Some(if again { RequestTty::Force } else { RequestTty::Yes });
            }
            b'T' => self.tty = Some(RequestTty::No),
            b'N' => {
                if !matches!(self.session_type, None | Some(SessionType::Nothing)) {
                    return Err(UsageError::new("Cannot specify -N with -s/SessionType"));
                }
                self.session_type = Some(SessionType::Nothing);
                self.tty = Some(RequestTty::No);
            }
            b's' => {
                if !matches!(self.session_type, None | Some(SessionType::Subsystem)) {
                    return Err(UsageError::new("Cannot specify -s with -N/SessionType"));
                }
                self.session_type = Some(SessionType::Subsystem);
            }
            b'q' => self.level = Some(Level::Quiet),
            b'v' => {
                if self.verbosity == 0 {
                    self.level = Some(Level::Debug);
                }
                self.verbosity = MAX_VERBOSITY.min(self.verbosity + 1);
            }
            other => {
                let letter = char::from(other).escape_default();
                return Err(UsageError::new(format!("unknown option -- {letter}; see ssh(1)")));
            }
        }
        Ok(())
    }

    fn valued(&mut self, letter: u8, value: &[u8]) -> Result<(), UsageError> {
        match letter {
            b'E' => self.log_file = Some(PathBuf::from(OsStr::from_bytes(value))),
            b'F' | b'i' => self.connection.extend([vec![b'-', letter], value.to_vec()]),
            b'J' => {
                if self.jump {
                    return Err(UsageError::new(
                        "Only a single -J option is permitted (use commas to separate multiple \
                         jump hops)",
                    ));
                }
                self.jump = true;
                self.connection.extend([b"-J".to_vec(), value.to_vec()]);
            }
            b'o' => self.config_line(value)?,
            b'I' => self.connect_by(b"PKCS11Provider", &config_word(value)),
            b'B' => self.connect_by(b"BindInterface", &config_word(value)),
            b'b' => self.connect_by(b"BindAddress", &config_word(value)),
            b'c' => self.connect_by(b"Ciphers", &config_word(value)),
            b'm' => self.connect_by(b"MACs", &config_word(value)),
            b'P' => self.connect_by(b"Tag", &config_word(value)),
            b'l' => self.default_user(Some(value))?,
            // Of a second one ssh looks at nothing.
            b'p' if self.port.is_none() => self.port = Some(destination::port(value)?),
            b'e' => self.escape = Some(escape_character(value)?),
            b'L' => self.forward(value, "local", Forward::local)?,
            b'R' => self.forward(value, "remote", Forward::remote)?,
            b'D' => self.forward(value, "dynamic", Forward::dynamic)?,
            b'W' => {
                if self.stdio_forward.is_some() {
                    return Err(UsageError::new("stdio forward already specified"));
                }
                self.stdio_forward = Some(stdio_peer(value)?);
                self.session_type = Some(SessionType::Nothing);
                self.tty = Some(RequestTty::No);
                // As ssh, which has it give up rather than go on without them.
                self.forward_options.exit_on_failure.get_or_insert(true);
                self.forward_options.clear_all.get_or_insert(true);
            }
            b'w' => self.demand(Demand::Other, "-w"),
            // -p the second time; -S, which is looked up if it is needed.
            _ => {}
        }
        Ok(())
    }

    /// Adds a forward, as `read` reads it.
    fn forward(
        &mut self,
        value: &[u8],
        kind: &str,
        read: impl FnOnce(&str) -> Result<Forward, BadForward>,
    ) -> Result<(), UsageError> {
        match std::str::from_utf8(value).map_err(|_| BadForward).and_then(read) {
            Ok(forward) => self.add_forward(forward),
            Err(BadForward) => {
                let value = String::from_utf8_lossy(value);
                Err(UsageError::new(format!("Bad {kind} forwarding specification '{value}'")))
            }
        }
    }
}

/// Where the value of `-W` leads.
fn stdio_peer(value: &[u8]) -> Result<Peer, UsageError> {
    let forward = std::str::from_utf8(value).map_err(|_| BadForward).and_then(Forward::dynamic);
    match forward.map(|forward| forward.listen) {
        Ok(ListenAddress::Tcp { host: Some(host), port }) => Ok(Peer::Tcp { host, port }),
        Ok(ListenAddress::Unix(path)) => Ok(Peer::Unix(path)),
        Ok(ListenAddress::Tcp { host: None, .. }) | Err(BadForward) => {
            let value = String::from_utf8_lossy(value);
            Err(UsageError::new(format!("Bad stdio forwarding specification '{value}'")))
        }
    }
}

/// The escape character that `-e` or `EscapeChar` names (`ssh(1)`).
pub(super) fn escape_character(value: &[u8]) -> Result<Option<u8>, UsageError> {
    match value {
        b"none" => Ok(None),
        [character] => Ok(Some(*character)),
        [b'^', letter @ 64..128] => Ok(Some(letter & 31)),
        _ => {
            let value = String::from_utf8_lossy(value);
            Err(UsageError::new(format!("Bad escape character '{value}'.")))
        }
    }
}

/// A value as one word of a configuration line.
fn config_word(value: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| !byte.is_ascii_whitespace() && !b"\"'\\#".contains(byte);
    if !value.is_empty() && value.iter().all(plain) {
        return value.to_vec();
    }
    let mut word = vec![b'"'];
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            word.push(b'\\');
        }
        word.push(byte);
    }
    word.push(b'"');
    word
}
