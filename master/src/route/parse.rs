//! The grammar of routes.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::nearest::nearest;
use super::{MAX_STEPS, Route, RouteError, Step, canonical};
use crate::hop::{self, Kind};
use crate::ssh_config::parse_destination;

/// What stands before a host that is to be nothing else.
pub(super) const SSH: &str = "ssh:";

/// What was read.
pub(super) struct ReadRoute {
    pub(super) route: Route,
    /// Whether it was said that it starts from this host: it can't go on from another one then.
    pub(super) begins: bool,
}

/// One step that was read.
#[derive(Debug)]
pub(super) struct ReadStep {
    pub(super) step: Step,
    /// Whether it is a host's bare name behind `ssh:`.
    verbatim: bool,
}

/// What is wrong with a step, by its own bytes.
#[derive(Debug)]
pub(super) struct StepError {
    at: Range<usize>,
    what: String,
    hint: Option<String>,
    hops: bool,
}

impl StepError {
    fn new(at: Range<usize>, what: impl Into<String>) -> StepError {
        StepError { at, what: what.into(), hint: None, hops: false }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> StepError {
        self.hint = Some(hint.into());
        self
    }

    fn with_hops(mut self) -> StepError {
        self.hops = true;
        self
    }
}

/// A step as it stands in the text of a route.
#[derive(Default)]
struct StepText {
    /// Byte of the route at which it starts.
    start: usize,
    /// Its text, without the backslashes before a plus.
    text: String,
    /// The bytes of its text that had a backslash before them.
    escaped: Vec<usize>,
}

impl StepText {
    /// The byte of the route for a byte of this step_text's text.
    fn place(&self, at: usize) -> usize {
        self.start + at + self.escaped.iter().filter(|&&escaped| escaped < at).count()
    }
}

/// Parts a text at each `+` that has no backslash before it.
fn step_texts(text: &str) -> Vec<StepText> {
    let mut step_texts = Vec::new();
    let mut step_text = StepText::default();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if characters.next_if(|(_, next)| *next == '+').is_some() => {
                step_text.escaped.push(step_text.text.len());
                step_text.text.push('+');
            }
            '+' => {
                let next = StepText { start: at + 1, ..StepText::default() };
                step_texts.push(std::mem::replace(&mut step_text, next));
            }
            _ => step_text.text.push(character),
        }
    }
    step_texts.push(step_text);
    step_texts
}

/// Reads a route.
pub(super) fn route(text: &str) -> Result<ReadRoute, RouteError> {
    let step_texts = step_texts(text);
    let mut steps = Vec::with_capacity(step_texts.len());
    let mut verbatim = Vec::with_capacity(step_texts.len());
    if let Some(step_text) = step_texts.get(MAX_STEPS) {
        let what = format!("a route has {MAX_STEPS} steps at most");
        return Err(RouteError::new(text, step_text.start..text.len(), what));
    }
    for (index, step_text) in step_texts.iter().enumerate() {
        let wrong = |error: StepError| {
            let at = step_text.place(error.at.start)..step_text.place(error.at.end);
            let mut shown = RouteError::new(text, at, error.what);
            if let Some(hint) = error.hint {
                shown = shown.with_hint(hint);
            }
            if error.hops { shown.with_hops() } else { shown }
        };
        let read = step(&step_text.text).map_err(wrong)?;
        if index > 0 && read.step.is_first_only() {
            let name = step_text.text.split(':').next().unwrap_or_default();
            let what = format!("'{name}' starts from this host, and so can only begin a route");
            return Err(wrong(StepError::new(0..step_text.text.len(), what)));
        }
        steps.push(read.step);
        verbatim.push(read.verbatim);
    }
    let begins = steps[0].is_first_only();
    let written = steps.len();
    let steps = canonical(steps);
    // Steps that are left out are left out in front.
    let left_out = written - steps.len();
    let verbatim = verbatim.into_iter().skip(left_out).enumerate();
    let verbatim = verbatim.filter_map(|(at, verbatim)| verbatim.then_some(at)).collect();
    Ok(ReadRoute { route: Route { steps, verbatim }, begins })
}

/// Reads one step, in which nothing is escaped.
pub(super) fn step(text: &str) -> Result<ReadStep, StepError> {
    if text.is_empty() {
        return Err(StepError::new(0..0, "a step is missing here").with_hops());
    }
    check_edges(text)?;
    let (word, argument) = match text.split_once(':') {
        Some((word, argument)) => (word, Some(argument)),
        None => (text, None),
    };
    if let Some(kind) = hop::kind(word) {
        return helper(kind, word.len(), argument);
    }
    match (word, argument) {
        ("ssh", Some(rest)) if !rest.starts_with("//") => verbatim_host(rest),
        ("ssh", None) => {
            let error = StepError::new(0..text.len(), "ssh needs a host behind it: ssh:HOST");
            Err(error.with_hint("the host with the name ssh is ssh:ssh"))
        }
        _ => host(text, word, argument),
    }
}

