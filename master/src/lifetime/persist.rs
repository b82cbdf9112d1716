//! Times as people write them for ssh: `10m`, `8h`, `1h30m`, seconds, `yes`, `no`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// Units of ssh's times (sshd_config(5), TIME FORMATS) in seconds, the longest first.
const UNITS: [(char, u64); 5] =
    [('w', 7 * 24 * 3600), ('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];

/// Longest time in seconds, as ssh has it: 68 years.
const MAX_SECONDS: u64 = i32::MAX as u64;

/// How long a context is held that nobody uses, as `ControlPersist` of ssh_config(5) says it.
/// A shorter time is less than a longer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Persist {
    /// So long; no time at all is `no`.
    For(Duration),
    /// For ever: `yes` or `0`.
    Forever,
}

/// The text is no time.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "'{0}' is no time; write 10m, 8h, 1h30m, a number of seconds, yes (for ever) or no (not at all)"
)]
pub struct PersistError(String);

impl Persist {
    /// As ssh takes a number: 0 is for ever.
    fn seconds(seconds: u64) -> Option<Persist> {
        match seconds {
            0 => Some(Persist::Forever),
            1..=MAX_SECONDS => Some(Persist::For(Duration::from_secs(seconds))),
            _ => None,
        }
    }

    /// The time; `None` where it is for ever.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Persist::For(limit) => Some(limit),
            Persist::Forever => None,
        }
    }

    fn parse(text: &str) -> Option<Persist> {
        match text.to_ascii_lowercase().as_str() {
            "yes" => return Some(Persist::Forever),
            "no" => return Some(Persist::For(Duration::ZERO)),
            _ => {}
        }
        let (mut total, mut number, mut rest) = (0u64, None::<u64>, text.chars());
        loop {
            let char = rest.next();
            if let Some(digit) = char.and_then(|char| char.to_digit(10)) {
                let before = number.unwrap_or(0).checked_mul(10)?;
                number = Some(before.checked_add(digit.into())?);
                continue;
            }
            let unit = match char {
                // A number at the end counts seconds.
                None => 1,
                Some(char) => {
                    let char = char.to_ascii_lowercase();
                    UNITS.iter().find(|(unit, _)| *unit == char)?.1
                }
            };
            match (number.take(), char) {
                (Some(number), _) => total = total.checked_add(number.checked_mul(unit)?)?,
                (None, None) if !text.is_empty() => return Persist::seconds(total),
                (None, _) => return None,
            }
            if char.is_none() {
                return Persist::seconds(total);
            }
        }
    }
}

impl FromStr for Persist {
    type Err = PersistError;

    fn from_str(text: &str) -> Result<Persist, PersistError> {
        Persist::parse(text).ok_or_else(|| PersistError(text.to_owned()))
    }
}

/// In the form that is read again.
impl fmt::Display for Persist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Persist::Forever => f.write_str("yes"),
            Persist::For(limit) if limit.as_secs() == 0 => f.write_str("no"),
            Persist::For(limit) => {
                let mut seconds = limit.as_secs();
                for (unit, length) in UNITS {
                    if seconds >= length {
                        write!(f, "{}{unit}", seconds / length)?;
                        seconds %= length;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Serialize for Persist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Persist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Persist, D::Error> {
        struct Time;

        impl Visitor<'_> for Time {
            type Value = Persist;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time: \"10m\", \"1h30m\", a number of seconds, \"yes\" or \"no\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Persist, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Persist, E> {
                Persist::seconds(seconds)
                    .ok_or_else(|| E::custom(PersistError(seconds.to_string())))
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Persist, E> {
                let seconds = u64::try_from(seconds);
                self.visit_u64(seconds.map_err(|_| E::custom("a time is not negative"))?)
            }

            fn visit_bool<E: serde::de::Error>(self, yes: bool) -> Result<Persist, E> {
                Ok(if yes { Persist::Forever } else { Persist::For(Duration::ZERO) })
            }
        }

        deserializer.deserialize_any(Time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        text.parse::<Persist>().unwrap().limit().map(|limit| limit.as_secs())
    }

    #[test]
    fn times_are_read_as_ssh_reads_them() {
        for (text, expected) in [
            ("600", Some(600)),
            ("10m", Some(600)),
            ("1h30m", Some(5400)),
            ("1H30M", Some(5400)),
            ("90s", Some(90)),
            ("1w2d3h4m5s", Some(604_800 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5)),
            ("1m30", Some(90)),
            ("no", Some(0)),
            ("yes", None),
            ("0", None),
            ("0s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "m", "10 m", "-1", "1y", "1hh", "h1", "forever", "2147483648", "9999999w"]
        {
            assert!(text.parse::<Persist>().is_err(), "{text}");
        }
        assert!("99999999999999999999999999".parse::<Persist>().is_err());
    }

    #[test]
    fn what_is_shown_is_read_again_and_short_is_less_than_long() {
        let mut times = ["no", "1s", "15m", "8h", "1d1s", "3w", "yes"];
        for text in times {
            assert_eq!(text.parse::<Persist>().unwrap().to_string(), text);
        }
        times.reverse();
        times.sort_by_key(|text| text.parse::<Persist>().unwrap());
        assert_eq!(times, ["no", "1s", "15m", "8h", "1d1s", "3w", "yes"]);
    }
}
