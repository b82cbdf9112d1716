//! Copies from one open file to another (copy-data), by the kernel if it can: file systems
//! that share blocks copy nothing at all.

use std::fs::File;

use rustix::fs::FileType;
use rustix::io::{Errno, retry_on_intr};

/// Most bytes of one call to the kernel.
const CHUNK: u64 = 1024 * 1024 * 1024;

/// Bytes of the buffer if the kernel can't.
const BUFFER: u64 = 256 * 1024;

/// Why a copy is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// All bytes that were asked for.
    Length,
    /// The end of the file, before that.
    End,
}

/// Copies `len` bytes, or all there are. `to_offset` is `None` if all writes go to the end.
///
/// # Errors
/// What reading or writing failed with. Part of it may be copied then.
pub(crate) fn copy(
    from: &File,
    from_offset: u64,
    to: &File,
    to_offset: Option<u64>,
    len: u64,
) -> Result<Reached, Errno> {
    let mut done = 0;
    if let Some(to_offset) = to_offset
        && is_regular(from)?
        && is_regular(to)?
    {
        done = copy_in_kernel(from, from_offset, to, to_offset, len);
    }
    let mut buffer = vec![0; BUFFER as usize];
    while done < len {
        let want = (len - done).min(BUFFER) as usize;
        let at = from_offset.checked_add(done).ok_or(Errno::INVAL)?;
        let read = retry_on_intr(|| rustix::io::pread(from, &mut buffer[..want], at))?;
        if read == 0 {
            return Ok(Reached::End);
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let written = retry_on_intr(|| match to_offset {
                Some(offset) => {
                    let at = offset.checked_add(done).ok_or(Errno::INVAL)?;
                    rustix::io::pwrite(to, rest, at)
                }
                None => rustix::io::write(to, rest),
            })?;
            if written == 0 {
                return Err(Errno::IO);
            }
            rest = &rest[written..];
            done += written as u64;
        }
    }
    Ok(Reached::Length)
}

/// Copies as far as the kernel does. Why it stopped, plain reading and writing will find out: the
/// end of the file, a full disk, two file systems that can't do it.
fn copy_in_kernel(from: &File, mut at: u64, to: &File, mut to_at: u64, len: u64) -> u64 {
    let mut done = 0;
    while done < len {
        let want = (len - done).min(CHUNK) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), want) {
            Ok(copied) if copied > 0 => done += copied as u64,
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    done
}

fn is_regular(file: &File) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::RegularFile)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn ranges_are_copied_with_the_kernel_and_without() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let content: Vec<u8> = (0..600_000u32).map(|number| (number % 251) as u8).collect();
        fs::write(root.join("from"), &content).unwrap();
        let from = File::open(root.join("from")).unwrap();
        for (append, len, reached) in
            [(false, 500_000, Reached::Length), (true, u64::MAX, Reached::End)]
        {
            fs::write(root.join("to"), b"begin").unwrap();
            let to = fs::OpenOptions::new().append(append).write(true).open(root.join("to"));
            let offset = (!append).then_some(3);
            assert_eq!(copy(&from, 7, &to.unwrap(), offset, len), Ok(reached));
            let start: &[u8] = if append { b"begin" } else { b"beg" };
            let end = content.len().min((len as usize).saturating_add(7));
            let expected = [start, &content[7..end]].concat();
            assert!(fs::read(root.join("to")).unwrap() == expected, "append: {append}");
        }
        let zero = File::open("/dev/zero").unwrap();
        let to = File::create(root.join("to")).unwrap();
        assert_eq!(copy(&zero, 0, &to, Some(1), 300_000), Ok(Reached::Length));
        assert_eq!(to.metadata().unwrap().len(), 300_001);
        assert_eq!(copy(&from, u64::MAX, &to, Some(0), 1), Err(Errno::INVAL));
    }
}
