//! The rules by which a context is held: what the command asked for, what the configuration says of
//! a route or of a kind of hop, and what is said where nobody says anything.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Persist;

/// How long an idle login is held: a working day, so that one login in the morning does.
pub(crate) const LOGIN: Persist = Persist::For(Duration::from_secs(8 * 3600));

/// How long an idle context is held behind a change of account: as long as sudo itself remembers a
/// password (sudoers(5), `timestamp_timeout`).
const PRIVILEGE: Persist = Persist::For(Duration::from_secs(15 * 60));

/// The kinds of hops that change the account.
pub(crate) const PRIVILEGED: [&str; 3] = ["sudo", "su", "doas"];

/// How the contexts of one route, or behind one kind of hop, are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// How long an idle one is held.
    #[serde(default)]
    pub persist: Option<Persist>,
    /// Whether the person is asked before each session.
    #[serde(default)]
    pub confirm: bool,
}

/// The rules that a command brings with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// `--persist`: of the contexts at the end of the routes that the command names. It comes
    /// before all else.
    pub asked: Option<Persist>,
    /// Of all that nothing else is said of.
    pub persist: Option<Persist>,
    /// Of what is behind a kind of hop, by the kind's name.
    pub hops: BTreeMap<String, Rule>,
    /// Of a route, by its text.
    pub routes: BTreeMap<String, Rule>,
}

/// How one context is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// What the command itself asked for.
    pub(crate) asked: Option<Persist>,
    /// What the configuration says.
    pub(crate) persist: Persist,
    /// Whether the person is asked before each session.
    pub(crate) confirm: bool,
}

impl Rules {
    /// The terms of each context on a walk, from the first to the last. A segment is the name of its
    /// kind of hop, and the text of the route up to its end.
    ///
    /// What a route's own rule does not say it has from the route that it goes on from: nothing is
    /// held longer than the privilege that it stands behind, or is less asked for.
    pub(crate) fn terms<'a>(
        &self,
        segments: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Vec<Terms> {
        let mut all: Vec<Terms> = Vec::new();
        for (kind, text) in segments {
            let hop = self.hops.get(kind).copied().unwrap_or_default();
            let default = self.persist.unwrap_or(LOGIN);
            let default = if PRIVILEGED.contains(&kind) { default.min(PRIVILEGE) } else { default };
            let own = hop.persist.unwrap_or(default);
            let inherited = all.last().map_or(own, |before| before.persist.min(own));
            let persist = self.routes.get(text).and_then(|rule| rule.persist).unwrap_or(inherited);
            let confirm = hop.confirm || all.last().is_some_and(|before| before.confirm);
            let confirm = confirm || self.is_confirmed(text);
            all.push(Terms { asked: None, persist, confirm });
        }
        if let Some(last) = all.last_mut() {
            last.asked = self.asked;
        }
        all
    }

    /// Whether a rule for this route, or for one that it goes on from, wants to be confirmed.
    fn is_confirmed(&self, text: &str) -> bool {
        self.routes.iter().any(|(route, rule)| {
            let rest = text.strip_prefix(route.as_str());
            rule.confirm && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(rules: &Rules, route: &[(&str, &str)]) -> Vec<(String, bool)> {
        let terms = rules.terms(route.iter().copied());
        terms.iter().map(|terms| (terms.persist.to_string(), terms.confirm)).collect()
    }

    fn persist(text: &str) -> Rule {
        Rule { persist: text.parse().ok(), confirm: false }
    }

    const ROUTE: [(&str, &str); 4] = [
        ("ssh", "a+web1"),
        ("docker", "a+web1+docker:x"),
        ("sudo", "a+web1+docker:x+sudo"),
        ("docker", "a+web1+docker:x+sudo+docker:y"),
    ];

    #[test]
    fn a_login_lasts_a_day_and_a_privilege_and_all_behind_it_a_quarter_of_an_hour() {
        let expected = ["8h", "8h", "15m", "15m"].map(|text| (text.to_owned(), false));
        assert_eq!(terms(&Rules::default(), &ROUTE), expected);
        // A default of the configuration shortens both, and makes only logins longer.
        for (default, expected) in
            [("5m", ["5m", "5m", "5m", "5m"]), ("yes", ["yes", "yes", "15m", "15m"])]
        {
            let rules = Rules { persist: default.parse().ok(), ..Rules::default() };
            assert_eq!(terms(&rules, &ROUTE), expected.map(|text| (text.to_owned(), false)));
        }
    }

    #[test]
    fn a_rule_of_a_kind_is_for_all_behind_it_and_one_of_a_route_for_that_route() {
        let mut rules = Rules::default();
        rules.hops.insert("docker".into(), persist("1h"));
        rules.hops.insert("sudo".into(), persist("30m"));
        let shown = |rules: &Rules| {
            terms(rules, &ROUTE).into_iter().map(|(text, _)| text).collect::<Vec<_>>()
        };
        assert_eq!(shown(&rules), ["8h", "1h", "30m", "30m"]);
        rules.routes.insert("a+web1+docker:x".into(), persist("2h"));
        assert_eq!(shown(&rules), ["8h", "2h", "30m", "30m"]);
        rules.routes.insert("a+web1+docker:x+sudo".into(), persist("10m"));
        assert_eq!(shown(&rules), ["8h", "2h", "10m", "10m"]);
        rules.routes.insert("a+web1+docker:x+sudo+docker:y".into(), persist("yes"));
        assert_eq!(shown(&rules), ["8h", "2h", "10m", "yes"]);
    }

    #[test]
    fn only_the_end_of_a_route_is_held_as_the_command_asks() {
        let rules = Rules { asked: "1d".parse().ok(), ..Rules::default() };
        let asked: Vec<_> = rules.terms(ROUTE).iter().map(|terms| terms.asked).collect();
        assert_eq!(asked, [None, None, None, rules.asked]);
    }

    #[test]
    fn what_is_confirmed_is_so_with_all_behind_it() {
        let confirmed = |rules: &Rules| {
            terms(rules, &ROUTE).into_iter().map(|(_, confirm)| confirm).collect::<Vec<_>>()
        };
        let confirm = Rule { persist: None, confirm: true };
        let mut rules = Rules::default();
        rules.hops.insert("sudo".into(), confirm);
        assert_eq!(confirmed(&rules), [false, false, true, true]);
        rules.routes.insert("a+web".into(), confirm);
        assert_eq!(confirmed(&rules), [false, false, true, true]);
        // A host that is only passed counts as well.
        rules.routes.insert("a".into(), confirm);
        assert_eq!(confirmed(&rules), [true; 4]);
    }
}
