//! The ways in which a slave can lie.

/// What a mode does to the master that believes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It never stops. The link goes on, and must cost others next to nothing.
    Flood,
    /// The same, once a session was started.
    FloodOfSession,
    /// The same, for a tool that was started there.
    FloodOfTool,
    /// The same, once it was asked to listen.
    FloodOfListener,
    /// The link ends once it was asked to listen, with these words in what is said of it.
    EndOfListener(&'static str),
    /// The link ends, with these words in what is said of it.
    End(&'static str),
    /// No slave starts, for a reason with these words, and commands have channels of their own.
    NoStart(&'static str),
}

macro_rules! modes {
    ($($(#[$doc:meta])* $mode:ident $name:literal $effect:expr,)*) => {
        /// What a hostile slave does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mode {
            $($(#[$doc])* $mode,)*
        }

        impl Mode {
            /// All of them.
            pub const ALL: &[Mode] = &[$(Mode::$mode,)*];

            /// Its name in the file that says what the hostile slave is to do.
            pub fn name(self) -> &'static str {
                match self { $(Mode::$mode => $name,)* }
            }

            /// What comes of it.
            pub fn effect(self) -> Effect {
                use Effect::{
                    End, EndOfListener, Flood, FloodOfListener, FloodOfSession, FloodOfTool, NoStart,
                };
                match self { $(Mode::$mode => $effect,)* }
            }
        }
    };
}

modes! {
    /// Asks whether the master is there.
    Pings "pings" Flood,
    /// The same, and takes no answer.
    PingsUnread "pings-unread" Flood,
    /// Grants credit for handles that are not open.
    Credit "credit" Flood,
    /// Wants no more of handles that are not open.
    Stops "stops" Flood,
    /// Waits for credit on handles that are not open.
    Blocked "blocked" Flood,
    /// Says hello again and again, as long as it may.
    Hellos "hellos" Flood,
    /// Says that sessions ended that never were.
    Exits "exits" Flood,
    /// Refuses to start what nobody wanted, in the longest words.
    Refusals "refusals" Flood,
    /// Passes on what shims say that never were.
    Answers "answers" Flood,
    /// Raises sessions of a tool that was never started.
    Raises "raises" Flood,
    /// The same with the largest handoffs, and takes no answer.
    RaisesUnread "raises-unread" Flood,
    /// Says that it listens, which nobody wanted.
    Listens "listens" Flood,
    /// Accepts connections on what nobody has it listen on.
    Accepts "accepts" Flood,
    /// The same, and takes no answer.
    AcceptsUnread "accepts-unread" Flood,
    /// Prints to standard error.
    Complaints "complaints" Flood,
    /// Sends a session's output byte by byte.
    SmallData "small-data" FloodOfSession,
    /// Sends a session's output as fast as it can.
    Bulk "bulk" FloodOfSession,
    /// Sends a session's errors byte by byte, in between frames that nobody wants.
    SmallErrors "small-errors" FloodOfSession,
    /// Raises sessions of the tool, each to a host that the run does not name.
    ToolRaises "tool-raises" FloodOfTool,
    /// The same with as many and as small variables as a handoff may hold, and more.
    ToolVariables "tool-variables" FloodOfTool,
    /// The same with the largest command.
    ToolCommands "tool-commands" FloodOfTool,
    /// Sends signals of one raised session.
    ToolSignals "tool-signals" FloodOfTool,
    /// Accepts connections without end on what it has been asked to listen on.
    ListenerAccepts "listener-accepts" FloodOfListener,
    /// Says again and again that it listens, each time on another port.
    ListenerAnswers "listener-answers" FloodOfListener,
    /// Accepts two connections with the same handles.
    ListenerTwice "listener-twice" EndOfListener("opened twice"),
    /// Says something else than frames.
    Garbage "garbage" End("broke the protocol"),
    /// Sends data for a handle that is not open.
    UnopenedData "unopened-data" End("not open"),
    /// Ends a handle that is not open.
    UnopenedEof "unopened-eof" End("not open"),
    /// Claims a message of a length that the header can hold and no message may have.
    LongMessage "long-message" End("claims"),
    /// Says hello in 3.9 MB.
    LongHello "long-hello" End("its limit"),
    /// Says how a session ended in 100 bytes.
    LongExit "long-exit" End("its limit"),
    /// Raises a session in 3.9 MB, of which each two bytes become fifty.
    LongRaise "long-raise" End("its limit"),
    /// Says in 3.9 MB where a connection comes from.
    LongOrigin "long-origin" End("its limit"),
    /// Accepts a connection with a handle of the master's.
    ForeignConnection "foreign-connection" End("handles that it can't have"),
    /// Raises a session with a handle of the master's.
    ForeignHandles "foreign-handles" End("handles that it can't have"),
    /// A message that is none.
    Malformed "malformed" End("malformed message"),
    /// Sends more of a session's output than it was granted.
    OverCredit "over-credit" End("more bytes than it granted"),
    /// Ends in the middle of a frame.
    Hangup "hangup" End("the connection was lost"),
    /// Prints for ever, and no slave starts.
    Noise "noise" NoStart("printed"),
    /// Says something else than hello first.
    NoHello "no-hello" NoStart("before hello"),
}

impl Mode {
    /// The mode of this name.
    pub fn named(name: &str) -> Option<Mode> {
        Mode::ALL.iter().copied().find(|mode| mode.name() == name.trim())
    }
}
