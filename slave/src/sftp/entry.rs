//! What lies at a path: STAT, LSTAT, SETSTAT, REMOVE, RENAME, links, REALPATH.

use rustix::fs::FileType;
use rustix::io::Errno;

use super::attributes::{self, Attributes, Target};
use super::packet::kind;
use super::path;
use super::server::Server;
use super::status::{Answer, Fault, Status};
use super::wire::Fields;

impl Server {
    pub(crate) fn stat(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let stat = rustix::fs::stat(fields.text()?)?;
        Ok(self.attributes(id, &stat))
    }

    pub(crate) fn lstat(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let stat = rustix::fs::lstat(fields.text()?)?;
        Ok(self.attributes(id, &stat))
    }

    /// An ATTRS.
    pub(crate) fn attributes(&mut self, id: u32, stat: &rustix::fs::Stat) -> Answer {
        self.replies.begin(kind::ATTRS, id);
        attributes::put(&mut self.replies, stat);
        self.replies.finish();
        Answer::Composed
    }

    pub(crate) fn setstat(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let path = fields.text()?;
        Attributes::take(fields)?.apply(Target::Path(path))?;
        Ok(Answer::Done)
    }

    pub(crate) fn remove(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        rustix::fs::unlink(fields.text()?)?;
        Ok(Answer::Done)
    }

    pub(crate) fn rename(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let (old, new) = (fields.text()?, fields.text()?);
        rename_to_new(old, new)?;
        Ok(Answer::Done)
    }

    pub(crate) fn realpath(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let path = match fields.text()? {
            b"" => b".",
            path => path,
        };
        self.replies.name(id, &path::resolve(path)?);
        Ok(Answer::Composed)
    }

    pub(crate) fn readlink(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let target = rustix::fs::readlink(fields.text()?, Vec::new())?;
        self.replies.name(id, target.as_bytes());
        Ok(Answer::Composed)
    }

    /// The draft has the link's own path first. OpenSSH has it second, and all clients follow.
    pub(crate) fn symlink(&mut self, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let (target, link) = (fields.text()?, fields.text()?);
        rustix::fs::symlink(target, link)?;
        Ok(Answer::Done)
    }
}

/// Renames, unless there is something of the new name: version 3 never replaces. For a file this
/// is done with no moment in between, by a link.
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
            // No hard links here.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if rustix::fs::stat(new).is_ok() {
        return Err(Status::Failure);
    }
    Ok(rustix::fs::rename(old, new)?)
}
