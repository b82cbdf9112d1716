//! Channels: a program on the host, or a TCP connection that the host opens.
//!
//! Each channel has one task that reads and one that writes. The reading one never waits for the
//! writing one. It does wait for whoever takes what came, and the whole connection waits with it:
//! russh has one task for all channels. So what comes has to be taken at all times, and flow
//! control belongs to the link above.

use std::time::Duration;

use bytes::Bytes;
use fakessh_protocol::exit::{self, ExitStatus};
use fakessh_protocol::report::Report;
use fakessh_protocol::terminal::WindowSize;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::stream::{ByteStream, Diagnostics, INCOMING_CHUNKS, OUTGOING_CHUNKS};

use super::worth::Worth;

/// The extended data that is a program's standard error (RFC 4254 section 5.2).
pub(crate) const STDERR: u32 = 1;

/// How long after the end of its output the server may take to say how a program ended: it says
/// both in one breath, unless something else of the program lives on.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a program on the host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// It exited, or was killed by a signal.
    Exited(ExitStatus),
    /// The server did not start it.
    Refused,
    /// The channel was closed, or the connection lost, without word of the program.
    Unknown,
}

/// A program on the host that was started on a channel of its own.
///
/// Dropping `stdin` sends an end of file. `stdout` and `stderr` must both be read at all times:
/// where one is not, the whole connection waits. Dropping all three closes the channel.
#[derive(Debug)]
pub struct RemoteProgram {
    /// To its standard input.
    pub stdin: mpsc::Sender<Bytes>,
    /// From its standard output.
    pub stdout: mpsc::Receiver<Bytes>,
    /// From its standard error.
    pub stderr: mpsc::Receiver<Bytes>,
    /// How it ended; `None` while it runs. Settled when the channel is closed, which is after the
    /// last byte of output.
    pub end: watch::Receiver<Option<ProgramEnd>>,
    /// Signals to it, by number; those that SSH has no name for are dropped.
    pub signals: mpsc::Sender<u8>,
    /// Other sizes of its terminal. Of several at once the last one counts.
    pub sizes: watch::Sender<WindowSize>,
}

/// Where a program's standard error goes.
enum Stderr {
    /// There is no program.
    None,
    /// Into the reason of a failure: the program is the start of a slave.
    Kept(Diagnostics),
    Sent(mpsc::Sender<Bytes>),
    /// There is no program, but a connection whose end is to be reported here.
    Report(mpsc::Sender<Bytes>),
    /// The connection's end was reported.
    Reported,
}

/// Lines of a connection's report: that it is there, and its end.
const REPORT_LINES: usize = 2;

/// The stream of a TCP connection.
pub(super) fn connection(
    channel: Channel<Msg>,
    worth: Worth,
    alive: watch::Receiver<()>,
) -> ByteStream {
    let Pumps { outgoing, incoming, .. } = pump(channel, Stderr::None, worth, alive);
    ByteStream { incoming, outgoing, diagnostics: Diagnostics::default() }
}

/// A program's stream, with its standard error kept aside, and how it ended.
pub(super) fn byte_stream(
    channel: Channel<Msg>,
    worth: Worth,
    alive: watch::Receiver<()>,
) -> ByteStream {
    let diagnostics = Diagnostics::default();
    let stderr = Stderr::Kept(diagnostics.clone());
    let Pumps { outgoing, incoming, .. } = pump(channel, stderr, worth, alive);
    ByteStream { incoming, outgoing, diagnostics }
}

/// A channel on which a program was requested.
pub(super) fn program(
    channel: Channel<Msg>,
    worth: Worth,
    alive: watch::Receiver<()>,
) -> RemoteProgram {
    let (stderr_sender, stderr) = mpsc::channel(INCOMING_CHUNKS);
    let Pumps { outgoing, incoming, end, signals, sizes } =
        pump(channel, Stderr::Sent(stderr_sender), worth, alive);
    RemoteProgram { stdin: outgoing, stdout: incoming, stderr, end, signals, sizes }
}

