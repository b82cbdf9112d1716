//! Lists of algorithms as a user may write them (`ssh_config(5)`, `Ciphers` and the like), for
//! machines without an OpenSSH client: there nothing else checks them.

use fakessh_protocol::pattern;

/// A keyword whose value is such a list.
pub(super) struct AlgorithmList {
    keyword: &'static str,
    /// What ssh says about a list with a name in it that it does not know.
    complaint: &'static str,
    /// What ssh offers if nothing is set.
    defaults: &'static [&'static str],
    /// What it knows besides.
    others: &'static [&'static str],
}

const KEYS: [&str; 16] = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

const OTHER_KEYS: [&str; 2] = ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com"];

const LISTS: [AlgorithmList; 7] = [
    AlgorithmList {
        keyword: "ciphers",
        complaint: "Bad SSH2 cipher spec",
        defaults: &[
            "chacha20-poly1305@openssh.com",
            "aes128-gcm@openssh.com",
            "aes256-gcm@openssh.com",
            "aes128-ctr",
            "aes192-ctr",
            "aes256-ctr",
        ],
        others: &["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"],
    },
    AlgorithmList {
        keyword: "macs",
        complaint: "Bad SSH2 MAC spec",
        defaults: &[
            "umac-64-etm@openssh.com",
            "umac-128-etm@openssh.com",
            "hmac-sha2-256-etm@openssh.com",
            "hmac-sha2-512-etm@openssh.com",
            "hmac-sha1-etm@openssh.com",
            "umac-64@openssh.com",
            "umac-128@openssh.com",
            "hmac-sha2-256",
            "hmac-sha2-512",
            "hmac-sha1",
        ],
        others: &[
            "hmac-sha1-96",
            "hmac-sha1-96-etm@openssh.com",
            "hmac-md5",
            "hmac-md5-96",
            "hmac-md5-etm@openssh.com",
            "hmac-md5-96-etm@openssh.com",
        ],
    },
    AlgorithmList {
        keyword: "kexalgorithms",
        complaint: "Bad SSH2 KexAlgorithms",
        defaults: &[
            "mlkem768x25519-sha256",
            "sntrup761x25519-sha512",
            "sntrup761x25519-sha512@openssh.com",
            "curve25519-sha256",
            "curve25519-sha256@libssh.org",
            "ecdh-sha2-nistp256",
            "ecdh-sha2-nistp384",
            "ecdh-sha2-nistp521",
            "diffie-hellman-group-exchange-sha256",
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group18-sha512",
            "diffie-hellman-group14-sha256",
        ],
        others: &[
            "diffie-hellman-group-exchange-sha1",
            "diffie-hellman-group14-sha1",
            "diffie-hellman-group1-sha1",
        ],
    },
    keys("hostkeyalgorithms"),
    keys("pubkeyacceptedalgorithms"),
    keys("pubkeyacceptedkeytypes"),
    AlgorithmList {
        keyword: "casignaturealgorithms",
        complaint: "Bad key types",
        defaults: KEYS.split_at(8).1,
        others: &["ssh-rsa"],
    },
];

const fn keys(keyword: &'static str) -> AlgorithmList {
    AlgorithmList { keyword, complaint: "Bad key types", defaults: &KEYS, others: &OTHER_KEYS }
}

impl AlgorithmList {
    /// The list that a keyword (in lower case) has, if it has one.
    pub(super) fn of(keyword: &str) -> Option<&'static AlgorithmList> {
        LISTS.iter().find(|list| list.keyword == keyword)
    }

    /// The names that a value stands for: `a,b` is the list itself, `+a` the defaults and more,
    /// `-a` the defaults without some, `^a` the defaults with some moved to the front. Names may
    /// be patterns.
    ///
    /// # Errors
    /// What ssh says about a value in which a name is not known. Algorithms that give up
    /// encryption or integrity ("none") are known to nobody here.
    pub(super) fn expand(&self, value: &str) -> Result<String, String> {
        let (sign, names) = match value.split_at_checked(1) {
            Some((sign @ ("+" | "-" | "^"), names)) => (sign, names),
            _ => ("", value),
        };
        let defaults = || self.defaults.iter().copied();
        let listed = |name: &str| {
            names.split(',').any(|pattern| pattern::matches(pattern.as_bytes(), name.as_bytes()))
        };
        let mut named: Vec<&str> = Vec::new();
        if sign != "-" {
            for pattern in names.split(',') {
                let known = defaults().chain(self.others.iter().copied());
                let before = named.len();
                let fits = |name: &&str| pattern::matches(pattern.as_bytes(), name.as_bytes());
                named.extend(known.filter(fits));
                if named.len() == before {
                    return Err(format!("{} '{value}'", self.complaint));
                }
            }
        }
        let expanded: Vec<&str> = match sign {
            "+" => defaults().chain(named).collect(),
            "-" => defaults().filter(|name| !listed(name)).collect(),
            "^" => named.into_iter().chain(defaults()).collect(),
            _ => named,
        };
        let mut unique: Vec<&str> = Vec::new();
        for name in expanded {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        Ok(unique.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(keyword: &str, value: &str) -> Result<String, String> {
        AlgorithmList::of(keyword).expect("a keyword with a list").expand(value)
    }

    #[test]
    fn a_list_may_replace_add_take_away_and_prefer() {
        assert_eq!(expand("ciphers", "aes256-ctr,aes128-ctr").unwrap(), "aes256-ctr,aes128-ctr");
        assert!(expand("ciphers", "+aes128-cbc").unwrap().ends_with("aes256-ctr,aes128-cbc"));
        let without = expand("ciphers", "-aes*,3des-cbc").unwrap();
        assert_eq!(without, "chacha20-poly1305@openssh.com");
        let first = expand("ciphers", "^aes256-ctr").unwrap();
        assert!(first.starts_with("aes256-ctr,chacha20"), "{first}");
        assert_eq!(first.split(',').count(), 6);
        assert_eq!(expand("hostkeyalgorithms", "rsa-sha2-*").unwrap().split(',').count(), 4);
        let authorities = expand("casignaturealgorithms", "-sk-*").unwrap();
        assert!(authorities.starts_with("ssh-ed25519,"), "{authorities}");
        assert!(!authorities.contains("cert"), "{authorities}");
    }

    #[test]
    fn names_that_ssh_does_not_know_are_refused_in_its_words() {
        assert_eq!(expand("ciphers", "none").unwrap_err(), "Bad SSH2 cipher spec 'none'");
        assert_eq!(expand("ciphers", "+clear").unwrap_err(), "Bad SSH2 cipher spec '+clear'");
        assert_eq!(expand("macs", "none").unwrap_err(), "Bad SSH2 MAC spec 'none'");
        let list = "curve25519-sha256,none";
        let complaint = format!("Bad SSH2 KexAlgorithms '{list}'");
        assert_eq!(expand("kexalgorithms", list).unwrap_err(), complaint);
        assert_eq!(expand("ciphers", "").unwrap_err(), "Bad SSH2 cipher spec ''");
        assert_eq!(expand("hostkeyalgorithms", "+x").unwrap_err(), "Bad key types '+x'");
        // What is taken away need not be there.
        assert!(expand("ciphers", "-none").is_ok());
    }
}
