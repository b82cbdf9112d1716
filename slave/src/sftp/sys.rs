//! The C library's calls that the compiler can't check: local time, and closing with an error.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_long};
use std::fs::File;
use std::os::fd::IntoRawFd;

use rustix::io::Errno;

/// `struct tm` of time.h, the same in the C libraries of Linux.
#[repr(C)]
struct Tm {
    second: c_int,
    minute: c_int,
    hour: c_int,
    day: c_int,
    month: c_int,
    year: c_int,
    weekday: c_int,
    yearday: c_int,
    is_dst: c_int,
    offset: c_long,
    zone: *const c_char,
}

unsafe extern "C" {
    /// localtime_r(3). `time_t` is a `long` under this name, also where there is a longer one.
    fn localtime_r(time: *const c_long, result: *mut Tm) -> *mut Tm;

    /// close(2).
    #[link_name = "close"]
    fn c_close(fd: c_int) -> c_int;
}

/// A time where we are, as far as `ls -l` shows it.
#[derive(Debug)]
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    /// From 0.
    pub(crate) month: usize,
    pub(crate) day: c_int,
    pub(crate) hour: c_int,
    pub(crate) minute: c_int,
}

/// The local time of so many seconds since 1970 (`TZ`, else `/etc/localtime`). `None` where the C
/// library can't tell.
pub(crate) fn local_time(seconds: i64) -> Option<LocalTime> {
    let time = c_long::try_from(seconds).ok()?;
    let mut tm = Tm {
        second: 0,
        minute: 0,
        hour: 0,
        day: 0,
        month: 0,
        year: 0,
        weekday: 0,
        yearday: 0,
        is_dst: 0,
        offset: 0,
        zone: std::ptr::null(),
    };
    // SAFETY: both point to what the call expects, and this process has one thread that could
    // change the environment.
    let told = unsafe { localtime_r(&raw const time, &raw mut tm) };
    (!told.is_null()).then(|| LocalTime {
        year: i64::from(tm.year) + 1900,
        month: usize::try_from(tm.month).unwrap_or(usize::MAX),
        day: tm.day,
        hour: tm.hour,
        minute: tm.minute,
    })
}

/// Closes a file and says what dropping it would not: some file systems tell only here that what
/// was written is lost (close(2)).
pub(crate) fn close(file: File) -> Result<(), Errno> {
    // SAFETY: the descriptor was the file's alone, which has given it up.
    match unsafe { c_close(file.into_raw_fd()) } {
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
