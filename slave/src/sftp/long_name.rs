//! The line that `ls -l` would print, which READDIR's replies carry. Clients show it as it is.

use std::io::Write;

use rustix::fs::{FileType, Stat};

use super::names::Names;
use super::sys;

/// Most bytes of a line: as OpenSSH's buffer holds.
pub(crate) const MAX_LINE: usize = 1023;

/// A time further back than this, in seconds, or ahead, is shown with its year: half a year.
const RECENT: i64 = 365 * 24 * 60 * 60 / 2;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes the line into `line`, in place of what it holds. `now` is in seconds since 1970.
pub(crate) fn write(line: &mut Vec<u8>, name: &[u8], stat: &Stat, names: &mut Names, now: i64) {
    line.clear();
    line.extend(mode(stat.st_mode));
    // Writing to memory does not fail.
    let _ = write!(line, "  {:>3} ", stat.st_nlink);
    put_name(line, names.user(stat.st_uid), stat.st_uid);
    put_name(line, names.group(stat.st_gid), stat.st_gid);
    let _ = write!(line, "{:>8} ", stat.st_size as u64);
    put_time(line, stat.st_mtime, now);
    line.push(b' ');
    line.extend(name);
    line.truncate(MAX_LINE);
}

/// A name, or else a number, that fills eight columns, and a space.
fn put_name(line: &mut Vec<u8>, name: Option<&[u8]>, number: u32) {
    let start = line.len();
    match name {
        Some(name) => line.extend(name),
        None => {
            let _ = write!(line, "{number}");
        }
    }
    let len = (line.len() - start).max(8);
    line.resize(start + len, b' ');
    line.push(b' ');
}

fn put_time(line: &mut Vec<u8>, time: i64, now: i64) {
    let Some(local) = sys::local_time(time) else { return };
    let month = MONTHS.get(local.month).copied().unwrap_or("?");
    let _ = write!(line, "{month} {:>2} ", local.day);
    let is_recent = now - RECENT < time && now >= time;
    let _ = if is_recent {
        write!(line, "{:02}:{:02}", local.hour, local.minute)
    } else {
        write!(line, " {}", local.year)
    };
}

/// `drwxr-xr-x` (strmode(3)).
fn mode(mode: u32) -> [u8; 10] {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => b'd',
        FileType::CharacterDevice => b'c',
        FileType::BlockDevice => b'b',
        FileType::RegularFile => b'-',
        FileType::Symlink => b'l',
        FileType::Socket => b's',
        FileType::Fifo => b'p',
        FileType::Unknown => b'?',
    };
    let bit = |bit: u32, letter: u8| if mode & bit == 0 { b'-' } else { letter };
    // A special bit takes the place of the right to execute, and is a capital if there is none.
    let execute = |bit: u32, special: u32, letter: u8| match (mode & bit != 0, mode & special != 0)
    {
        (false, false) => b'-',
        (true, false) => b'x',
        (true, true) => letter,
        (false, true) => letter.to_ascii_uppercase(),
    };
    [
        kind,
        bit(0o400, b'r'),
        bit(0o200, b'w'),
        execute(0o100, 0o4000, b's'),
        bit(0o040, b'r'),
        bit(0o020, b'w'),
        execute(0o010, 0o2000, b's'),
        bit(0o004, b'r'),
        bit(0o002, b'w'),
        execute(0o001, 0o1000, b't'),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_shown_as_ls_does() {
        for (number, text) in [
            (0o040_755, "drwxr-xr-x"),
            (0o100_644, "-rw-r--r--"),
            (0o041_777, "drwxrwxrwt"),
            (0o107_000, "---S--S--T"),
            (0o106_755, "-rwsr-sr-x"),
            (0o120_777, "lrwxrwxrwx"),
            (0o020_600, "crw-------"),
            (0o060_060, "b---rw----"),
            (0o010_000, "p---------"),
            (0o140_001, "s--------x"),
        ] {
            assert_eq!(std::str::from_utf8(&mode(number)).unwrap(), text);
        }
    }

    #[test]
    fn a_line_has_its_columns() {
        let mut stat = rustix::fs::stat("/").unwrap();
        stat.st_mode = 0o100_640;
        (stat.st_nlink, stat.st_uid, stat.st_gid, stat.st_size) = (1, 0, 4_000_000_000, 12);
        stat.st_mtime = 1_000_000_000;
        let mut line = b"old".to_vec();
        write(&mut line, b"n\xff", &stat, &mut Names::default(), 2_000_000_000);
        let text = String::from_utf8_lossy(&line);
        // The day depends on where we are.
        assert!(text.starts_with("-rw-r-----    1 root     4000000000       12 Sep  "), "{text}");
        assert!(line.ends_with(b"  2001 n\xff"), "{text}");
        write(&mut line, b"n", &stat, &mut Names::default(), 1_000_000_100);
        assert_eq!(line[line.len() - 5], b':');
        write(&mut line, &[b'x'; 2000], &stat, &mut Names::default(), 0);
        assert_eq!(line.len(), MAX_LINE);
    }
}
