//! OpenSSH's extensions (its PROTOCOL file, section 4; copy-data and home-directory from
//! draft-ietf-secsh-filexfer-extensions-00).

use rustix::fs::{StatVfs, StatVfsMountFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Target};
use super::copy::{self, Reached};
use super::handles::Handles;
use super::names::{self, Names};
use super::packet::{MAX_DATA, MAX_PACKET, kind};
use super::path;
use super::status::{Answer, Fault, Status};
use super::wire::{Fields, Replies};

/// Flags of a file system, section 4.4.
const READ_ONLY: u64 = 0x1;
const NO_SETUID: u64 = 0x2;

/// Does what an EXTENDED asks for. `home` is the account's home directory.
pub(super) fn perform(
    handles: &mut Handles,
    names: &mut Names,
    home: &[u8],
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    match fields.text()? {
        b"posix-rename@openssh.com" => {
            let (old, new) = (fields.text()?, fields.text()?);
            rustix::fs::rename(old, new)?;
            Ok(Answer::Done)
        }
        b"hardlink@openssh.com" => {
            let (old, new) = (fields.text()?, fields.text()?);
            rustix::fs::link(old, new)?;
            Ok(Answer::Done)
        }
        b"statvfs@openssh.com" => {
            let answer = rustix::fs::statvfs(fields.text()?)?;
            Ok(file_system(replies, id, &answer))
        }
        b"fstatvfs@openssh.com" => {
            let (file, _) = handles.file(fields.string()?).ok_or(Status::Failure)?;
            let answer = rustix::fs::fstatvfs(file)?;
            Ok(file_system(replies, id, &answer))
        }
        b"fsync@openssh.com" => {
            let (file, _) = handles.file(fields.string()?).ok_or(Status::NoSuchFile)?;
            rustix::fs::fsync(file)?;
            Ok(Answer::Done)
        }
        b"lsetstat@openssh.com" => lsetstat(fields),
        b"limits@openssh.com" => Ok(limits(replies, id, handles.limit())),
        b"expand-path@openssh.com" => expand_path(replies, id, fields),
        b"copy-data" => copy_data(handles, fields),
        b"home-directory" => home_directory(home, replies, id, fields),
        b"users-groups-by-id@openssh.com" => users_groups_by_id(names, replies, id, fields),
        _ => Err(Status::Unsupported.into()),
    }
}

fn file_system(replies: &mut Replies, id: u32, answer: &StatVfs) -> Answer {
    let flag = |flag, number| if answer.f_flag.contains(flag) { number } else { 0 };
    let flags =
        flag(StatVfsMountFlags::RDONLY, READ_ONLY) | flag(StatVfsMountFlags::NOSUID, NO_SETUID);
    replies.begin(kind::EXTENDED_REPLY, id);
    for number in [
        answer.f_bsize,
        answer.f_frsize,
        answer.f_blocks,
        answer.f_bfree,
        answer.f_bavail,
        answer.f_files,
        answer.f_ffree,
        answer.f_favail,
        answer.f_fsid,
        flags,
        answer.f_namemax,
    ] {
        replies.u64(number);
    }
    replies.finish();
    Answer::Composed
}

fn limits(replies: &mut Replies, id: u32, open_handles: u64) -> Answer {
    replies.begin(kind::EXTENDED_REPLY, id);
    replies.u64(MAX_PACKET as u64);
    // Of a read, and of a write.
    replies.u64(MAX_DATA as u64);
    replies.u64(MAX_DATA as u64);
    replies.u64(open_handles);
    replies.finish();
    Answer::Composed
}

/// REALPATH that knows `~`: the working directory, or somebody's home directory.
fn expand_path(replies: &mut Replies, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let path = fields.text()?;
    let here = path::working_directory()?;
    let expanded = match path {
        b"" | b"~" => here,
        [b'~', b'/', rest @ ..] => join(&here, rest),
        [b'~', rest @ ..] => {
            let slash = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let (user, rest) = rest.split_at(slash);
            let home =
                names::home_of(user).ok_or(Fault::Refused(Status::NoSuchFile, "no such user"))?;
            join(&home, rest)
        }
        [b'/', ..] => path.to_vec(),
        path => join(&here, path),
    };
    replies.name(id, &path::resolve(&expanded)?);
    Ok(Answer::Composed)
}

/// Reports an error of the last 64 KiB, which OpenSSH forgets.
fn copy_data(handles: &mut Handles, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let (from, from_offset, len) = (fields.string()?, fields.u64()?, fields.u64()?);
    let (to, to_offset) = (fields.string()?, fields.u64()?);
    let [(from, _), (to, append)] = handles.files(from, to).ok_or(Errno::BADF)?;
    let (stat, other) = (rustix::fs::fstat(from)?, rustix::fs::fstat(to)?);
    if (stat.st_dev, stat.st_ino) == (other.st_dev, other.st_ino) {
        return Err(Status::Failure.into());
    }
    let to_offset = (!append).then_some(to_offset);
    // Length 0 means all there is.
    let all = if len == 0 { u64::MAX } else { len };
    match copy::copy(from, from_offset, to, to_offset, all)? {
        Reached::End if len != 0 => Err(Status::Eof.into()),
        Reached::End | Reached::Length => Ok(Answer::Done),
    }
}

fn home_directory(
    home: &[u8],
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    match fields.text()? {
        b"" => replies.name(id, home),
        user => {
            let home = names::home_of(user).ok_or(Status::Failure)?;
            replies.name(id, &home);
        }
    }
    Ok(Answer::Composed)
}

fn users_groups_by_id(
    names: &mut Names,
    replies: &mut Replies,
    id: u32,
    fields: &mut Fields<'_>,
) -> Result<Answer, Fault> {
    let (mut users, mut groups) = (Fields::new(fields.string()?), Fields::new(fields.string()?));
    let (mut user_names, mut group_names) = (Vec::new(), Vec::new());
    while !users.is_empty() {
        put_name(&mut user_names, names.user(users.u32()?));
    }
    while !groups.is_empty() {
        put_name(&mut group_names, names.group(groups.u32()?));
    }
    replies.begin(kind::EXTENDED_REPLY, id);
    if !replies.has_room(4 + user_names.len() + 4 + group_names.len()) {
        // No client takes so long a packet.
        return Err(Status::Failure.into());
    }
    replies.string(&user_names);
    replies.string(&group_names);
    replies.finish();
    Ok(Answer::Composed)
}

/// SETSTAT of a symbolic link itself, which has no size to set.
fn lsetstat(fields: &mut Fields<'_>) -> Result<Answer, Fault> {
    let path = fields.text()?;
    let attributes = Attributes::take(fields)?;
    if attributes.size.is_some() {
        return Err(Status::BadMessage.into());
    }
    attributes.apply(Target::Link(path))?;
    Ok(Answer::Done)
}

/// A name as a string of the protocol; an empty one if there is no name.
fn put_name(names: &mut Vec<u8>, name: Option<&[u8]>) {
    let name = name.unwrap_or_default();
    names.extend((name.len() as u32).to_be_bytes());
    names.extend(name);
}

fn join(directory: &[u8], rest: &[u8]) -> Vec<u8> {
    [directory, b"/", rest].concat()
}
