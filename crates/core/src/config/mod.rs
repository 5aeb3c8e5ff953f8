//! Connection settings, on either side.

pub(crate) mod budget;
mod send_options;
#[doc(hidden)]
pub mod setting;
mod when_full;

use std::time::Duration;

use threadwire_proto::deflate::Agreement;
use threadwire_proto::{Connection as Protocol, Deflate, Keepalive, Level, Limits, Role, handshake};

use crate::trace::Trace;

pub use budget::Budget;
#[doc(hidden)]
pub use budget::Budgets;
#[doc(hidden)]
pub use send_options::SendOptions;
pub use when_full::TOO_SLOW;
pub use when_full::WhenFull;

/// The settings of a connection. Each has a default that fits most programs, and a stated policy past it.
///
/// ```
/// use std::time::Duration;
/// use threadwire::{Config, Limits};
///
/// let config = Config::default()
///     .limits(Limits::default().max_message(64 << 10))
///     .close_timeout(Duration::from_secs(1));
/// assert!(config.auto_pong);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How long frames and messages from the peer may be. Past it, the connection is closed with 1009.
    pub limits: Limits,
    /// Whether messages may be compressed (permessage-deflate, RFC 7692), and how: a client offers it, and a server agrees to it.
    /// `None` by default, on every face: it is for the program to say, as on a fast network it costs more time than it saves
    /// (an echo of 300 bytes takes twice the CPU, one of 16 KiB ten times), some memory for each connection ([`deflate`](crate::proto::deflate)
    /// says how much), and tells by its length of a secret that stands beside what an attacker chose.
    ///
    /// ```
    /// use threadwire::{Config, Deflate};
    /// let config = Config::default().deflate(Deflate::default());
    /// # assert!(config.deflate.is_some());
    /// ```
    pub deflate: Option<Deflate>,
    /// Whether pings are answered by themselves. True by default; otherwise a listener answers them with
    /// `Connection::pong`.
    pub auto_pong: bool,
    /// How long the opening handshake may take: on a client from the first try to reach the server on, on a server
    /// from accepting the connection on. 10 s by default. Past it, a client's attempt fails, and a server drops the
    /// connection. On a client it is for all steps together, redirects included; each may have a limit of its own, see
    /// [`Timeouts`](crate::Timeouts).
    pub open_timeout: Duration,
    /// How long the closing handshake may take, from the first close frame to the end of TCP. 5 s by default. Past it,
    /// TCP is dropped.
    pub close_timeout: Duration,
    /// For how long a message that the peer has begun may not go on, and for how long the peer may take nothing of what waits for it.
    /// 60 s by default; [`Duration::MAX`] for any time. Past it, the connection is closed with 1008, and
    /// [`Closed::error`](crate::Closed::error) is [`TimeoutKind::Message`](crate::TimeoutKind::Message) or
    /// [`TimeoutKind::Unread`](crate::TimeoutKind::Unread). A byte now and then is enough, the time between messages does not count,
    /// and neither does a time in which this side does not read. It may be noticed up to a quarter of the time late.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadwire::Config;
    /// let config = Config::default().progress_timeout(Duration::from_secs(10));
    /// # assert_eq!(config.progress_timeout.as_secs(), 10);
    /// ```
    pub progress_timeout: Duration,
    /// Whether and when a silent peer is pinged, and when it is given up: then it is told 1001, TCP is dropped, and
    /// [`Closed::error`](crate::Closed::error) is [`TimeoutKind::Silence`](crate::TimeoutKind::Silence). None by default: it
    /// costs about 300 bytes a connection, and a timer. [`Keepalive::default`] is right for most; without any, a peer whose
    /// machine has vanished is only noticed when something is sent to it.
    pub keepalive: Option<Keepalive>,
    /// Whether the round trips of keepalive's pings are kept, for `Connection::round_trips`:
    /// 4 to 12 KiB a connection. False by default.
    pub keep_round_trips: bool,
    /// How many bytes may wait to be written because the peer does not read them. 16 MiB by default. Past it, `when_full`
    /// says what happens. A message of any size is taken when nothing waits; pings and pongs are taken up to 1 MiB past the
    /// limit, and a close frame always is.
    pub max_buffered: usize,
    /// The overflow policy: what happens to a message for which there is no room. It is refused by default.
    pub when_full: WhenFull,
    /// How long a send may wait for room in a callback ([`WhenFull::Wait`]) while the peer takes nothing at all. 10 s by default.
    /// Past it, the connection is closed with 1008, and the send fails with [`Error::Limit`](crate::Error::Limit): callbacks
    /// that wait nest, so that each holds up those it was called in. A send outside of callbacks, and one in a task, holds up nobody
    /// but its own caller, and waits on.
    ///
    /// Inside of callbacks no more than 8 sends wait at a time on a thread; past that they are answered as with
    /// [`WhenFull::Error`].
    pub wait_timeout: Duration,
    /// The memory budget in which the connection counts beside the [process's](Budget::process). None by default.
    pub budget: Option<Budget>,
    /// With more bytes than this waiting to be written, `Listener::on_pause_writing` is
    /// called. 64 KiB by default.
    pub high_watermark: usize,
    /// After that, with no more bytes than this waiting,
    /// `Listener::on_resume_writing` is called. 16 KiB by default.
    pub low_watermark: usize,
    /// Whether a server stops reading from a peer that does not read the answers to what it sends: when half of
    /// `max_buffered` waits, and answers have just added to it, until a quarter is left. True by default: a peer that sends
    /// requests and never reads then fills its own memory, not the server's, and is not cut off while it is only slow. If
    /// it takes nothing for [`progress_timeout`](Config::progress_timeout), it is given up; with keepalive, also if it takes nothing for
    /// five times the time to answer. A client
    /// always reads on, as two sides that wait for each other to read would wait forever; and so does a connection that
    /// drops messages when it is full. On the async face it is for answers by handles, which do not wait: a task whose send waits receives nothing meanwhile.
    pub throttle: bool,
    /// Whether a callback that returns an error, or panics, ends its connection, with 1011. True by default. Otherwise the error is logged at
    /// level "error" (and told to `App::on_error`), and the connection goes on with what comes next; only a stop of its worker ends it all
    /// the same. The faces without callbacks, where a receive returns to the program, have nothing that could go on.
    ///
    /// ```
    /// use threadwire::{Client, Config, on_message};
    /// # let server = threadwire::Server::bind("127.0.0.1:0")?.serve(|_| {
    /// #     threadwire::Reply::with(on_message(|ws, message| ws.send(message)))
    /// # })?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let config = Config::default().close_on_error(false);
    /// let ws = Client::new(url)?.config(config).connect(on_message(|ws, message| match message.as_text() {
    ///     Some("the end") => ws.close(),
    ///     _ => Err(threadwire::Error::other("not understood")), // that is logged
    /// }))?;
    /// ws.send("what?")?;
    /// ws.send("the end")?;
    /// assert!(ws.wait_closed()?.is_normal());
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub close_on_error: bool,
    /// The longest head of an opening handshake in bytes; 16 KiB by default. A server answers a longer one with 431 (or
    /// 414), a client fails.
    pub max_head: usize,
    /// The most header fields in such a head; 128 by default. Past it, the same happens.
    pub max_headers: usize,
    /// The trace of what goes over the wire: see [`trace`](crate::trace). None by default; then connections are traced to the log all the
    /// same while that takes the level "trace" of the target `threadwire::trace` as they open.
    pub trace: Option<Trace>,
}

