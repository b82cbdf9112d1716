//! What a configuration says of forwards.

use fakessh_protocol::forward::{Forward, ForwardOptions, ForwardSide};

/// The forwards that a configuration wants for each session, and what holds for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredForwards {
    /// The forwards, in the order in which ssh opens them.
    pub forwards: Vec<Forward>,
    /// What holds for all forwards, also for those of a command line that does not say otherwise.
    pub options: ForwardOptions,
}

/// The keywords, and at which side connections come in.
const KEYWORDS: [(&str, ForwardSide); 3] = [
    ("localforward", ForwardSide::Local),
    ("dynamicforward", ForwardSide::Local),
    ("remoteforward", ForwardSide::Remote),
];

impl ConfiguredForwards {
    /// Reads what `ssh -G` prints: `values` gives the values of a keyword. A forward that can't be
    /// read is passed over: ssh has read it.
    pub(super) fn of<'a>(values: impl Fn(&str) -> &'a [String]) -> ConfiguredForwards {
        let raw = |keyword| values(keyword).first().map(String::as_str);
        let read = |(keyword, side)| {
            values(keyword).iter().filter_map(move |value: &String| {
                let mut words = value.split_whitespace();
                let (listen, to) = (words.next()?, words.next());
                Forward::configured(side, listen, to).ok()
            })
        };
        let flag = |keyword| match raw(keyword) {
            Some("yes" | "true") => Some(true),
            Some("no" | "false") => Some(false),
            _ => None,
        };
        let words = |value: &str| value.split_whitespace().map(str::to_owned).collect();
        ConfiguredForwards {
            forwards: KEYWORDS.into_iter().flat_map(read).collect(),
            options: ForwardOptions {
                gateway_ports: flag("gatewayports"),
                exit_on_failure: flag("exitonforwardfailure"),
                clear_all: flag("clearallforwardings"),
                bind_unlink: flag("streamlocalbindunlink"),
                bind_mask: raw("streamlocalbindmask")
                    .and_then(|mask| u16::from_str_radix(mask, 8).ok()),
                permit_remote_open: raw("permitremoteopen").map(words).unwrap_or_default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_prints_is_read() {
        let lines = [
            ("localforward", &["8080 [web1]:80", "/run/a /run/b"][..]),
            ("remoteforward", &["1 [socks]:0"]),
            ("dynamicforward", &["[::1]:1080"]),
            ("gatewayports", &["yes"]),
            ("clearallforwardings", &["no"]),
            ("streamlocalbindmask", &["077"]),
            ("permitremoteopen", &["a:1 b:2"]),
        ];
        let lines = lines.map(|(keyword, values)| {
            (keyword, values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
        });
        let values = |keyword: &str| {
            let found = lines.iter().find(|(known, _)| *known == keyword);
            found.map_or(&[][..], |(_, values)| values)
        };
        let ConfiguredForwards { forwards, options } = ConfiguredForwards::of(values);
        let shown: Vec<String> = forwards.iter().map(Forward::to_string).collect();
        let expected =
            ["-L localhost:8080:web1:80", "-L /run/a:/run/b", "-D [::1]:1080", "-R localhost:1"];
        assert_eq!(shown, expected);
        assert_eq!((options.gateway_ports, options.clear_all), (Some(true), Some(false)));
        assert_eq!((options.exit_on_failure, options.bind_mask), (None, Some(0o77)));
        assert_eq!(options.permit_remote_open, ["a:1", "b:2"]);
    }
}
