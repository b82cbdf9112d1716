use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Gathered, Sink, Source};

/// A test that takes longer hangs. It is no measure of speed.
const HANG: Duration = Duration::from_secs(60);

/// More than a pipe holds.
const MUCH: usize = 1_000_000;

fn set_nonblocking(fd: impl AsFd) {
    let flags = fcntl_getfl(&fd).unwrap();
    fcntl_setfl(fd, flags | OFlags::NONBLOCK).unwrap();
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 % 251) as u8).collect()
}

async fn read_all(source: &mut Source) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let read = tokio::time::timeout(HANG, source.read(32 * 1024)).await.expect("it hangs");
        match read.unwrap() {
            piece if piece.is_empty() => return all,
            piece => all.extend_from_slice(&piece),
        }
    }
}

async fn write_all(sink: &mut Sink, bytes: Vec<u8>) -> std::io::Result<()> {
    // Small pieces and large ones, more than one call takes.
    let mut rest = Bytes::from(bytes);
    let mut bytes = Gathered::default();
    for len in (1..200).chain([100_000]) {
        bytes.push(rest.split_to(len.min(rest.len())));
    }
    bytes.push(rest);
    while bytes.has_remaining() {
        tokio::time::timeout(HANG, sink.write(&mut bytes)).await.expect("it hangs")?;
    }
    Ok(())
}

/// Both sides of a new terminal, raw.
fn terminal() -> (File, File) {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let name = ptsname(&near, Vec::new()).unwrap();
    let path = std::path::Path::new(name.to_str().unwrap());
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    let mut modes = rustix::termios::tcgetattr(&terminal).unwrap();
    modes.make_raw();
    let now = rustix::termios::OptionalActions::Now;
    rustix::termios::tcsetattr(&terminal, now, &modes).unwrap();
    (File::from(near), terminal)
}

#[tokio::test]
async fn a_pipe_that_cannot_be_opened_anew_passes_all_whatever_its_flags() {
    for nonblocking in [false, true] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (input, mut input_writer) = std::io::pipe().unwrap();
        if nonblocking {
            set_nonblocking(&writer);
            set_nonblocking(&input);
        }
        let before = fcntl_getfl(&writer).unwrap();
        let mut sink = Sink::shared(writer.try_clone().unwrap().into()).unwrap();
        let mut source = Source::shared(OwnedFd::from(input)).unwrap();
        let feeder = std::thread::spawn(move || input_writer.write_all(&pattern(MUCH)));
        let drainer = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let all = read_all(&mut source).await;
        assert!(all == pattern(MUCH), "read {} bytes", all.len());
        feeder.join().unwrap().unwrap();
        write_all(&mut sink, all).await.unwrap();
        assert_eq!(fcntl_getfl(&writer).unwrap(), before);
        drop((sink, writer));
        let written = drainer.join().unwrap().unwrap();
        assert!(written == pattern(MUCH), "wrote {} bytes", written.len());
    }
}

#[tokio::test]
async fn what_is_read_from_a_shared_pipe_ends_with_its_last_writer() {
    let (input, writer) = std::io::pipe().unwrap();
    let mut source = Source::shared(OwnedFd::from(input)).unwrap();
    drop(writer);
    assert!(read_all(&mut source).await.is_empty());
}

#[tokio::test]
async fn a_read_that_is_given_up_takes_nothing_from_a_shared_pipe() {
    let (mut input, mut writer) = std::io::pipe().unwrap();
    let mut source = Source::shared(input.try_clone().unwrap().into()).unwrap();
    tokio::select! {
        biased;
        _ = source.read(100) => panic!("nothing is there"),
        () = tokio::task::yield_now() => {}
    }
    drop(source);
    writer.write_all(b"for the next").unwrap();
    drop(writer);
    let mut got = String::new();
    input.read_to_string(&mut got).unwrap();
    assert_eq!(got, "for the next");
}

