//! Trace of a connection, for debugging: the heads of the opening handshake and every frame, as lines.
//!
//! A connection is traced if its [`Config`](crate::Config) says so, or if the program's log takes the level "trace" of the target
//! `threadwire::trace` when it opens, whatever face it has, on either side. Costs nothing otherwise. It is the bytes of the stream that are watched, and nobody's word for them: what is shown as sent was taken by
//! the system, and a frame that breaks a rule is shown as it came. A frame is shown when its last byte has passed.
//!
//! Credentials in the heads are hidden (see [`TraceEvent::Head`]); what is in the messages is not known here, so **what the
//! messages say is in the trace**. Control characters, and whatever else can play tricks on a terminal, are escaped.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use threadwire::trace::TraceLine;
//! use threadwire::trace::Trace;
//! use threadwire::{Client, Config, Connection, Message};
//! # use threadwire::{Reply, Server};
//! # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
//! # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
//! # let url = format!("ws://{}", server.local_addr()?);
//!
//! let lines = Arc::new(Mutex::new(Vec::new()));
//! let write = Arc::clone(&lines);
//! let trace = Trace::to(move |line: &TraceLine<'_>| write.lock().unwrap().push(line.event.to_string()));
//! let client = Client::new(&format!("{url}/?token=1234"))?.config(Config::default().trace(trace));
//! let ws = client.connect(|ws: &Connection, _message: Message<'_>| ws.close())?;
//! ws.send("hello")?;
//! ws.wait_closed()?;
//!
//! let lines = lines.lock().unwrap();
//! assert!(lines[0].starts_with("GET /?token=*** HTTP/1.1\n"));
//! assert!(lines[1].starts_with("HTTP/1.1 101 "));
//! assert_eq!(lines[2..], [r#"text, 5 bytes: "hello""#, r#"text, 5 bytes: "hello""#, "close: 1000", "close: 1000"]);
//! # Ok::<(), threadwire::Error>(())
//! ```

mod line;
mod redact;
#[doc(hidden)]
pub mod tap;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use line::{Direction, TraceEvent, TraceLine};

type Sink = dyn Fn(&TraceLine<'_>) + Send + Sync;

/// Has connections traced, by [`Config::trace`](crate::Config::trace): see [the module](self).
///
/// The default writes to [`tracing`](https://docs.rs/tracing), at its level "trace" and for the target
/// `threadwire::trace`.
#[derive(Clone)]
pub struct Trace {
    sink: Arc<Sink>,
    payload: usize,
}

impl Trace {
    /// How much of a payload is shown, unless it is said otherwise, in bytes.
    pub const PAYLOAD: usize = 75;

    /// Traces to this. It is called on the connection's thread, between the system call and what is made of it: it is there
    /// to write down, and must not wait, nor use that connection. If it panics, that is logged, and the connection goes on.
    ///
    /// ```
    /// use threadwire::trace::Trace;
    /// let trace = Trace::to(|line| eprintln!("{line}"));
    /// # let _ = trace;
    /// ```
    pub fn to(sink: impl Fn(&TraceLine<'_>) + Send + Sync + 'static) -> Trace {
        Trace { sink: Arc::new(sink), payload: Trace::PAYLOAD }
    }

    /// Shows this many bytes of a payload at most; 75 by default. So much is kept of each frame that is under way.
    ///
    /// ```
    /// use threadwire::trace::Trace;
    /// let whole = Trace::default().payload(usize::MAX);
    /// # let _ = whole;
    /// ```
    pub fn payload(mut self, bytes: usize) -> Trace {
        self.payload = bytes;
        self
    }

    /// The trace to the log, if that takes it.
    pub(crate) fn of_log() -> Option<Trace> {
        tracing::enabled!(target: "threadwire::trace", tracing::Level::TRACE).then(Trace::default)
    }

    fn tell(&self, line: &TraceLine<'_>) {
        threadwire_guard::contain("a trace", || (self.sink)(line));
    }
}

impl Default for Trace {
    fn default() -> Trace {
        Trace::to(|line| tracing::trace!(target: "threadwire::trace", "{line}"))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("payload", &self.payload).finish_non_exhaustive()
    }
}

/// Numbers for streams that are traced.
fn next_number() -> u64 {
    static STREAMS: AtomicU64 = AtomicU64::new(1);
    STREAMS.fetch_add(1, Ordering::Relaxed)
}
