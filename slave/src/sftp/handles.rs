//! Files and directories that the client has open, by its handles.

use std::fs::File;

use rustix::fs::Dir;
use rustix::io::Errno;
use rustix::process::Resource;

/// Most handles at once, whatever the limit of descriptors: a directory's takes up to 24 KiB.
const MAX_HANDLES: u64 = 4096;

/// Descriptors that stay free: standard input, output and error, and two to work with.
const SPARE: u64 = 5;

/// Something open.
#[derive(Debug)]
pub(crate) enum Open {
    /// A file, and whether all writes go to its end.
    File {
        /// The file.
        file: File,
        /// Whether it was opened with APPEND.
        append: bool,
    },
    /// A directory, and how far it was read.
    Directory(Dir),
}

/// All handles. A handle is sent as a number of four bytes.
#[derive(Debug)]
pub(crate) struct Handles {
    slots: Vec<Option<Open>>,
    free: Vec<u32>,
    limit: u64,
}

impl Handles {
    /// As many as the limit of descriptors allows.
    pub(crate) fn new() -> Handles {
        let descriptors = rustix::process::getrlimit(Resource::Nofile).current;
        let limit = descriptors.unwrap_or(u64::MAX).saturating_sub(SPARE).min(MAX_HANDLES);
        Handles { slots: Vec::new(), free: Vec::new(), limit }
    }

    /// How many there may be.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Gives a number to something that was opened.
    ///
    /// # Errors
    /// [`Errno::MFILE`] if there are too many; it is closed then.
    pub(crate) fn insert(&mut self, open: Open) -> Result<u32, Errno> {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = Some(open);
            return Ok(number);
        }
        if self.slots.len() as u64 >= self.limit {
            return Err(Errno::MFILE);
        }
        self.slots.push(Some(open));
        Ok((self.slots.len() - 1) as u32)
    }

    fn get(&mut self, handle: &[u8]) -> Option<&mut Option<Open>> {
        let number = u32::from_be_bytes(handle.try_into().ok()?);
        self.slots.get_mut(number as usize)
    }

    /// The file of a handle, and whether writes go to its end. `None` if it is no file's.
    pub(crate) fn file(&mut self, handle: &[u8]) -> Option<(&File, bool)> {
        match self.get(handle)? {
            Some(Open::File { file, append }) => Some((file, *append)),
            _ => None,
        }
    }

    /// Two files at once.
    pub(crate) fn files(&self, one: &[u8], other: &[u8]) -> Option<[(&File, bool); 2]> {
        let file = |handle: &[u8]| {
            let number = u32::from_be_bytes(handle.try_into().ok()?);
            match self.slots.get(number as usize)? {
                Some(Open::File { file, append }) => Some((file, *append)),
                _ => None,
            }
        };
        Some([file(one)?, file(other)?])
    }

    /// The directory of a handle. `None` if it is no directory's.
    pub(crate) fn directory(&mut self, handle: &[u8]) -> Option<&mut Dir> {
        match self.get(handle)? {
            Some(Open::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    /// Takes a handle out; its number is free.
    pub(crate) fn remove(&mut self, handle: &[u8]) -> Option<Open> {
        let open = self.get(handle)?.take()?;
        let number = u32::from_be_bytes(handle.try_into().ok()?);
        self.free.push(number);
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open::File { file: File::open("/dev/null").unwrap(), append: false }
    }

    #[test]
    fn numbers_are_used_again_and_limited() {
        let mut handles = Handles { slots: Vec::new(), free: Vec::new(), limit: 2 };
        assert_eq!((handles.insert(open()), handles.insert(open())), (Ok(0), Ok(1)));
        assert_eq!(handles.insert(open()), Err(Errno::MFILE));
        assert!(handles.remove(&[0, 0, 0, 0]).is_some());
        assert!(handles.remove(&[0, 0, 0, 0]).is_none());
        assert_eq!(handles.insert(open()), Ok(0));
    }

    #[test]
    fn what_is_no_handle_finds_nothing() {
        let mut handles = Handles::new();
        handles.insert(open()).unwrap();
        for wrong in [&b""[..], &[0], &[0, 0, 0, 1], &[0xff; 4], &[0; 5], &[0; 300]] {
            assert!(handles.file(wrong).is_none() && handles.remove(wrong).is_none());
        }
        assert!(handles.directory(&[0; 4]).is_none());
        assert!(handles.file(&[0; 4]).is_some());
    }
}
