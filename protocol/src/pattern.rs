//! Patterns of `ssh_config(5)`, one at a time.

/// Whether a name fits a pattern: `*` is any number of characters, `?` is one. Takes time in
/// proportion to the product of both lengths at most.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while position < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, position));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[position] => {
                at += 1;
                position += 1;
            }
            _ => match retry {
                Some((behind_star, start)) => {
                    (at, position) = (behind_star, start + 1);
                    retry = Some((behind_star, start + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_ssh() {
        for (pattern, name) in [("*", ""), ("*.a", "x.a"), ("?b*c*", "abxcx"), ("a*b*c", "aXbbYc")]
        {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("?", ""), ("*.a", "x.b"), ("a*b", "ac"), ("a", "ab"), ("ab", "a")]
        {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let (pattern, name) = (b"*a".repeat(100), b"a".repeat(10_000));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &name));
    }
}