/// Blanks around a plus are no part of a step, and a backslash at its end would take the plus
/// behind it along.
fn check_edges(text: &str) -> Result<(), StepError> {
    let what = "there are no blanks around a step";
    let front = text.len() - text.trim_start().len();
    if front > 0 {
        return Err(StepError::new(0..front, what));
    }
    let end = text.trim_end().len();
    if end < text.len() {
        return Err(StepError::new(end..text.len(), what));
    }
    if text.ends_with('\\') {
        let at = text.len() - 1;
        return Err(StepError::new(at..at + 1, "a step can't end with a backslash"));
    }
    Ok(())
}

fn helper(kind: &'static Kind, name: usize, argument: Option<&str>) -> Result<ReadStep, StepError> {
    let expected = format!("expected {}", kind.syntax());
    if argument == Some("") {
        let what = "something is missing behind the colon";
        return Err(StepError::new(name + 1..name + 1, what).with_hint(expected));
    }
    let argument = argument.unwrap_or_default();
    let checked = kind.check(argument);
    checked.map_err(|error| {
        // Without a colon there is no argument to point into.
        let (before, end) = match argument {
            "" => (name, name),
            _ => (name + 1, name + 1 + argument.len()),
        };
        let start = before + error.at.min(argument.len());
        StepError::new(start..end, error.message).with_hint(expected)
    })?;
    let step = Step::Hop { kind, argument: argument.to_owned() };
    Ok(ReadStep { step, verbatim: false })
}

/// What stands behind `ssh:`.
fn verbatim_host(text: &str) -> Result<ReadStep, StepError> {
    if text.is_empty() {
        return Err(StepError::new(SSH.len()..SSH.len(), "a host is missing here"));
    }
    let target = parse_destination(text).map_err(|error| {
        let Range { start, end } = error.place_in(text);
        StepError::new(start + SSH.len()..end + SSH.len(), error.to_string())
    })?;
    let step = Step::Ssh(target);
    let verbatim = step.bare_host().is_some();
    Ok(ReadStep { step, verbatim })
}

/// A host, where nothing says that it is one.
fn host(text: &str, word: &str, argument: Option<&str>) -> Result<ReadStep, StepError> {
    // A user or an address in front is a host for sure.
    let seems_hop = !word.contains(['@', '[', ' ']) && word != "ssh" && !word.is_empty();
    let target = match parse_destination(text) {
        Ok(target) => target,
        Err(error) => {
            if let Some((first, rest)) = text.split_once(char::is_whitespace)
                && let Some(kind) = hop::kind(first)
            {
                let what = format!("what belongs to '{first}' stands behind a colon");
                let hint = format!("did you mean {}:{}?", kind.name(), rest.trim());
                return Err(StepError::new(first.len()..text.len(), what).with_hint(hint));
            }
            return Err(match argument {
                Some(argument) if seems_hop => no_hop(text, word, argument),
                _ => StepError::new(error.place_in(text), error.to_string()),
            });
        }
    };
    if let Some(argument) = argument.filter(|_| seems_hop) {
        // A host with colons that is no address, and a user with colons whose first word is nearly
        // a hop's: who means it says so.
        let address = target.host.split('%').next().unwrap_or_default();
        let odd_host = target.host.contains(':') && address.parse::<Ipv6Addr>().is_err();
        let odd_user = target.user.as_ref().is_some_and(|user| user.contains(':'));
        if odd_host || odd_user && nearest(word).is_some() {
            let error = no_hop(text, word, argument);
            return Err(if odd_host { error } else { error.or_host(text) });
        }
    }
    Ok(ReadStep { step: Step::Ssh(target), verbatim: false })
}

/// For `WORD:ARGUMENT` where neither makes sense.
fn no_hop(text: &str, word: &str, argument: &str) -> StepError {
    match nearest(word) {
        _ if argument.is_empty() => {
            let what = "a port, or what a hop needs, is missing behind the colon";
            StepError::new(text.len()..text.len(), what).with_hops()
        }
        Some(name) => {
            let error = StepError::new(0..word.len(), format!("there is no hop '{word}'"));
            error.with_hint(format!("did you mean {name}:{argument}?")).with_hops()
        }
        None => {
            let what = format!("'{word}' is no hop, and '{argument}' is no port");
            StepError::new(0..text.len(), what).with_hops()
        }
    }
}

impl StepError {
    /// A host is possible, too.
    fn or_host(mut self, text: &str) -> StepError {
        if let Some(hint) = &mut self.hint {
            hint.push_str(&format!(" (the host is {SSH}{text})"));
        }
        self
    }
}

/// Whether a word could be told from everything else in a route.
pub(super) fn is_plain_host(word: &str) -> bool {
    !word.contains(['+', '\\', '@', ':', '[', ']', '*', '?', '='])
        && step(word).is_ok_and(|read| read.step.bare_host() == Some(word))
}