/// The channel of a connection, as a program that reports.
pub(super) fn reported(
    channel: Channel<Msg>,
    worth: Worth,
    alive: watch::Receiver<()>,
) -> RemoteProgram {
    let (report, stderr) = mpsc::channel(REPORT_LINES);
    let _ = report.try_send(Report::Connected.line().into());
    let Pumps { outgoing, incoming, end, signals, sizes } =
        pump(channel, Stderr::Report(report), worth, alive);
    RemoteProgram { stdin: outgoing, stdout: incoming, stderr, end, signals, sizes }
}

struct Pumps {
    outgoing: mpsc::Sender<Bytes>,
    incoming: mpsc::Receiver<Bytes>,
    end: watch::Receiver<Option<ProgramEnd>>,
    signals: mpsc::Sender<u8>,
    sizes: watch::Sender<WindowSize>,
}

/// Starts a channel's two tasks. They end with the channel; with the connection's owner (`alive`);
/// or when nobody is left at the other end of what they return.
fn pump(channel: Channel<Msg>, stderr: Stderr, worth: Worth, alive: watch::Receiver<()>) -> Pumps {
    let (read, write) = channel.split();
    let (incoming_sender, incoming) = mpsc::channel(INCOMING_CHUNKS);
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_CHUNKS);
    let (signals, signal_receiver) = mpsc::channel(1);
    let (sizes, size_receiver) = watch::channel(WindowSize::default());
    let (end_sender, end) = watch::channel(None);
    let (state_sender, state) = watch::channel(Reading::Wanted);
    let reader = ChannelReader {
        read,
        incoming: Some(incoming_sender),
        stderr,
        end: end_sender,
        state: state_sender,
        worth,
        alive: alive.clone(),
        ends_at: None,
    };
    tokio::spawn(reader.run());
    let writer = ChannelWriter {
        write,
        outgoing: outgoing_receiver,
        signals: signal_receiver,
        sizes: size_receiver,
        state,
        alive,
    };
    tokio::spawn(writer.run());
    Pumps { outgoing, incoming, end, signals, sizes }
}

/// What the writing task has to know about the reading one. Its end is the end of the channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Wanted,
    /// Nobody takes what comes any more.
    Unwanted,
}

struct ChannelReader {
    read: ChannelReadHalf,
    /// `None` when the stream has ended, or is not wanted any more.
    incoming: Option<mpsc::Sender<Bytes>>,
    stderr: Stderr,
    end: watch::Sender<Option<ProgramEnd>>,
    state: watch::Sender<Reading>,
    worth: Worth,
    alive: watch::Receiver<()>,
    /// When the stream of a hop ends whose output is over, if nothing says how its command ended.
    ends_at: Option<Instant>,
}

impl ChannelReader {
    async fn run(mut self) {
        let mut alive = self.alive.clone();
        tokio::select! {
            () = self.read() => {}
            _ = alive.changed() => {}
        }
        self.end.send_if_modified(|end| {
            let unknown = end.is_none();
            end.get_or_insert(ProgramEnd::Unknown);
            unknown
        });
    }

