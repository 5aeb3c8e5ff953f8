//! Long-lived connections, each used in a way of its own while the peer's keepalive, or ours, watches it.
//!
//! The path of a connection says how it is used: `/NAME/HELD/DOING/CLOSER`, where CLOSER is `ours` if this side closes when
//! the time is up. Of each a line is printed when it has ended: `ended`, the path, the close code, whether the end was clean,
//! for how many milliseconds the connection lasted, how many its closing took (`-` if this side did not close), how
//! many messages were sent or received, and the error if there was one, with tabs between.

mod aio;
mod app;
mod blocking;
mod by_handle;
mod listener;
mod timers;

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use threadwire::keepalive::PingStrategy;
use threadwire::{Closed, Config, Error, Keepalive};

use crate::faces::Face;

/// The time from one message to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// The time from one connection of a client to the next, so that they do not all end at once.
const STAGGER: Duration = Duration::from_millis(200);
/// How long after its time a peer that closes is still expected to do so.
const LATE: Duration = Duration::from_secs(2);
/// What is sent.
const TEXT: &str = "price 0.00012345";

/// Connections that stay open for a while, used in the ways that their paths say; it tells how each of them ended.
#[derive(Args, Clone)]
pub(crate) struct Keep {
    /// The face of the library to use.
    #[arg(long, value_enum)]
    face: Face,
    /// Serve here until SIGTERM or Ctrl-C; port 0 has the system choose one.
    #[arg(long, value_name = "ADDR", required_unless_present = "url")]
    listen: Option<String>,
    /// Connect to this server, ws://HOST:PORT, once for each path.
    #[arg(long, value_name = "URL", conflicts_with = "listen", requires = "paths")]
    url: Option<String>,
    /// The time after which one side closes.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Ping the peer this often, and expect an answer within that time [default: no pings]
    #[arg(long, value_name = "SECONDS")]
    ping: Option<u64>,
    /// How a client uses each of its connections: /NAME/HELD/DOING/CLOSER
    #[arg(value_name = "PATH")]
    paths: Vec<Usage>,
}

impl Keep {
    /// Serves until a signal, or connects and waits for all ends.
    pub(crate) fn run(self) -> Result<(), Error> {
        let stay = Duration::from_secs(self.seconds);
        let config = config(self.ping.map(Duration::from_secs));
        let (face, paths) = (self.face, self.paths);
        match (self.listen, self.url) {
            (Some(listen), _) => match face {
                Face::Aio => aio::serve(&listen, config, stay),
                Face::Listener => listener::serve(&listen, config, stay),
                Face::Blocking => blocking::serve(&listen, config, stay),
                Face::BlockingThreads => blocking::serve_with_threads(&listen, config, stay),
                Face::App => Err(Error::other("the app face has no server")),
            },
            (None, Some(url)) => match face {
                Face::Aio => aio::connect(&url, &config, stay, paths),
                Face::Listener => listener::connect(&url, &config, stay, paths),
                Face::Blocking => blocking::connect(&url, &config, stay, paths),
                Face::App => app::connect(&url, &config, stay, paths),
                Face::BlockingThreads => Err(Error::other("only servers have a thread for each connection")),
            },
            (None, None) => Err(Error::other("neither --listen nor --url")),
        }
    }
}

fn config(ping: Option<Duration>) -> Config {
    // Also where the peer talks, so that each connection is pinged.
    let keepalive = |every| {
        let strategy = PingStrategy::Periodically;
        Keepalive::default().idle_timeout(every).reply_timeout(every).strategy(strategy)
    };
    Config::default().keepalive(ping.map(keepalive))
}

/// How a connection is used.
#[derive(Clone, Debug)]
struct Usage {
    path: String,
    held: Held,
    doing: Doing,
    /// Whether this side closes.
    closes: bool,
}

/// As what the program has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Held {
    /// The connection itself, or the one that callbacks are given.
    Connection,
    /// Both halves.
    Halves,
    /// The sending half, after the other one was dropped.
    Sender,
    /// The receiving half, after the other one was dropped.
    Receiver,
    /// A handle on another thread or in another task, while the owner is idle.
    Handle,
    /// A `Select` that has the connection.
    Select,
}

/// What the program does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Doing {
    /// It receives.
    Receive,
    /// It only sends, and sleeps between the messages so that the loop turns.
    Send,
    /// The same, but the thread sleeps as any other thread.
    SendNative,
    /// Neither: it sleeps.
    Nothing,
}

impl FromStr for Usage {
    type Err = String;

    fn from_str(path: &str) -> Result<Usage, String> {
        let parts: Vec<_> = path.split('/').collect();
        let ["", _, held, doing, closer @ ("ours" | "theirs")] = parts[..] else {
            return Err("expected /NAME/HELD/DOING/ours or theirs".to_owned());
        };
        Ok(Usage {
            path: path.to_owned(),
            held: Held::from_str(held, false)?,
            doing: Doing::from_str(doing, false)?,
            closes: closer == "ours",
        })
    }
}

/// How many connections were told of.
static TOLD: AtomicUsize = AtomicUsize::new(0);

fn told() -> usize {
    TOLD.load(Ordering::Relaxed)
}

/// What is known of a connection that is kept.
struct Kept {
    usage: Usage,
    begun: Instant,
    /// When this side closes, or has waited long enough for the peer to do so.
    until: Instant,
    messages: AtomicU32,
    /// When this side began to close.
    closing: OnceLock<Instant>,
    /// How long that took, if it was noted before the end is told.
    took: OnceLock<Duration>,
}

impl Kept {
    /// A connection that stays as long as `stay`.
    fn new(usage: Usage, stay: Duration) -> Kept {
        let begun = Instant::now();
        let until = begun + stay + if usage.closes { Duration::ZERO } else { LATE };
        Kept {
            usage,
            begun,
            until,
            messages: AtomicU32::new(0),
            closing: OnceLock::new(),
            took: OnceLock::new(),
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn goes_on(&self) -> bool {
        !self.left().is_zero()
    }

    /// A message was sent or received.
    fn count(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Right before this side closes.
    fn begin_to_close(&self) {
        self.closing.get_or_init(Instant::now);
    }

    /// Right after the connection has closed, where that is not told at once.
    fn has_closed(&self) {
        if let Some(begun) = self.closing.get() {
            self.took.get_or_init(|| begun.elapsed());
        }
    }

    /// Tells how the connection ended.
    fn tell(&self, closed: Option<&Closed>) {
        let (code, clean) = closed.map_or((0, false), |closed| (closed.code.get(), closed.clean));
        let error = closed.map_or_else(
            || "it has not ended".to_owned(),
            |closed| closed.error.as_ref().map_or_else(String::new, ToString::to_string),
        );
        self.print(code, clean, &error);
    }

    /// Tells that there never was a connection.
    fn failed(&self, error: &Error) {
        self.print(0, false, &error.to_string());
    }

    fn print(&self, code: u16, clean: bool, error: &str) {
        self.has_closed();
        let closing = self.took.get().map_or_else(|| "-".to_owned(), |took| took.as_millis().to_string());
        let error = error.replace(['\n', '\t'], " ");
        let (path, messages) = (&self.usage.path, self.messages.load(Ordering::Relaxed));
        let lasted = self.begun.elapsed().as_millis();
        println!("ended\t{path}\t{code}\t{clean}\t{lasted}\t{closing}\t{messages}\t{error}");
        TOLD.fetch_add(1, Ordering::Relaxed);
    }
}
