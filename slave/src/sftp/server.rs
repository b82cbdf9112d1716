//! One client's session, and which module does which request.

use super::handles::Handles;
use super::names::Names;
use super::packet::{EXTENSIONS, Malformed, VERSION, kind};
use super::status::{Answer, Fault, Status};
use super::wire::{Fields, Replies};
use super::{directory, entry, extension, file};

/// One client's server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The account's home directory.
    home: Vec<u8>,
    handles: Handles,
    names: Names,
    pub(crate) replies: Replies,
    /// The client's version. `None` before it has said it.
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
    /// If it is no packet of this protocol; nothing after it can be trusted.
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
        for (name, version) in EXTENSIONS {
            self.replies.string(name.as_bytes());
            self.replies.string(version.as_bytes());
        }
        self.replies.finish();
    }

    fn perform(&mut self, kind: u8, id: u32, fields: &mut Fields<'_>) -> Result<Answer, Fault> {
        let Server { home, handles, names, replies, .. } = self;
        match kind {
            kind::OPEN => file::open(handles, replies, id, fields),
            kind::CLOSE => file::close(handles, fields),
            kind::READ => file::read(handles, replies, id, fields),
            kind::WRITE => file::write(handles, fields),
            kind::LSTAT => entry::lstat(replies, id, fields),
            kind::FSTAT => file::fstat(handles, replies, id, fields),
            kind::SETSTAT => entry::setstat(fields),
            kind::FSETSTAT => file::fsetstat(handles, fields),
            kind::OPENDIR => directory::open(handles, replies, id, fields),
            kind::READDIR => directory::read(handles, names, replies, id, fields),
            kind::REMOVE => entry::remove(fields),
            kind::MKDIR => directory::make(fields),
            kind::RMDIR => directory::remove(fields),
            kind::REALPATH => entry::realpath(replies, id, fields),
            kind::STAT => entry::stat(replies, id, fields),
            kind::RENAME => entry::rename(fields),
            kind::READLINK => entry::readlink(replies, id, fields),
            kind::SYMLINK => entry::symlink(fields),
            kind::EXTENDED => extension::perform(handles, names, home, replies, id, fields),
            // As OpenSSH, which says nothing.
            _ => Ok(Answer::Silence),
        }
    }
}
