//! Open files: OPEN, CLOSE, READ, WRITE, FSTAT, FSETSTAT.
//!
//! A read or a write sets the file's position first, with a call of its own. One call would do for
//! most files, but some files in `/proc` and `/dev` know only the two.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::retry_on_intr;

use super::attributes::{self, Attributes, Target};
use super::handles::{Handles, Open};
use super::packet::open as flag;
use super::status::{Answer, Fault, Status};
use super::sys;
use super::wire::{Fields, Replies};

/// Permissions of a new file if the client names none, less the mask.
const DEFAULT_MODE: u32 = 0o666;

pub(super) fn open(
    handles: &mut Handles,
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let path = fields.text()?;
    let flags = fields.u32()?;
    let attributes = Attributes::take(fields)?;
    // We lead a session without a terminal: a terminal that is opened must not become ours.
    let how = open_flags(flags) | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, how, attributes.mode_or(DEFAULT_MODE))?;
    let append = flags & flag::APPEND != 0;
    let handle = handles.insert(Open::File { file: File::from(file), append })?;
    replies.handle(id, handle);
    Ok(Answer::Composed)
}

pub(super) fn close(handles: &mut Handles, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    match handles.remove(fields.string()?) {
        Some(Open::File { file, .. }) => sys::close(file)?,
        Some(Open::Directory(_)) => {}
        None => return Err(Status::NoSuchFile.into()),
    }
    Ok(Answer::Done)
}

pub(super) fn read(
    handles: &mut Handles,
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let handle = fields.string()?;
    let offset = fields.u64()?;
    let len = fields.u32()? as usize;
    let (file, _) = handles.file(handle).ok_or(Status::Failure)?;
    replies.data(id, len, |place| {
        rustix::fs::seek(file, SeekFrom::Start(offset))?;
        if place.is_empty() {
            return Ok(0);
        }
        match retry_on_intr(|| rustix::io::read(file, &mut *place))? {
            0 => Err(Fault::from(Status::Eof)),
            len => Ok(len),
        }
    })?;
    Ok(Answer::Composed)
}

pub(super) fn write(handles: &mut Handles, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let handle = fields.string()?;
    let offset = fields.u64()?;
    let data = fields.string()?;
    let (file, append) = handles.file(handle).ok_or(Status::Failure)?;
    if !append {
        rustix::fs::seek(file, SeekFrom::Start(offset))?;
    }
    let written = retry_on_intr(|| rustix::io::write(file, data))?;
    if written == data.len() { Ok(Answer::Done) } else { Err(Status::Failure.into()) }
}

pub(super) fn fstat(
    handles: &mut Handles,
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let (file, _) = handles.file(fields.string()?).ok_or(Status::Failure)?;
    let stat = rustix::fs::fstat(file)?;
    Ok(attributes::reply(replies, id, &stat))
}

pub(super) fn fsetstat(handles: &mut Handles, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let handle = fields.string()?;
    let attributes = Attributes::take(fields)?;
    let (file, _) = handles.file(handle).ok_or(Status::Failure)?;
    attributes.apply(Target::File(file.as_fd()))?;
    Ok(Answer::Done)
}

/// The flags of open(2) for those of OPEN.
fn open_flags(flags: u32) -> OFlags {
    let has = |bit| flags & bit != 0;
    let access = match (has(flag::READ), has(flag::WRITE)) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        // Reading, if neither is asked for: as OpenSSH.
        _ => OFlags::RDONLY,
    };
    let others = [
        (flag::APPEND, OFlags::APPEND),
        (flag::CREATE, OFlags::CREATE),
        (flag::TRUNCATE, OFlags::TRUNC),
        (flag::EXCLUSIVE, OFlags::EXCL),
    ];
    others.into_iter().filter(|(bit, _)| has(*bit)).fold(access, |all, (_, how)| all | how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_translated_as_openssh_does() {
        assert_eq!(open_flags(0), OFlags::RDONLY);
        assert_eq!(open_flags(flag::READ | flag::WRITE), OFlags::RDWR);
        assert_eq!(
            open_flags(flag::WRITE | flag::CREATE | flag::TRUNCATE | flag::EXCLUSIVE | 0x8000),
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::EXCL
        );
        assert_eq!(open_flags(flag::WRITE | flag::APPEND), OFlags::WRONLY | OFlags::APPEND);
    }
}
