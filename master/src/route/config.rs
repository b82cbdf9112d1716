//! The user's configuration file: names for routes, and how long what is connected is held.
//!
//! ```toml
//! persist = "4h"
//!
//! [hop.sudo]
//! persist = "5m"
//!
//! [route.db]
//! via = "bastion+db1+sudo:postgres"
//! confirm = true
//! ```

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::audit::Settings;
use crate::hop;
use crate::lifetime::{Persist, Rule, Rules};

use super::error::marked;
use super::parse::{self, ReadRoute};
use super::{MAX_STEPS, Route, RouteError, Step, canonical};

/// Most bytes of the file: some ten thousand names.
const MAX_FILE: u64 = 1 << 20;

/// Most names that lead to each other before there is a route: each is one call more.
const MAX_DEPTH: usize = 16;

/// Permission bits that let the group or everybody write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why names can't be had, or not be replaced by their routes.
#[derive(Debug, Error)]
pub enum NamesError {
    /// The file is there and can't be read.
    #[error("can't read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Somebody else could have written it.
    #[error(
        "{path} is not used: it {what}, who could lead your programs elsewhere; run: {remedy} {path}"
    )]
    Exposed {
        /// The file, or the directory that it is in.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The command that mends it.
        remedy: &'static str,
    },
    /// The file is not what it should be: the message shows the line.
    #[error("{path}, line {line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and the line itself with carets under the place.
        message: String,
    },
    /// What a name stands for is no route.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Names lead back to themselves.
    #[error(
        "{path}, line {line}: the route names lead in a circle: {circle}; where the host itself \
         is meant, write ssh:{last}"
    )]
    Circle {
        /// The file.
        path: PathBuf,
        /// Where the name stands at which the circle closes.
        line: usize,
        /// The names, joined by `>`.
        circle: String,
        /// The name that is there twice.
        last: String,
    },
    /// A name that can only begin a route, in another place.
    #[error(
        "{path}, line {line}: the route '{name}' starts from this host, and so can only begin a \
         route; where a host with that name is meant, write ssh:{name}"
    )]
    Begins {
        /// The file.
        path: PathBuf,
        /// Where the name stands.
        line: usize,
        /// The name.
        name: String,
    },
    /// Names that lead to names, and so on.
    #[error(
        "with the routes of {path}, '{route}' has more than {MAX_STEPS} steps or more than {MAX_DEPTH} names in each other"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The route with the names in it.
        route: String,
    },
}

/// Names for routes. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    path: PathBuf,
    names: BTreeMap<String, Named>,
    /// How long is held what no rule is for.
    persist: Option<Persist>,
    /// How is held what is behind a kind of hop.
    hops: BTreeMap<String, Rule>,
    audit: Settings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    route: Route,
    /// How it is held.
    rule: Rule,
    /// Whether it can't go on from another place.
    begins: bool,
    /// The line of the file, from 1.
    line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    persist: Option<Persist>,
    #[serde(default)]
    audit: Option<Spanned<Settings>>,
    #[serde(default)]
    hop: BTreeMap<Spanned<String>, Rule>,
    #[serde(default)]
    route: BTreeMap<Spanned<String>, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    via: Spanned<String>,
    persist: Option<Persist>,
    #[serde(default)]
    confirm: bool,
}

impl Names {
    /// The names of this user, from [`Names::path_of_user`].
    ///
    /// # Errors
    /// As [`Names::load`].
    pub fn of_user() -> Result<Names, NamesError> {
        Names::path_of_user().map_or_else(|| Ok(Names::default()), |path| Names::load(&path))
    }

    /// `$XDG_CONFIG_HOME/fakessh/config.toml`, else `~/.config/fakessh/config.toml` (XDG Base
    /// Directory Specification, which has relative paths ignored). None where there is no home.
    pub fn path_of_user() -> Option<PathBuf> {
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
        Some(base.join("fakessh").join("config.toml"))
    }

    /// The names of a file; none where there is no such file.
    ///
    /// # Errors
    /// [`NamesError`], with the line: where the file can't be read, holds what is not known, a name
    /// that a route could not hold, or a route that is none.
    pub fn load(path: &Path) -> Result<Names, NamesError> {
        let failed = |error| NamesError::Read { path: path.to_owned(), error };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(Names::default()),
            Err(error) => return Err(failed(error)),
        };
        check_owner(path, &file.metadata().map_err(failed)?)?;
        if let Some(directory) = path.parent() {
            check_owner(directory, &directory.metadata().map_err(failed)?)?;
        }
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE {
            let message = format!("it is longer than {MAX_FILE} bytes");
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        Names::read(path, &text)
    }

