//! What there is to a session, and which request is done where.

use super::extension;
use super::handles::Handles;
use super::names::Names;
use super::packet::{VERSION, kind};
use super::status::{Answer, Fault, Status};
use super::wire::{Fields, Malformed, Replies};

/// One client's server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The account's home directory.
    pub(crate) home: Vec<u8>,
    pub(crate) handles: Handles,
    pub(crate) names: Names,
    pub(crate) replies: Replies,
    /// Of the client. `None` before it has said so.
    version: Option<u32>,
}

impl Server {
    /// A server for an account with this home directory. Relative paths begin in our working
    /// directory.
    pub(crate) fn new(home: Vec<u8>) -> Server {
        Server {
            home,
            handles: Handles::new(),
            names: Names::default(),
            replies: Replies::new(),
            version: None,
        }
    }

    /// Does what a packet asks for. The reply waits in `replies`.
    ///
    /// # Errors
    /// Where it is no packet of this protocol; nothing behind it can be trusted.
    pub(crate) fn answer(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::new(packet);
        let kind = fields.u8()?;
        if kind == kind::INIT {
            self.version = Some(fields.u32()?);
            self.introduce();
            return Ok(());
        }
        let version = self.version.ok_or(Malformed)?;
        let id = fields.u32()?;
        let (status, message) = match self.perform(kind, id, &mut fields) {
            Ok(Answer::Done) => (Status::Ok, Status::Ok.message()),
            Ok(Answer::Composed | Answer::Silence) => return Ok(()),
            Err(Fault::Refused(status, message)) => (status, message),
            Err(Fault::Malformed) => return Err(Malformed),
        };
        self.replies.status(id, status, (version >= VERSION).then_some(message));
        Ok(())
    }

    /// Says which version and extensions we speak.
    fn introduce(&mut self) {
        self.replies.begin_without_id(kind::VERSION);
        self.replies.u32(VERSION);
        for (name, version) in extension::ALL {
            self.replies.string(name.as_bytes());
            self.replies.string(version.as_bytes());
        }
        self.replies.finish();
    }

    fn perform(&mut self, kind: u8, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        match kind {
            kind::OPEN => self.open(id, fields),
            kind::CLOSE => self.close(fields),
            kind::READ => self.read(id, fields),
            kind::WRITE => self.write(fields),
            kind::LSTAT => self.lstat(id, fields),
            kind::FSTAT => self.fstat(id, fields),
            kind::SETSTAT => self.setstat(fields),
            kind::FSETSTAT => self.fsetstat(fields),
            kind::OPENDIR => self.opendir(id, fields),
            kind::READDIR => self.readdir(id, fields),
            kind::REMOVE => self.remove(fields),
            kind::MKDIR => self.mkdir(fields),
            kind::RMDIR => self.rmdir(fields),
            kind::REALPATH => self.realpath(id, fields),
            kind::STAT => self.stat(id, fields),
            kind::RENAME => self.rename(fields),
            kind::READLINK => self.readlink(id, fields),
            kind::SYMLINK => self.symlink(fields),
            kind::EXTENDED => self.extended(id, fields),
            // As OpenSSH, which says nothing.
            _ => Ok(Answer::Silence),
        }
    }
}
