//! Directories: OPENDIR, READDIR, MKDIR, RMDIR.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::handles::{Handles, Open};
use super::long_name::{self, MAX_LINE};
use super::names::Names;
use super::packet::kind;
use super::path::PATH_MAX;
use super::status::{Answer, Fault, Status};
use super::wire::{Fields, Replies};

/// Permissions of a new directory if the client names none, less the mask.
const DEFAULT_MODE: u32 = 0o777;

/// Most entries in one reply: as OpenSSH.
const MAX_ENTRIES: u32 = 100;

/// More than an entry takes of a reply: two strings and attributes.
const MAX_ENTRY: usize = 4 + PATH_MAX + 4 + MAX_LINE + 64;

pub(super) fn open(
    handles: &mut Handles,
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let path = fields.text()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = Dir::new(rustix::fs::open(path, flags, Mode::empty())?)?;
    let handle = handles.insert(Open::Directory(directory))?;
    replies.handle(id, handle);
    Ok(Answer::Composed)
}

pub(super) fn read(
    handles: &mut Handles,
    names: &mut Names,
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let directory = handles.directory(fields.string()?).ok_or(Status::Failure)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut line = Vec::new();
    let mut count = 0;
    replies.begin(kind::NAME, id);
    let place = replies.u32_to_come();
    while count < MAX_ENTRIES && replies.has_room(MAX_ENTRY) {
        // A directory that can't be read further ends: as readdir(3) in OpenSSH.
        let Some(Ok(entry)) = directory.read() else { break };
        let name = entry.file_name();
        // An entry that is gone by now, or can't be looked at, is left out.
        let Ok(stat) = stat_in(directory, name) else { continue };
        long_name::write(&mut line, name.to_bytes(), &stat, names, now as i64);
        replies.string(name.to_bytes());
        replies.string(&line);
        attributes::put(replies, &stat);
        count += 1;
    }
    if count == 0 {
        return Err(Status::Eof.into());
    }
    replies.set_u32(place, count);
    replies.finish();
    Ok(Answer::Composed)
}

pub(super) fn make(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let path = fields.text()?;
    let mode = Attributes::take(fields)?.mode_or(DEFAULT_MODE);
    rustix::fs::mkdir(path, mode)?;
    Ok(Answer::Done)
}

pub(super) fn remove(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    rustix::fs::rmdir(fields.text()?)?;
    Ok(Answer::Done)
}

fn stat_in(directory: &Dir, name: &std::ffi::CStr) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(directory.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)
}
