//! The answer to a request that has no other: a status.

use rustix::io::Errno;

use super::packet::Malformed;

/// Status codes, section 7, as far as OpenSSH sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    /// OpenSSH's words for it.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Status::Ok => "Success",
            Status::Eof => "End of file",
            Status::NoSuchFile => "No such file",
            Status::PermissionDenied => "Permission denied",
            Status::Failure => "Failure",
            Status::BadMessage => "Bad message",
            Status::Unsupported => "Operation unsupported",
        }
    }
}

impl From<Errno> for Status {
    /// OpenSSH's translation.
    fn from(error: Errno) -> Status {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => Status::NoSuchFile,
            Errno::PERM | Errno::ACCESS | Errno::FAULT => Status::PermissionDenied,
            Errno::NAMETOOLONG | Errno::INVAL => Status::BadMessage,
            Errno::NOSYS => Status::Unsupported,
            _ => Status::Failure,
        }
    }
}

/// How a request that did not fail was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done, and is answered with [`Status::Ok`].
    Done,
    /// The reply is composed.
    Composed,
    /// There is no reply.
    Silence,
}

/// Why a request was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with a status and this text.
    Refused(Status, &'static str),
    /// It is no request. The server ends.
    Malformed,
}

impl From<Status> for Fault {
    fn from(status: Status) -> Fault {
        Fault::Refused(status, status.message())
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Fault {
        Status::from(error).into()
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Fault {
        Fault::Malformed
    }
}
