//! The numbers of the protocol (draft-ietf-secsh-filexfer-02), and the limits of packets.

/// Most bytes of a packet, without its length: as OpenSSH.
pub(crate) const MAX_PACKET: usize = 256 * 1024;

/// Most bytes of file data in one packet: as OpenSSH, which leaves 1 KiB for the rest.
pub(crate) const MAX_DATA: usize = MAX_PACKET - 1024;

/// The version that we speak.
pub(crate) const VERSION: u32 = 3;

/// Types of packets, section 3.
pub(crate) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// Flags of OPEN, section 6.3.
pub(crate) mod open {
    pub(crate) const READ: u32 = 0x01;
    pub(crate) const WRITE: u32 = 0x02;
    pub(crate) const APPEND: u32 = 0x04;
    pub(crate) const CREATE: u32 = 0x08;
    pub(crate) const TRUNCATE: u32 = 0x10;
    pub(crate) const EXCLUSIVE: u32 = 0x20;
}

/// Which attributes are there, section 5.
pub(crate) mod attribute {
    pub(crate) const SIZE: u32 = 0x0000_0001;
    pub(crate) const OWNER: u32 = 0x0000_0002;
    pub(crate) const PERMISSIONS: u32 = 0x0000_0004;
    pub(crate) const TIMES: u32 = 0x0000_0008;
    pub(crate) const EXTENDED: u32 = 0x8000_0000;
}

/// The extensions that we have, with their versions, in the order in which OpenSSH names them.
pub(crate) const EXTENSIONS: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// A packet that ends too early, or has an impossible value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;
