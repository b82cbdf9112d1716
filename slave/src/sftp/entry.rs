//! Requests that name a path: STAT, LSTAT, SETSTAT, REMOVE, RENAME, links, REALPATH.

use rustix::fs::FileType;
use rustix::io::Errno;

use super::attributes::{self, Attributes, Target};
use super::path;
use super::status::{Answer, Fault, Status};
use super::wire::{Fields, Replies};

pub(super) fn stat(
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let stat = rustix::fs::stat(fields.text()?)?;
    Ok(attributes::reply(replies, id, &stat))
}

pub(super) fn lstat(
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let stat = rustix::fs::lstat(fields.text()?)?;
    Ok(attributes::reply(replies, id, &stat))
}

pub(super) fn setstat(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let path = fields.text()?;
    Attributes::take(fields)?.apply(Target::Path(path))?;
    Ok(Answer::Done)
}

pub(super) fn remove(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    rustix::fs::unlink(fields.text()?)?;
    Ok(Answer::Done)
}

pub(super) fn rename(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let (old, new) = (fields.text()?, fields.text()?);
    rename_to_new(old, new)?;
    Ok(Answer::Done)
}

pub(super) fn realpath(
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let path = match fields.text()? {
        b"" => b".",
        path => path,
    };
    replies.name(id, &path::resolve(path)?);
    Ok(Answer::Composed)
}

pub(super) fn readlink(
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let target = rustix::fs::readlink(fields.text()?, Vec::new())?;
    replies.name(id, target.as_bytes());
    Ok(Answer::Composed)
}

/// The draft has the link's own path first. OpenSSH has it second, and all clients follow.
pub(super) fn symlink(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let (target, link) = (fields.text()?, fields.text()?);
    rustix::fs::symlink(target, link)?;
    Ok(Answer::Done)
}

/// Renames, unless the new name is taken: version 3 never replaces. A file is renamed by a link, so
/// that there is no moment in between.
fn rename_to_new(old: &[u8], new: &[u8]) -> Result<(), Status> {
    let kind = FileType::from_raw_mode(rustix::fs::lstat(old)?.st_mode);
    if kind == FileType::RegularFile {
        match rustix::fs::link(old, new) {
            Ok(()) => {
                return rustix::fs::unlink(old).map_err(|error| {
                    // The file keeps its one name.
                    let _ = rustix::fs::unlink(new);
                    error.into()
                });
            }
            // This file system has no hard links.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if rustix::fs::stat(new).is_ok() {
        return Err(Status::Failure);
    }
    Ok(rustix::fs::rename(old, new)?)
}
