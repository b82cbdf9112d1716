//! Names of users and groups, from `/etc/passwd` and `/etc/group`: a static binary can't ask the C
//! library's name services. Who is kept elsewhere is shown as a number.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Most bytes of a database that are looked at.
const MAX_DATABASE: u64 = 16 * 1024 * 1024;

/// Most names of one database that are kept: 1 MiB or so. The others are shown as numbers.
const MAX_NAMES: usize = 16 * 1024;

/// The list of users (passwd(5)).
const USERS: &str = "/etc/passwd";

/// The list of groups (group(5)).
const GROUPS: &str = "/etc/group";

/// The names that were asked for, read when first needed and kept as long as the server.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: Option<HashMap<u32, Box<[u8]>>>,
    groups: Option<HashMap<u32, Box<[u8]>>>,
}

impl Names {
    /// The name of a user.
    pub(crate) fn user(&mut self, uid: u32) -> Option<&[u8]> {
        self.users.get_or_insert_with(|| by_number(USERS)).get(&uid).map(AsRef::as_ref)
    }

    /// The name of a group.
    pub(crate) fn group(&mut self, gid: u32) -> Option<&[u8]> {
        self.groups.get_or_insert_with(|| by_number(GROUPS)).get(&gid).map(AsRef::as_ref)
    }
}

/// The home directory of the user of this name.
pub(crate) fn home_of(name: &[u8]) -> Option<Vec<u8>> {
    let file = File::open(USERS).ok()?;
    let mut home = None;
    for_each_line(BufReader::new(file.take(MAX_DATABASE)), |line| {
        let mut fields = line.split(|&byte| byte == b':');
        if fields.next() == Some(name) {
            home = fields.nth(4).map(<[u8]>::to_vec);
        }
        home.is_none()
    });
    home
}

fn by_number(database: &str) -> HashMap<u32, Box<[u8]>> {
    File::open(database)
        .map(|file| collect(BufReader::new(file.take(MAX_DATABASE))))
        .unwrap_or_default()
}

/// Both databases begin their lines with a name, a password and a number.
fn collect(database: impl BufRead) -> HashMap<u32, Box<[u8]>> {
    let mut names = HashMap::new();
    for_each_line(database, |line| {
        let mut fields = line.split(|&byte| byte == b':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1))
            && !name.is_empty()
            && let Some(number) =
                std::str::from_utf8(number).ok().and_then(|text| text.parse().ok())
        {
            // Of several names for a number, the first counts.
            names.entry(number).or_insert_with(|| name.into());
        }
        names.len() < MAX_NAMES
    });
    names
}

/// Calls `each` with every line, as long as it says so.
fn for_each_line(mut database: impl BufRead, mut each: impl FnMut(&[u8]) -> bool) {
    let mut line = Vec::new();
    while database.read_until(b'\n', &mut line).is_ok_and(|len| len > 0)
        && each(line.trim_ascii_end())
    {
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let text = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n# x\nbad:x:y\n\
            :x:3:\nlast:x:7:a,b";
        let names = collect(&text[..]);
        assert_eq!(names.len(), 2);
        assert_eq!((&*names[&0], &*names[&7]), (&b"root"[..], &b"last"[..]));
    }

    #[test]
    fn root_has_a_name_and_a_home() {
        let mut names = Names::default();
        assert_eq!(names.user(0), Some(&b"root"[..]));
        assert_eq!(names.group(0), Some(&b"root"[..]));
        assert_eq!(names.user(0xffff_fff0), None);
        assert_eq!(home_of(b"root").as_deref(), Some(&b"/root"[..]));
        assert_eq!(home_of(b"no such user"), None);
    }
}