    async fn read(&mut self) {
        loop {
            let message = match &self.incoming {
                Some(incoming) => tokio::select! {
                    message = self.read.wait() => message,
                    () = incoming.closed() => {
                        self.unwanted();
                        continue;
                    }
                    () = tokio::time::sleep_until(self.ends_at.unwrap_or_else(Instant::now)),
                        if self.ends_at.is_some() =>
                    {
                        self.incoming = None;
                        continue;
                    }
                },
                None => self.read.wait().await,
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    let len = data.len();
                    if let Some(incoming) = &self.incoming {
                        match incoming.send(data).await {
                            Ok(()) => self.worth.wanted(len),
                            Err(_) => self.unwanted(),
                        }
                    }
                }
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => match &self.stderr {
                    Stderr::None | Stderr::Report(_) | Stderr::Reported => {}
                    Stderr::Kept(diagnostics) => diagnostics.add(&data),
                    Stderr::Sent(sender) => {
                        // Where nobody wants it, it is dropped: standard output goes on.
                        let len = data.len();
                        if sender.send(data).await.is_ok() {
                            self.worth.wanted(len);
                        }
                    }
                },
                Some(ChannelMsg::Eof) => self.output_ended(),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    let code = (exit_status & 0xff) as u8;
                    if code != 0 {
                        self.remark(&format!("the command ended with status {code}"));
                    }
                    self.ended(ProgramEnd::Exited(ExitStatus::Code(code)));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    let signal = signal_number(&signal_name);
                    self.remark(&format!("the command was killed by signal {signal}"));
                    self.ended(ProgramEnd::Exited(ExitStatus::Signal(signal)));
                }
                Some(ChannelMsg::Failure) => {
                    self.remark("the server refused to run the command");
                    self.ended(ProgramEnd::Refused);
                    return;
                }
                Some(ChannelMsg::Close) => {
                    if matches!(self.stderr, Stderr::Reported) {
                        self.ended(ProgramEnd::Exited(ExitStatus::Code(0)));
                    }
                    return;
                }
                None => return,
                Some(_) => {}
            }
        }
    }

    fn unwanted(&mut self) {
        self.incoming = None;
        self.state.send_replace(Reading::Unwanted);
    }

    fn ended(&mut self, end: ProgramEnd) {
        self.end.send_replace(Some(end));
        if self.ends_at.is_some() {
            self.incoming = None;
        }
    }

    /// Ends the stream; that of a hop after it is known how the command ended, which belongs to
    /// the reason of a start that failed.
    fn output_ended(&mut self) {
        if let Stderr::Report(report) = &self.stderr {
            // Before the stream ends: the end of a channel that is lost is none.
            let _ = report.try_send(Report::End.line().into());
            self.stderr = Stderr::Reported;
        }
        if matches!(self.stderr, Stderr::Kept(_)) && self.end.borrow().is_none() {
            self.ends_at = Some(Instant::now() + LAST_WORDS);
        } else {
            self.incoming = None;
        }
    }

    /// Says what became of a hop's helper.
    fn remark(&self, line: &str) {
        if let Stderr::Kept(diagnostics) = &self.stderr {
            diagnostics.remark(line);
        }
    }
}

struct ChannelWriter {
    write: ChannelWriteHalf<Msg>,
    outgoing: mpsc::Receiver<Bytes>,
    signals: mpsc::Receiver<u8>,
    sizes: watch::Receiver<WindowSize>,
    state: watch::Receiver<Reading>,
    alive: watch::Receiver<()>,
}

impl ChannelWriter {
    async fn run(self) {
        let ChannelWriter { write, mut outgoing, mut signals, mut sizes, mut state, mut alive } =
            self;
        let mut channel_ends = state.clone();
        let pump = async {
            let write_all = async {
                while let Some(bytes) = outgoing.recv().await {
                    // Waits where the server grants nothing; for ever, if the connection dies.
                    write.data_bytes(bytes).await?;
                }
                write.eof().await
            };
            let signal_all = async {
                while let Some(signal) = signals.recv().await {
                    if let Some(name) = exit::signal_name(signal) {
                        let name = Sig::Custom(name.to_owned());
                        write.signal(name).await?;
                    }
                }
                Ok::<(), russh::Error>(())
            };
            let resize_all = async {
                while sizes.changed().await.is_ok() {
                    let WindowSize { columns, rows, width, height } = *sizes.borrow_and_update();
                    let [columns, rows] = [columns, rows].map(u32::from);
                    write.window_change(columns, rows, width.into(), height.into()).await?;
                }
                Ok(())
            };
            tokio::try_join!(write_all, signal_all, resize_all)?;
            // Nobody writes any more; nobody may be reading, either.
            if state.wait_for(|state| *state == Reading::Unwanted).await.is_ok() {
                write.close().await?;
            }
            Ok::<(), russh::Error>(())
        };
        tokio::select! {
            result = pump => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a channel took no more");
                }
            }
            // The reading task drops its sender when the channel or the connection has ended.
            () = async { while channel_ends.changed().await.is_ok() {} } => {}
            _ = alive.changed() => {}
        }
        // A refused request leaves the channel open; a closed one does not mind.
        let _ = write.close().await;
    }
}

/// The number of a signal; 9 for one that is not known, so that it is not taken for success.
fn signal_number(sig: &Sig) -> u8 {
    let name = match sig {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    exit::signal_number(name).unwrap_or(9)
}
