//! Contenders that take turns, and the medians of what they reached.

use crate::site::Contender;

/// What each contender reached, round by round.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    ours: Vec<f64>,
    before: Vec<f64>,
    control_master: Vec<f64>,
    ssh: Vec<f64>,
}

impl Rounds {
    /// Lets the contenders take turns, `rounds` times; one that is given with `every` takes part in
    /// each so-many-th round only. Every other round goes the other way round, so that none always
    /// finds the machine as the same other one left it.
    pub(super) fn take(
        rounds: usize,
        contenders: &[(Contender, usize)],
        mut measure: impl FnMut(Contender) -> f64,
    ) -> Rounds {
        let mut taken = Rounds::default();
        for round in 0..rounds {
            let mut turns: Vec<Contender> = contenders
                .iter()
                .filter(|&&(_, every)| round % every == 0)
                .map(|&(contender, _)| contender)
                .collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for contender in turns {
                let reached = measure(contender);
                match contender {
                    Contender::Ours => taken.ours.push(reached),
                    Contender::Before => taken.before.push(reached),
                    Contender::ControlMaster => taken.control_master.push(reached),
                    Contender::Ssh => taken.ssh.push(reached),
                }
            }
        }
        taken
    }

    /// Our median.
    ///
    /// # Panics
    /// If we took no part.
    pub(super) fn ours(&self) -> f64 {
        median(&self.ours).expect("our own figures")
    }

    /// The older build's median, if it took part.
    pub(super) fn before(&self) -> Option<f64> {
        median(&self.before)
    }

    /// ControlMaster's median, if it took part.
    pub(super) fn control_master(&self) -> Option<f64> {
        median(&self.control_master)
    }

    /// Plain ssh's median, if it took part.
    pub(super) fn ssh(&self) -> Option<f64> {
        median(&self.ssh)
    }
}

/// The value in the middle; the mean of the two there of an even number.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted[middle - 1] + upper) / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn contenders_take_turns() {
        let mut turns = String::new();
        let contenders = [(Contender::Ours, 1), (Contender::Ssh, 2)];
        let rounds = Rounds::take(3, &contenders, |contender| {
            turns.push(if contender == Contender::Ours { 'o' } else { 's' });
            turns.len() as f64
        });
        assert_eq!(turns, "osoos");
        assert_eq!((rounds.ours(), rounds.ssh(), rounds.control_master()), (3.0, Some(3.5), None));
    }
}