threadwire_proto::setters! {
    Config {
        limits: Limits,
        auto_pong: bool,
        open_timeout: Duration,
        close_timeout: Duration,
        progress_timeout: Duration,
        keep_round_trips: bool,
        max_buffered: usize,
        when_full: WhenFull,
        wait_timeout: Duration,
        high_watermark: usize,
        low_watermark: usize,
        throttle: bool,
        close_on_error: bool,
        max_head: usize,
        max_headers: usize,
    } optional { budget: Budget, deflate: Deflate, keepalive: Keepalive, trace: Trace }
}

impl Default for Config {
    fn default() -> Config {
        let protocol = threadwire_proto::Config::default();
        let head = handshake::Limits::default();
        Config {
            limits: protocol.limits,
            deflate: None,
            auto_pong: protocol.auto_pong,
            open_timeout: Duration::from_secs(10),
            close_timeout: protocol.close_timeout,
            progress_timeout: Duration::from_secs(60),
            keepalive: None,
            keep_round_trips: false,
            max_buffered: 16 << 20,
            when_full: WhenFull::default(),
            wait_timeout: Duration::from_secs(10),
            budget: None,
            high_watermark: 64 << 10,
            low_watermark: 16 << 10,
            throttle: true,
            close_on_error: true,
            max_head: head.max_head,
            max_headers: head.max_headers,
            trace: None,
        }
    }
}

impl Config {
    /// The part of the settings that concerns the protocol.
    #[doc(hidden)]
    pub fn protocol(&self, level: Level) -> threadwire_proto::Config {
        threadwire_proto::Config::default()
            .level(level)
            .limits(self.limits)
            .auto_pong(self.auto_pong)
            .close_timeout(self.close_timeout)
    }

    /// A connection's protocol, as it was agreed on.
    #[doc(hidden)]
    pub fn open(&self, role: Role, level: Level, deflate: Option<Agreement>) -> Protocol {
        let protocol = Protocol::new(role, &self.protocol(level));
        match (&self.deflate, deflate) {
            (Some(deflate), Some(agreement)) => protocol.with_deflate(deflate, agreement),
            _ => protocol,
        }
    }

    /// The trace that a connection has which opens now: what was set, or the log's if that wants to know.
    #[doc(hidden)]
    pub fn trace_in_force(&self) -> Option<Trace> {
        self.trace.clone().or_else(Trace::of_log)
    }

    /// The part of the settings that concerns heads of opening handshakes.
    #[doc(hidden)]
    pub fn head_limits(&self) -> handshake::Limits {
        handshake::Limits::default().max_head(self.max_head).max_headers(self.max_headers)
    }
}
