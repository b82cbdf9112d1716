//! One line of the table: what the contenders reached, and what was wanted.

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Lower,
    Higher,
}

/// Against what a row's targets are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// The ratio to ControlMaster's figure.
    ControlMaster,
    /// The ratio to plain ssh's figure.
    Ssh,
    /// The ratio to the better one of both.
    Either,
    /// Our figure itself.
    Nothing,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) ours: f64,
    /// What an older build reached in the same run.
    pub(super) before: Option<f64>,
    pub(super) control_master: Option<f64>,
    pub(super) ssh: Option<f64>,
    pub(super) better: Better,
    pub(super) against: Against,
    /// What the program is built for.
    pub(super) target: Option<f64>,
    /// What its first release is held to.
    pub(super) first_target: Option<f64>,
    /// How it came about, if the figures alone would mislead.
    pub(super) note: Option<String>,
}

impl Row {
    /// A row without rivals, targets or note.
    pub(super) fn new(what: impl Into<String>, unit: &'static str, ours: f64) -> Row {
        Row {
            what: what.into(),
            unit,
            ours,
            before: None,
            control_master: None,
            ssh: None,
            better: Better::Lower,
            against: Against::Nothing,
            target: None,
            first_target: None,
            note: None,
        }
    }

    /// With the rivals' figures.
    pub(super) fn rivals(mut self, control_master: Option<f64>, ssh: Option<f64>) -> Row {
        (self.control_master, self.ssh) = (control_master, ssh);
        self
    }

    /// With the older build's figure.
    pub(super) fn before(mut self, before: Option<f64>) -> Row {
        self.before = before;
        self
    }

    /// Our figure over the older build's.
    pub(super) fn ratio_to_before(&self) -> Option<f64> {
        self.before.filter(|&before| before > 0.0).map(|before| self.ours / before)
    }

    /// A row in which more is better.
    pub(super) fn higher(mut self) -> Row {
        self.better = Better::Higher;
        self
    }

    /// With the limits that are wanted: the full one, and that of the first release.
    pub(super) fn target(
        mut self,
        against: Against,
        full: impl Into<Option<f64>>,
        first: impl Into<Option<f64>>,
    ) -> Row {
        self.against = against;
        (self.target, self.first_target) = (full.into(), first.into());
        self
    }

    /// With a word on how it came about.
    pub(super) fn note(mut self, note: impl Into<String>) -> Row {
        self.note = Some(note.into());
        self
    }

    /// Our figure over the rival's.
    pub(super) fn ratio(&self) -> Option<f64> {
        let rival = match self.against {
            Against::ControlMaster => self.control_master,
            Against::Ssh => self.ssh,
            Against::Either => match (self.control_master, self.ssh) {
                (Some(one), Some(other)) => Some(match self.better {
                    Better::Lower => one.min(other),
                    Better::Higher => one.max(other),
                }),
                (one, other) => one.or(other),
            },
            Against::Nothing => None,
        };
        rival.filter(|&rival| rival > 0.0).map(|rival| self.ours / rival)
    }

    /// Whether a limit is kept; `None` without a limit or a figure to hold against it.
    pub(super) fn met(&self, limit: Option<f64>) -> Option<bool> {
        let reached = if self.against == Against::Nothing { Some(self.ours) } else { self.ratio() };
        let (reached, limit) = (reached?, limit?);
        Some(match self.better {
            Better::Lower => reached <= limit,
            Better::Higher => reached >= limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_held_against_its_limits() {
        let row = Row::new("x", "ms", 4.0).rivals(Some(10.0), Some(5.0));
        let row = row.target(Against::ControlMaster, 0.35, 0.5);
        assert_eq!(row.ratio(), Some(0.4));
        assert_eq!((row.met(row.target), row.met(row.first_target)), (Some(false), Some(true)));
        let row = row.target(Against::Either, 1.0, None);
        assert_eq!(
            (row.ratio(), row.met(row.target), row.met(None)),
            (Some(0.8), Some(true), None)
        );
        let row = row.higher();
        assert_eq!((row.ratio(), row.met(row.target)), (Some(0.4), Some(false)));
        let row = Row::new("x", "MB", 1.9).target(Against::Nothing, 1.5, 2.0);
        assert_eq!((row.met(row.target), row.met(row.first_target)), (Some(false), Some(true)));
    }
}
