//! Attributes of files: as packets carry them, and set in OpenSSH's order.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::packet::{Malformed, attribute, kind};
use super::status::{Answer, Status};
use super::wire::{Fields, Replies};

/// The permissions that can be set: those of chmod(2), the special ones included.
pub(crate) const PERMISSIONS: u32 = 0o7777;

/// Most attributes of other vendors in a packet that are skipped: as OpenSSH.
const MAX_EXTENDED: u32 = 0x10_0000;

/// An id that chown(2) takes for "leave it".
const NOBODY: u32 = u32::MAX;

/// Attributes that a client sent; each may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Bytes.
    pub(crate) size: Option<u64>,
    /// Numbers of the user and the group.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) permissions: Option<u32>,
    /// Of access and modification, in seconds since 1970.
    pub(crate) times: Option<(u32, u32)>,
}

/// Whose attributes to set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// The file that a path leads to.
    Path(&'a [u8]),
    /// The file at a path, also if it is a symbolic link.
    Link(&'a [u8]),
    /// An open file.
    File(BorrowedFd<'a>),
}

impl Attributes {
    /// Takes attributes off a packet.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Attributes, Malformed> {
        let flags = fields.u32()?;
        let has = |flag| flags & flag != 0;
        let mut attributes = Attributes::default();
        if has(attribute::SIZE) {
            attributes.size = Some(fields.u64()?);
        }
        if has(attribute::OWNER) {
            attributes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if has(attribute::PERMISSIONS) {
            attributes.permissions = Some(fields.u32()?);
        }
        if has(attribute::TIMES) {
            attributes.times = Some((fields.u32()?, fields.u32()?));
        }
        if has(attribute::EXTENDED) {
            let count = fields.u32()?;
            if count > MAX_EXTENDED {
                return Err(Malformed);
            }
            for _ in 0..count {
                fields.text()?;
                fields.string()?;
            }
        }
        Ok(attributes)
    }

    /// The permissions for a new file or directory.
    pub(crate) fn mode_or(&self, default: u32) -> Mode {
        Mode::from_raw_mode(self.permissions.unwrap_or(default) & PERMISSIONS)
    }

    /// Sets the attributes that the client sent, all that can be set.
    ///
    /// # Errors
    /// The last failure.
    pub(crate) fn apply(&self, target: Target<'_>) -> Result<(), Status> {
        let results = [
            self.size.map(|size| set_size(target, size)),
            self.permissions
                .map(|mode| set_permissions(target, Mode::from_raw_mode(mode & PERMISSIONS))),
            self.times.map(|times| set_times(target, times)),
            self.owner.map(|(user, group)| set_owner(target, user, group)),
        ];
        let failed = results.into_iter().flatten().rev().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Composes an ATTRS.
pub(crate) fn reply(replies: &mut Replies, id: u32, stat: &Stat) -> Answer {
    replies.begin(kind::ATTRS, id);
    put(replies, stat);
    replies.finish();
    Answer::Composed
}

/// Appends a file's attributes to a reply.
pub(crate) fn put(replies: &mut Replies, stat: &Stat) {
    use attribute::{OWNER, PERMISSIONS, SIZE, TIMES};
    replies.u32(SIZE | OWNER | PERMISSIONS | TIMES);
    replies.u64(stat.st_size as u64);
    replies.u32(stat.st_uid);
    replies.u32(stat.st_gid);
    replies.u32(stat.st_mode);
    // The protocol's times end in 2106. As OpenSSH, we count from the start again.
    replies.u32(stat.st_atime as u32);
    replies.u32(stat.st_mtime as u32);
}

fn set_size(target: Target<'_>, size: u64) -> Result<(), Errno> {
    match target {
        Target::File(file) => rustix::fs::ftruncate(file, size),
        Target::Path(path) => truncate(path, size),
        // The caller has refused it.
        Target::Link(_) => Err(Errno::INVAL),
    }
}

/// truncate(2), which has no safe call: nothing but a regular file is opened, for others have
/// side effects.
fn truncate(path: &[u8], size: u64) -> Result<(), Errno> {
    if i64::try_from(size).is_err() {
        return Err(Errno::INVAL);
    }
    match FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR),
        _ => return Err(Errno::INVAL),
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::ftruncate(rustix::fs::open(path, flags, Mode::empty())?, size)
}

fn set_permissions(target: Target<'_>, mode: Mode) -> Result<(), Errno> {
    match target {
        Target::File(file) => rustix::fs::fchmod(file, mode),
        Target::Path(path) => rustix::fs::chmod(path, mode),
        Target::Link(path) => set_link_permissions(path, mode),
    }
}

/// The kernel long had no call for this (fchmodat2(2) came with 6.6): what lies at the path is
/// held, so that no link can be put in its place, and changed through `/proc`.
fn set_link_permissions(path: &[u8], mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmod(fakessh_unix::reopen::path(&held), mode).map_err(|error| match error {
        Errno::NOENT => Errno::OPNOTSUPP,
        error => error,
    })
}

fn set_times(target: Target<'_>, (access, modification): (u32, u32)) -> Result<(), Errno> {
    let time = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    let times = Timestamps { last_access: time(access), last_modification: time(modification) };
    match target {
        Target::File(file) => rustix::fs::futimens(file, &times),
        Target::Path(path) => rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()),
        Target::Link(path) => rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW),
    }
}

fn set_owner(target: Target<'_>, user: u32, group: u32) -> Result<(), Errno> {
    let user = (user != NOBODY).then(|| Uid::from_raw(user));
    let group = (group != NOBODY).then(|| Gid::from_raw(group));
    match target {
        Target::File(file) => rustix::fs::fchown(file, user, group),
        Target::Path(path) => rustix::fs::chownat(CWD, path, user, group, AtFlags::empty()),
        Target::Link(path) => {
            rustix::fs::chownat(CWD, path, user, group, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_flags_name_is_taken() {
        let mut packet = 0x8000_000fu32.to_be_bytes().to_vec();
        packet.extend(9u64.to_be_bytes());
        for number in [1u32, 2, 0o100_644, 3, 4] {
            packet.extend(number.to_be_bytes());
        }
        packet.extend(b"\0\0\0\x01\0\0\0\x01t\0\0\0\x02\0\xff");
        let mut fields = Fields::new(&packet);
        let expected = Attributes {
            size: Some(9),
            owner: Some((1, 2)),
            permissions: Some(0o100_644),
            times: Some((3, 4)),
        };
        assert_eq!(Attributes::take(&mut fields), Ok(expected));
        assert!(fields.is_empty());
        for len in 0..packet.len() {
            assert_eq!(Attributes::take(&mut Fields::new(&packet[..len])), Err(Malformed));
        }
    }

    #[test]
    fn too_many_extended_ones_are_malformed() {
        let packet = b"\x80\0\0\0\0\x10\0\x01";
        assert_eq!(Attributes::take(&mut Fields::new(packet)), Err(Malformed));
    }
}
