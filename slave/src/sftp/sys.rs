//! The C library's calls that the compiler can't check: local time, and closing with an error.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;

use rustix::io::Errno;

/// A local time, as far as `ls -l` shows it.
#[derive(Debug)]
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    /// From 0.
    pub(crate) month: usize,
    pub(crate) day: c_int,
    pub(crate) hour: c_int,
    pub(crate) minute: c_int,
}

/// The local time of so many seconds since 1970 (`TZ`, else `/etc/localtime`). `None` if the C
/// library can't tell.
pub(crate) fn local_time(seconds: i64) -> Option<LocalTime> {
    // `time_t` has 32 bits on some targets.
    #[allow(clippy::useless_conversion)]
    let time = seconds.try_into().ok()?;
    let mut tm = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both point to what the call expects, and this process has one thread that could
    // change the environment. The call returns null, or a pointer to `tm`, which it has filled.
    let tm = unsafe { libc::localtime_r(&raw const time, tm.as_mut_ptr()).as_ref() }?;
    Some(LocalTime {
        year: i64::from(tm.tm_year) + 1900,
        month: usize::try_from(tm.tm_mon).unwrap_or(usize::MAX),
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
    })
}

/// Closes a file and says what dropping it would not: some file systems tell only here that what
/// was written is lost (close(2)).
pub(crate) fn close(file: File) -> Result<(), Errno> {
    // SAFETY: the descriptor was the file's alone, which has given it up.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Sets variables of this process.
pub(crate) fn set_variables(variables: &[(&std::ffi::OsStr, &std::ffi::OsStr)]) {
    for (name, value) in variables {
        // SAFETY: called in a process that has just been forked and has one thread.
        unsafe { std::env::set_var(name, value) };
    }
}