    /// The names in the text of a file.
    pub(crate) fn read(path: &Path, text: &str) -> Result<Names, NamesError> {
        let wrong = |at: Range<usize>, message: &str| {
            let (line, shown) = shown(text, at);
            let message = format!("{message}\n{shown}");
            NamesError::Syntax { path: path.to_owned(), line, message }
        };
        let contents: Contents = toml::from_str(text)
            .map_err(|error| wrong(error.span().unwrap_or_default(), error.message()))?;
        let mut names = BTreeMap::new();
        let mut hops = BTreeMap::new();
        for (kind, rule) in contents.hop {
            if kind.as_ref() != "ssh" && hop::kind(kind.as_ref()).is_none() {
                let kinds =
                    hop::KINDS.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
                let message = format!("there is no hop of this name; there are ssh, {kinds}");
                return Err(wrong(kind.span(), &message));
            }
            hops.insert(kind.into_inner(), rule);
        }
        for (name, Entry { via, persist, confirm }) in contents.route {
            if !parse::is_plain_host(name.as_ref()) {
                let message =
                    "the name of a route is one word that could be a host's, and no hop's";
                return Err(wrong(name.span(), message));
            }
            let line = line(text, via.span().start);
            let read = parse::route(via.as_ref());
            let ReadRoute { route, begins } = read.map_err(|error| error.of_file(path, line))?;
            names.insert(
                name.into_inner(),
                Named { route, rule: Rule { persist, confirm }, begins, line },
            );
        }
        let audit = match contents.audit {
            Some(audit) if !audit.as_ref().is_valid() => {
                let message = "the file of the audit log is an absolute path, or begins with ~/";
                return Err(wrong(audit.span(), message));
            }
            audit => audit.map(Spanned::into_inner).unwrap_or_default(),
        };
        Ok(Names { path: path.to_owned(), names, persist: contents.persist, hops, audit })
    }

    /// All names, each with the route that it leads to, or why it leads to none: that is of no
    /// account for who uses another one.
    pub fn routes(&self) -> BTreeMap<String, Result<Route, NamesError>> {
        let routes = self.names.iter();
        routes.map(|(name, named)| (name.clone(), self.expand(named.route.clone()))).collect()
    }

    /// What is said of the audit log.
    pub fn audit(&self) -> &Settings {
        &self.audit
    }

    /// The rules by which contexts are held. Those of a name that leads nowhere are of no account.
    pub fn rules(&self) -> Rules {
        let with_rule = self.names.values().filter(|named| named.rule != Rule::default());
        let routes = with_rule.filter_map(|named| {
            Some((self.expand(named.route.clone()).ok()?.to_string(), named.rule))
        });
        let (persist, hops) = (self.persist, self.hops.clone());
        Rules { asked: None, persist, hops, routes: routes.collect() }
    }

    /// A route with each name replaced by the steps that it stands for: a step that is one bare
    /// word, without user, port and options, and not written with `ssh:`.
    ///
    /// # Errors
    /// [`NamesError`] where names lead in a circle, or one that starts from this host stands
    /// behind another step.
    pub fn expand(&self, route: Route) -> Result<Route, NamesError> {
        let mut expansion = Expansion { names: self, steps: Vec::new(), within: Vec::new() };
        let too_long = || NamesError::TooLong { path: self.path.clone(), route: route.to_string() };
        expansion.add(&route, &too_long)?;
        let steps = canonical(expansion.steps);
        // Only where a name is meant by the word alone does it matter how it is written.
        let is_name =
            |step: &Step| step.bare_host().is_some_and(|host| self.names.contains_key(host));
        let verbatim = steps.iter().enumerate().filter(|(_, step)| is_name(step));
        let verbatim = verbatim.map(|(at, _)| at).collect();
        Ok(Route { steps, verbatim })
    }
}

/// The steps of a route whose names are being replaced.
struct Expansion<'a> {
    names: &'a Names,
    steps: Vec<Step>,
    /// The names that are being replaced, each within the one before it.
    within: Vec<&'a str>,
}

impl<'a> Expansion<'a> {
    fn add(&mut self, route: &Route, too_long: &impl Fn() -> NamesError) -> Result<(), NamesError> {
        let Names { path, names, .. } = self.names;
        for (at, step) in route.steps.iter().enumerate() {
            let host = step.bare_host().filter(|_| !route.verbatim.contains(&at));
            let Some((name, named)) = host.and_then(|host| names.get_key_value(host)) else {
                self.steps.push(step.clone());
                if self.steps.len() > MAX_STEPS {
                    return Err(too_long());
                }
                continue;
            };
            let (path, line) = (path.clone(), named.line);
            if let Some(first) = self.within.iter().position(|within| within == name) {
                let circle = [&self.within[first..], &[name]].concat().join(" > ");
                return Err(NamesError::Circle { path, line, circle, last: name.clone() });
            }
            if named.begins && !self.steps.is_empty() {
                return Err(NamesError::Begins { path, line, name: name.clone() });
            }
            if self.within.len() == MAX_DEPTH {
                return Err(too_long());
            }
            self.within.push(name);
            self.add(&named.route, too_long)?;
            self.within.pop();
        }
        Ok(())
    }
}

/// Holds that nobody but this user and root could have written something, as ssh does for
/// `~/.ssh/config`.
fn check_owner(path: &Path, found: &Metadata) -> Result<(), NamesError> {
    let ours = rustix::process::getuid().as_raw();
    let exposed = |what, remedy| NamesError::Exposed { path: path.to_owned(), what, remedy };
    if ![0, ours].contains(&found.uid()) {
        return Err(exposed(format!("belongs to uid {}", found.uid()), "chown $(id -u)"));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        let what =
            format!("has mode {:04o} and so can be written by others", found.mode() & 0o7777);
        return Err(exposed(what, "chmod go-w"));
    }
    Ok(())
}

/// Whether there is no such file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The line, from 1, in which a byte stands.
fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count()
}

/// The number of the line in which a place begins, and that line with carets under it.
fn shown(text: &str, at: Range<usize>) -> (usize, String) {
    let before = text.get(..at.start).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let rest = &text[start..];
    let whole = rest.split('\n').next().unwrap_or_default();
    let place = |byte: usize| byte.saturating_sub(start).min(whole.len());
    (line(text, at.start), marked(whole, &(place(at.start)..place(at.end))))
}

#[cfg(test)]
mod tests;
