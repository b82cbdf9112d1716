//! When a context that nobody uses comes to its end. It has no clock: whoever calls says what time
//! it is.

use std::time::Duration;

use super::rules::LOGIN;
use super::{Persist, Terms};

/// A time since the start of the machine, with the time that it slept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) Duration);

impl Moment {
    /// A time after this one.
    pub(crate) fn after(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time))
    }
}

/// How long a context is held at most that may lead through a tunnel of a tool: a row of commands
/// shares it, and a tool that waits for its tunnel does not wait long.
pub(crate) const MOMENT: Persist = Persist::For(Duration::from_secs(5));

/// What uses a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A session that runs in it.
    Session,
    /// A connection or context that goes through it, or `ssh -N`.
    Dependent,
    /// A run that may start sessions in it.
    Run,
}

/// When a context ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Not as long as it is used.
    InUse,
    /// Never by itself.
    Never,
    /// Then, if it is not used before.
    At(Moment),
}

/// What is known of a context's uses.
#[derive(Debug)]
pub(crate) struct Expiry {
    sessions: usize,
    dependents: usize,
    runs: usize,
    /// Whether a connection goes through that of this context.
    is_passed: bool,
    last_used: Moment,
    /// What a command asked for; until the next one that asks.
    asked: Option<Persist>,
    configured: Persist,
    /// Whether only those have used it who want it held for a moment; `None` before anybody has.
    brief: Option<bool>,
    confirm: bool,
    /// Nothing new is to begin in it: its certificate has ended.
    is_outdated: bool,
    /// It is being closed.
    is_over: bool,
}

impl Expiry {
    /// Of a context that was just made.
    pub(crate) fn new(now: Moment) -> Expiry {
        Expiry {
            sessions: 0,
            dependents: 0,
            runs: 0,
            is_passed: false,
            last_used: now,
            asked: None,
            configured: LOGIN,
            brief: None,
            confirm: false,
            is_outdated: false,
            is_over: false,
        }
    }

    /// Holds the context by these terms from here on. What a command asked for stays until another
    /// one asks, and what is to be confirmed stays so: the next caller need not know of it.
    pub(crate) fn set_terms(&mut self, terms: &Terms) {
        self.asked = terms.asked.or(self.asked);
        self.configured = terms.persist;
        self.confirm |= terms.confirm;
    }

    /// Has the context held for [`MOMENT`] only, if that is so for everybody who uses it.
    pub(crate) fn hold_briefly(&mut self, is_brief: bool) {
        self.brief = Some(is_brief && self.brief != Some(false));
    }

    /// A use begins; `false` where the context is just being closed.
    pub(crate) fn begin(&mut self, kind: Use) -> bool {
        if self.is_over {
            return false;
        }
        *self.count(kind) += 1;
        true
    }

    /// A use ends.
    pub(crate) fn end(&mut self, kind: Use, now: Moment) {
        let count = self.count(kind);
        *count = count.saturating_sub(1);
        self.renew(now);
    }

    /// Whether a connection goes through that of this context: nobody says so when that ends, so
    /// it is looked for.
    pub(crate) fn pass(&mut self, is_passed: bool, now: Moment) {
        if std::mem::replace(&mut self.is_passed, is_passed) || is_passed {
            self.renew(now);
        }
    }

    /// Whether nothing else uses it than a connection that goes through.
    pub(crate) fn is_only_passed(&self) -> bool {
        self.is_passed && self.sessions == 0 && self.dependents == 0
    }

    /// It is of use now.
    fn renew(&mut self, now: Moment) {
        self.last_used = self.last_used.max(now);
    }

    /// It ends as soon as nothing runs in it. Says whether that is new.
    pub(crate) fn outdate(&mut self) -> bool {
        !std::mem::replace(&mut self.is_outdated, true)
    }

    /// Begins the end of a context that is due. From here on nothing begins in it.
    pub(crate) fn close_if_due(&mut self, now: Moment) -> bool {
        let is_due = matches!(self.ends(), Ends::At(moment) if moment <= now);
        self.is_over |= is_due;
        is_due
    }

    /// When it ends.
    pub(crate) fn ends(&self) -> Ends {
        if self.is_over {
            return Ends::Never;
        }
        if self.is_busy() {
            return Ends::InUse;
        }
        if self.is_outdated {
            return Ends::At(self.last_used);
        }
        match self.persist() {
            Persist::Forever => Ends::Never,
            Persist::For(limit) => Ends::At(self.last_used.after(limit)),
        }
    }

    /// How long it is held while nothing runs in it.
    ///
    /// A run that somebody has started must not be asked for a password in its middle, with nobody
    /// there to answer: while it lives its contexts are held as long as a login is.
    pub(crate) fn persist(&self) -> Persist {
        let persist = self.asked.unwrap_or(self.configured);
        match self.brief {
            _ if self.runs > 0 => persist.max(LOGIN),
            Some(true) => persist.min(MOMENT),
            _ => persist,
        }
    }

