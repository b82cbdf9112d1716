//! `nsenter`: inside the namespaces of a process.

use super::{ArgumentError, Kind, Plan, Start};

/// `nsenter -a -t PID -- COMMAND`.
#[derive(Debug)]
pub(super) struct Nsenter;

impl Kind for Nsenter {
    fn name(&self) -> &'static str {
        "nsenter"
    }

    fn syntax(&self) -> &'static str {
        "nsenter:PID"
    }

    fn check(&self, argument: &str) -> Result<(), ArgumentError> {
        let message = "expected the number of a process, 1 or more";
        if let Some(at) = argument.find(|character: char| !character.is_ascii_digit()) {
            return Err(ArgumentError::new(at, message));
        }
        // As pid_t.
        match argument.parse::<i32>() {
            Ok(1..) => Ok(()),
            _ => Err(ArgumentError::new(0, message)),
        }
    }

    fn plan(&self, argument: &str, start: &Start) -> Plan {
        Plan::of(start.words_behind(&["nsenter", "-a", "-t", argument, "--"]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{argv, wrong_at};
    use super::*;

    #[test]
    fn nsenter_takes_the_number_of_a_process() {
        let expected = ["nsenter", "-a", "-t", "4711", "--", "/bin/sh", "-c", "cat"];
        assert_eq!(argv(&Nsenter, "4711"), expected);
        assert_eq!(wrong_at(&Nsenter, "47x1"), 2);
        for argument in ["", "0", "+1", "99999999999"] {
            assert_eq!(wrong_at(&Nsenter, argument), 0, "{argument:?}");
        }
    }
}
