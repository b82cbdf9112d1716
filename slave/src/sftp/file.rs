//! Open files: OPEN, CLOSE, READ, WRITE, FSTAT, FSETSTAT.
//!
//! The place is set and then read from or written to, in two calls. One call would do for most
//! files, but there are some in `/proc` and `/dev` that only know the two.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::retry_on_intr;

use super::attributes::{Attributes, Target};
use super::handles::Open;
use super::packet::open;
use super::server::Server;
use super::status::{Answer, Fault, Status};
use super::sys;
use super::wire::Fields;

/// Permissions of a new file for which the client names none, less the mask.
const DEFAULT_MODE: u32 = 0o666;

impl Server {
    pub(crate) fn open(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let path = fields.text()?;
        let flags = fields.u32()?;
        let attributes = Attributes::take(fields)?;
        // We lead a session without a terminal: one that is opened must not become ours.
        let how = open_flags(flags) | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, how, attributes.mode_or(DEFAULT_MODE))?;
        let append = flags & open::APPEND != 0;
        let handle = self.handles.insert(Open::File { file: File::from(file), append })?;
        self.replies.handle(id, handle);
        Ok(Answer::Composed)
    }

    pub(crate) fn close(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        match self.handles.remove(fields.string()?) {
            Some(Open::File { file, .. }) => sys::close(file)?,
            Some(Open::Directory(_)) => {}
            None => return Err(Status::NoSuchFile.into()),
        }
        Ok(Answer::Done)
    }

    pub(crate) fn read(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let handle = fields.string()?;
        let offset = fields.u64()?;
        let len = fields.u32()? as usize;
        let (file, _) = self.handles.file(handle).ok_or(Status::Failure)?;
        self.replies.data(id, len, |place| {
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

    pub(crate) fn write(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let handle = fields.string()?;
        let offset = fields.u64()?;
        let data = fields.string()?;
        let (file, append) = self.handles.file(handle).ok_or(Status::Failure)?;
        if !append {
            rustix::fs::seek(file, SeekFrom::Start(offset))?;
        }
        let written = retry_on_intr(|| rustix::io::write(file, data))?;
        if written == data.len() { Ok(Answer::Done) } else { Err(Status::Failure.into()) }
    }

    pub(crate) fn fstat(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let (file, _) = self.handles.file(fields.string()?).ok_or(Status::Failure)?;
        let stat = rustix::fs::fstat(file)?;
        Ok(self.attributes(id, &stat))
    }

    pub(crate) fn fsetstat(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let handle = fields.string()?;
        let attributes = Attributes::take(fields)?;
        let (file, _) = self.handles.file(handle).ok_or(Status::Failure)?;
        attributes.apply(Target::File(file.as_fd()))?;
        Ok(Answer::Done)
    }
}

/// The flags of open(2) for those of OPEN.
fn open_flags(flags: u32) -> OFlags {
    let has = |flag| flags & flag != 0;
    let access = match (has(open::READ), has(open::WRITE)) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        // Reading, where neither is asked for: as OpenSSH.
        _ => OFlags::RDONLY,
    };
    let others = [
        (open::APPEND, OFlags::APPEND),
        (open::CREATE, OFlags::CREATE),
        (open::TRUNCATE, OFlags::TRUNC),
        (open::EXCLUSIVE, OFlags::EXCL),
    ];
    others.into_iter().filter(|(flag, _)| has(*flag)).fold(access, |all, (_, flag)| all | flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_translated_as_openssh_does() {
        assert_eq!(open_flags(0), OFlags::RDONLY);
        assert_eq!(open_flags(open::READ | open::WRITE), OFlags::RDWR);
        assert_eq!(
            open_flags(open::WRITE | open::CREATE | open::TRUNCATE | open::EXCLUSIVE | 0x8000),
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::EXCL
        );
        assert_eq!(open_flags(open::WRITE | open::APPEND), OFlags::WRONLY | OFlags::APPEND);
    }
}