    /// Whether the person is asked before each session.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirm
    }

    /// Sessions that run.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions
    }

    /// Whether it is being closed.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether a session runs, or something hangs on it.
    pub(crate) fn is_busy(&self) -> bool {
        self.sessions > 0 || self.dependents > 0 || self.is_passed
    }

    fn count(&mut self, kind: Use) -> &mut usize {
        match kind {
            Use::Session => &mut self.sessions,
            Use::Dependent => &mut self.dependents,
            Use::Run => &mut self.runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn terms(asked: Option<&str>, persist: &str, confirm: bool) -> Terms {
        let asked = asked.map(|text| text.parse().unwrap());
        Terms { asked, persist: persist.parse().unwrap(), confirm }
    }

    fn held_for(persist: &str) -> Expiry {
        let mut expiry = Expiry::new(at(100));
        expiry.set_terms(&terms(None, persist, false));
        expiry
    }

    #[test]
    fn what_nobody_wants_to_last_is_held_for_a_moment() {
        let mut expiry = held_for("60");
        expiry.hold_briefly(true);
        assert_eq!(expiry.ends(), Ends::At(at(105)));
        // As long as a run that uses it.
        assert!(expiry.begin(Use::Run));
        assert_eq!(expiry.persist(), LOGIN);
        expiry.end(Use::Run, at(200));
        assert_eq!(expiry.ends(), Ends::At(at(205)));
        // Once somebody wants it to last it does, whoever else uses it.
        expiry.hold_briefly(false);
        expiry.hold_briefly(true);
        assert_eq!(expiry.ends(), Ends::At(at(260)));
        let mut shorter = held_for("2");
        shorter.hold_briefly(true);
        assert_eq!(shorter.ends(), Ends::At(at(102)));
    }

    #[test]
    fn an_idle_context_ends_and_each_session_renews_it() {
        let mut expiry = held_for("60");
        assert_eq!(expiry.ends(), Ends::At(at(160)));
        assert!(expiry.begin(Use::Session) && expiry.begin(Use::Session));
        assert_eq!((expiry.ends(), expiry.sessions()), (Ends::InUse, 2));
        expiry.end(Use::Session, at(500));
        assert_eq!(expiry.ends(), Ends::InUse);
        assert!(!expiry.close_if_due(at(10_000)));
        expiry.end(Use::Session, at(600));
        assert_eq!(expiry.ends(), Ends::At(at(660)));
        assert!(!expiry.close_if_due(at(659)));
        assert!(expiry.begin(Use::Session));
        expiry.end(Use::Session, at(659));
        assert!(!expiry.close_if_due(at(718)));
        assert!(expiry.close_if_due(at(719)));
        // A session that comes now gets another context.
        assert!(!expiry.begin(Use::Session) && expiry.is_over());
        assert!(!expiry.close_if_due(at(10_000)), "it is closed once");
    }

    #[test]
    fn what_hangs_on_it_keeps_it_and_its_end_renews() {
        let mut expiry = held_for("60");
        assert!(expiry.begin(Use::Dependent));
        assert_eq!(expiry.ends(), Ends::InUse);
        expiry.end(Use::Dependent, at(1000));
        assert_eq!(expiry.ends(), Ends::At(at(1060)));
        // So does a connection that goes through, and is only seen by a look.
        expiry.pass(true, at(1050));
        assert!(expiry.is_only_passed());
        assert!(expiry.is_busy() && !expiry.close_if_due(at(5000)));
        expiry.pass(false, at(5000));
        assert_eq!(expiry.ends(), Ends::At(at(5060)));
        expiry.pass(false, at(5050));
        assert_eq!(expiry.ends(), Ends::At(at(5060)));
    }

    #[test]
    fn a_live_run_holds_what_it_uses_as_long_as_a_login() {
        let mut expiry = held_for("15m");
        assert!(expiry.begin(Use::Run) && expiry.begin(Use::Session));
        expiry.end(Use::Session, at(200));
        assert_eq!(expiry.ends(), Ends::At(at(200 + 8 * 3600)));
        expiry.end(Use::Run, at(300));
        assert_eq!(expiry.ends(), Ends::At(at(300 + 900)));
        let mut long = held_for("1w");
        assert!(long.begin(Use::Run));
        assert_eq!(long.ends(), Ends::At(at(100 + 7 * 24 * 3600)));
    }

    #[test]
    fn what_was_asked_for_stays_until_another_asks() {
        let mut expiry = held_for("15m");
        expiry.set_terms(&terms(Some("1d"), "15m", true));
        expiry.set_terms(&terms(None, "15m", false));
        assert_eq!(expiry.persist().to_string(), "1d");
        assert!(expiry.is_confirmed());
        expiry.set_terms(&terms(Some("yes"), "15m", false));
        assert_eq!(expiry.ends(), Ends::Never);
        expiry.set_terms(&terms(Some("no"), "15m", false));
        assert_eq!(expiry.ends(), Ends::At(at(100)));
    }

    #[test]
    fn what_is_outdated_ends_with_its_last_session_whoever_holds_it() {
        let mut expiry = held_for("yes");
        assert!(expiry.begin(Use::Run) && expiry.begin(Use::Session));
        assert!(expiry.outdate() && !expiry.outdate());
        assert!(!expiry.close_if_due(at(1000)));
        expiry.end(Use::Session, at(1001));
        assert!(expiry.close_if_due(at(1001)));
    }
}