#[tokio::test]
async fn a_named_pipe_ends_though_its_writers_were_gone_before_it_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for written in ["", "left behind"] {
        let both = File::options().read(true).write(true).open(&path).unwrap();
        let input = File::open(&path).unwrap();
        (&both).write_all(written.as_bytes()).unwrap();
        drop(both);
        let mut source = Source::new(input.try_clone().unwrap().into()).unwrap();
        assert_eq!(read_all(&mut source).await, written.as_bytes());
    }
    // While there is one, it is waited for.
    let mut writer = File::options().read(true).write(true).open(&path).unwrap();
    let mut source = Source::new(File::open(&path).unwrap().into()).unwrap();
    tokio::select! {
        biased;
        _ = source.read(100) => panic!("nothing is there"),
        () = tokio::task::yield_now() => {}
    }
    writer.write_all(b"late").unwrap();
    drop(writer);
    assert_eq!(read_all(&mut source).await, b"late");
}

/// A thread each would be more than the blocking pool has.
#[tokio::test]
async fn many_blocked_pipes_leave_the_blocking_pool_alone() {
    // They are more descriptors than many a process may have at first.
    crate::fd_limit::tests::raised();
    let (reader, mut full): (_, PipeWriter) = std::io::pipe().unwrap();
    set_nonblocking(&full);
    while full.write(&[0; 4096]).is_ok() {}
    let (input, _writer) = std::io::pipe().unwrap();
    let waiting = (0..600).map(|_| {
        let mut source = Source::shared(input.try_clone().unwrap().into()).unwrap();
        let mut sink = Sink::shared(full.try_clone().unwrap().into()).unwrap();
        tokio::spawn(async move {
            let mut bytes = Gathered::from(Bytes::from_static(b"more"));
            tokio::select! {
                _ = source.read(1) => {}
                _ = sink.write(&mut bytes) => {}
            }
        })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    let other = tokio::task::spawn_blocking(|| ());
    tokio::time::timeout(HANG, other).await.expect("it hangs").unwrap();
    assert!(waiting.iter().all(|task| !task.is_finished()));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    drop(reader);
}

/// The same of what is no pipe, and can be waited for all the same.
#[tokio::test]
async fn a_counter_that_nobody_writes_to_holds_no_thread() {
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    let counter = rustix::event::eventfd(0, flags).unwrap();
    let mut source = Source::new(counter.try_clone().unwrap()).unwrap();
    tokio::select! {
        biased;
        _ = source.read(8) => panic!("there is nothing to read"),
        () = tokio::task::yield_now() => {}
    }
    // Its read has not been begun: whoever reads now gets what comes.
    let one = 1_u64.to_ne_bytes();
    rustix::io::write(&counter, &one).unwrap();
    assert_eq!(&source.read(8).await.unwrap()[..], one);
}

#[tokio::test]
async fn a_shared_pipe_without_a_reader_is_broken() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut sink = Sink::shared(OwnedFd::from(writer)).unwrap();
    drop(reader);
    let error = write_all(&mut sink, vec![1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_terminal_that_cannot_be_opened_anew_is_read_and_written() {
    let (mut near, terminal) = terminal();
    let mut sink = Sink::shared(terminal.try_clone().unwrap().into()).unwrap();
    let mut source = Source::shared(terminal.into()).unwrap();
    let mut screen = near.try_clone().unwrap();
    let shown = std::thread::spawn(move || {
        let mut all = vec![0; 20_000];
        screen.read_exact(&mut all).map(|()| all)
    });
    write_all(&mut sink, pattern(20_000)).await.unwrap();
    assert!(shown.join().unwrap().unwrap() == pattern(20_000));
    near.write_all(b"typed").unwrap();
    assert_eq!(source.read(100).await.unwrap(), "typed");
    drop(near);
    assert!(read_all(&mut source).await.is_empty(), "a terminal that hung up has ended");
}

/// Opened anew, the far side of a terminal would be that of another one.
#[tokio::test]
async fn the_far_side_of_a_terminal_is_used_as_it_is() {
    let (near, mut terminal) = terminal();
    let mut source = Source::new(near.into()).unwrap();
    terminal.write_all(b"shown").unwrap();
    let read = tokio::time::timeout(HANG, source.read(100)).await.expect("it hangs");
    assert_eq!(read.unwrap(), "shown");
}

#[tokio::test]
async fn an_input_that_is_not_open_for_reading_is_empty() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    for fd in [OwnedFd::from(writer), null.into()] {
        assert!(read_all(&mut Source::new(fd).unwrap()).await.is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_read_or_written_says_why() {
    let mut directory = Source::new(File::open("/").unwrap().into()).unwrap();
    let error = directory.read(1).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::IsADirectory);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = write_all(&mut Sink::new(full.into()).unwrap(), vec![1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(Sink::new(reader.into()).is_err(), "it is not open for writing");
}

#[tokio::test]
async fn a_unix_socket_whose_other_side_left_unread_bytes_behind_has_ended() {
    let (near, mut far) = UnixStream::pair().unwrap();
    (&near).write_all(b"never read").unwrap();
    far.write_all(b"last words").unwrap();
    drop(far);
    let mut source = Source::new(near.into()).unwrap();
    assert_eq!(read_all(&mut source).await, b"last words");
}

#[tokio::test]
async fn files_are_read_and_written_from_where_their_position_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, pattern(MUCH)).unwrap();
    let mut input = File::open(&path).unwrap();
    input.read_exact(&mut [0; 10]).unwrap();
    let mut source = Source::new(input.try_clone().unwrap().into()).unwrap();
    assert_eq!(source.read(7).await.unwrap(), &pattern(MUCH)[10..17]);
    let mut next = [0; 3];
    input.read_exact(&mut next).unwrap();
    assert_eq!(next, pattern(MUCH)[17..20]);
    assert!(read_all(&mut source).await == pattern(MUCH)[20..]);

    let mut output = File::create(&path).unwrap();
    output.write_all(b"before ").unwrap();
    let mut sink = Sink::new(output.try_clone().unwrap().into()).unwrap();
    write_all(&mut sink, pattern(MUCH)).await.unwrap();
    output.write_all(b" after").unwrap();
    let expected = [b"before ", &pattern(MUCH)[..], b" after"].concat();
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[tokio::test]
async fn two_streams_that_are_one_file_stand_there_in_the_order_in_which_they_came() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = File::create(&path).unwrap();
    let give = || OwnedFd::from(file.try_clone().unwrap());
    let (stdout, stderr) = Sink::pair(&mut Some(give().into()), &mut Some(give().into()));
    let (mut stdout, mut stderr) = (stdout.unwrap(), stderr.unwrap());
    let mut expected = Vec::new();
    for number in 0..200 {
        let (out, error) = (format!("out {number}\n"), format!("error {number}\n"));
        expected.extend_from_slice(out.as_bytes());
        expected.extend_from_slice(error.as_bytes());
        // Neither waits for the other.
        let piece = |text: String| Gathered::from(Bytes::from(text));
        let (mut out, mut error) = (piece(out), piece(error));
        let (out, error) = tokio::join!(stdout.write(&mut out), stderr.write(&mut error));
        out.and(error).unwrap();
    }
    assert_eq!(String::from_utf8(std::fs::read(&path).unwrap()), String::from_utf8(expected));
}

#[tokio::test]
async fn memory_devices_are_used_at_once() {
    let open = |path| File::options().read(true).write(true).open(path).unwrap();
    assert!(read_all(&mut Source::new(open("/dev/null").into()).unwrap()).await.is_empty());
    write_all(&mut Sink::new(open("/dev/null").into()).unwrap(), pattern(MUCH)).await.unwrap();
    let mut zeros = Source::new(open("/dev/zero").into()).unwrap();
    assert_eq!(zeros.read(5).await.unwrap(), &[0; 5][..]);
}

#[test]
fn no_more_pieces_are_gathered_than_a_call_writes() {
    let mut gathered = Gathered::default();
    while !gathered.is_full() {
        gathered.push(Bytes::from_static(b"x"));
    }
    let mut slices = [std::io::IoSlice::new(&[]); 64];
    assert_eq!(gathered.chunks_vectored(&mut slices), super::gathered::PIECES);
}
