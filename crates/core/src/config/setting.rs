//! Settings by name, and ways to connect or to serve that can't heed all of them.
//!
//! A setting that would be passed over in silence is an error instead ([`Error::Setting`]): each way lists here what it
//! does not heed, and what to do instead; what is set is compared with that before anything is opened. What says how a step is done (TLS,
//! the limits of time of [`Timeouts`](crate::client::Timeouts)) is not listed where there is no such step: nothing is left undone.

use threadwire_proto::{Level, Limits};

use super::{Config, WhenFull};
use crate::error::{Error, SettingError};

/// The settings that not every way heeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    AutoPong,
    KeepRoundTrips,
    MaxHead,
    MaxHeaders,
    MaxFragments,
    MaxFrame,
    MaxMessage,
    OpenTimeout,
    Bind,
    Nodelay,
    OpenSocket,
    PrepareSocket,
    Proxy,
    RedirectedHeaders,
    Redirects,
    Resolve,
    UnixSocket,
    UnixUrl,
    RetryIf,
    SlowerThan,
}

impl Setting {
    /// The name that programs know.
    fn name(self) -> &'static str {
        match self {
            Setting::AutoPong => "Config::auto_pong",
            Setting::KeepRoundTrips => "Config::keep_round_trips",
            Setting::MaxHead => "Config::max_head",
            Setting::MaxHeaders => "Config::max_headers",
            Setting::MaxFragments => "Limits::max_fragments",
            Setting::MaxFrame => "Limits::max_frame",
            Setting::MaxMessage => "Limits::max_message",
            Setting::OpenTimeout => "Config::open_timeout",
            Setting::Bind => "Client::bind",
            Setting::Nodelay => "Client::nodelay",
            Setting::OpenSocket => "Client::open_socket (or over)",
            Setting::PrepareSocket => "Client::prepare_socket",
            Setting::Proxy => "Client::proxy",
            Setting::RedirectedHeaders => "Client::redirected_headers",
            Setting::Redirects => "Client::redirects",
            Setting::Resolve => "Client::resolve",
            Setting::UnixSocket => "Client::unix_socket",
            Setting::UnixUrl => "a URL of ws+unix",
            Setting::RetryIf => "App::retry_if",
            Setting::SlowerThan => "App::slower_than",
        }
    }
}

/// A way to connect or to serve.
pub struct Way {
    name: &'static str,
    /// What it does not heed, and what to do instead.
    unheeded: &'static [(Setting, &'static str)],
}

impl Way {
    /// A connection on tokio.
    pub const TASKS: Way =
        Way { name: "a connection of the async face", unheeded: &[OF_FRAMES, KEPT_OF_KEEPALIVE] };

    /// A connection on tokio that receives in parts.
    pub const TASKS_IN_PARTS: Way = Way {
        name: "aio::connect_in_parts",
        unheeded: &[
            (Setting::MaxMessage, OF_MESSAGES),
            (Setting::MaxFragments, OF_MESSAGES),
            KEPT_OF_KEEPALIVE,
        ],
    };

    /// A listener for whole messages.
    pub const MESSAGES: Way =
        Way { name: "a connection that receives whole messages", unheeded: &[OF_FRAMES] };

    /// A listener for frames.
    pub const FRAMES: Way = Way {
        name: "a connection that receives frames",
        unheeded: &[(Setting::MaxMessage, OF_MESSAGES), (Setting::MaxFragments, OF_MESSAGES)],
    };

    /// A blocking connection, of a client or of a server.
    pub const BLOCKING: Way =
        Way { name: "a blocking connection", unheeded: &[(Setting::AutoPong, NO_PINGS), OF_FRAMES] };

    /// A blocking connection that receives in parts.
    pub const IN_PARTS: Way = Way { name: "connect_in_parts", unheeded: &[(Setting::AutoPong, NO_PINGS)] };

    /// An upgrade from an HTTP server.
    pub const UPGRADE: Way = Way {
        name: "aio::Upgrade",
        unheeded: &[
            (Setting::OpenTimeout, HTTP_SERVERS),
            (Setting::MaxHead, HTTP_SERVERS),
            (Setting::MaxHeaders, HTTP_SERVERS),
            OF_FRAMES,
            KEPT_OF_KEEPALIVE,
        ],
    };

    /// A stream that is connected already.
    pub const OVER_STREAM: Way = Way {
        name: "aio::connect_over",
        unheeded: &[
            (Setting::Bind, CONNECTED),
            (Setting::Nodelay, CONNECTED),
            (Setting::OpenSocket, "there are two streams then: leave one out"),
            (Setting::PrepareSocket, CONNECTED),
            (Setting::Proxy, "go through the proxy before, or have aio::connect do it"),
            (Setting::RedirectedHeaders, ELSEWHERE),
            (Setting::Redirects, ELSEWHERE),
            (Setting::Resolve, CONNECTED),
            (Setting::UnixSocket, "connect to it with aio::connect"),
            (Setting::UnixUrl, "connect to it with aio::connect, or say ws://localhost/"),
        ],
    };

    /// A socket of the program's own.
    pub const OWN_SOCKET: Way = Way {
        name: "Client::open_socket (or over)",
        unheeded: &[
            (Setting::Bind, OPENED),
            (Setting::PrepareSocket, OPENED),
            (Setting::RedirectedHeaders, ELSEWHERE),
            (Setting::Redirects, ELSEWHERE),
            (
                Setting::Resolve,
                "the program's function finds the address; only a socks4 or socks5 proxy has to be told one",
            ),
            (Setting::UnixSocket, "there are two sockets then: leave one out"),
        ],
    };

    /// A Unix socket.
    pub const UNIX: Way = Way {
        name: "a Unix socket",
        unheeded: &[
            (Setting::Bind, NO_NETWORK),
            (Setting::Nodelay, NO_NETWORK),
            (
                Setting::PrepareSocket,
                "it is for sockets of TCP: prepare one of your own, with Client::open_socket",
            ),
            (Setting::Proxy, "a proxy does not lead there: leave it out"),
            (Setting::RedirectedHeaders, ELSEWHERE),
            (Setting::Redirects, ELSEWHERE),
            (Setting::Resolve, NO_NETWORK),
        ],
    };

    /// An app that does not reconnect.
    pub const ONE_RUN: Way = Way {
        name: "an app without App::reconnect",
        unheeded: &[(Setting::RetryIf, COMES_BACK), (Setting::SlowerThan, COMES_BACK)],
    };

    /// A connection of this level.
    pub fn of_level(level: Level) -> &'static Way {
        match level {
            Level::Frames => &Way::FRAMES,
            _ => &Way::MESSAGES,
        }
    }

    /// Fails if anything is set that it does not heed.
    pub fn check(&self, is_set: impl Fn(Setting) -> bool) -> Result<(), Error> {
        match self.unheeded.iter().find(|(setting, _)| is_set(*setting)) {
            None => Ok(()),
            Some((setting, instead)) => {
                Err(SettingError { setting: setting.name(), way: self.name, instead }.into())
            }
        }
    }
}

/// The limit of frames; no frame is longer than its message.
/// Where the program can't send probes of its own.
const KEPT_OF_KEEPALIVE: (Setting, &str) =
    (Setting::KeepRoundTrips, "the round trips of keepalive's pings are kept, so set keepalive, too");

const OF_FRAMES: (Setting, &str) =
    (Setting::MaxFrame, "a message counts as a whole there: bound it by Limits::max_message");
const OF_MESSAGES: &str = "a message has no limit there: bound its parts by Limits::max_frame";
const NO_PINGS: &str =
    "it does not hear pings, so it could not answer them: leave them to the library, or use a Listener";
const HTTP_SERVERS: &str = "the request was read before, so it is a setting of the HTTP server's own";
const CONNECTED: &str = "it is connected already: do it where it is made, or have aio::connect make it";
const OPENED: &str = "the program opens the socket: do it there";
const ELSEWHERE: &str = "a redirect leads elsewhere, and this can't: leave it out, or say 0";
const NO_NETWORK: &str = "it has neither a network nor a port: leave it out";
const COMES_BACK: &str = "it is about the connections that follow: set App::reconnect, too";

impl Config {
    /// Whether a setting says something else than by default.
    #[doc(hidden)]
    pub fn is_set(&self, setting: Setting) -> bool {
        let default = Config::default();
        match setting {
            Setting::AutoPong => !self.auto_pong,
            Setting::KeepRoundTrips => self.keep_round_trips && self.keepalive.is_none(),
            Setting::MaxHead => self.max_head != default.max_head,
            Setting::MaxHeaders => self.max_headers != default.max_headers,
            Setting::MaxFragments => self.limits.max_fragments != default.limits.max_fragments,
            Setting::MaxFrame => {
                let Limits { max_frame, max_message, .. } = self.limits;
                max_frame != default.limits.max_frame && max_frame < max_message
            }
            Setting::MaxMessage => self.limits.max_message != default.limits.max_message,
            Setting::OpenTimeout => self.open_timeout != default.open_timeout,
            _ => false,
        }
    }

    /// Fails if these settings say something that this way does not heed.
    #[doc(hidden)]
    pub fn check(&self, way: &Way) -> Result<(), Error> {
        way.check(|setting| self.is_set(setting))
    }

    /// What a send does that finds no room, on the faces whose sends wait by default: they wait unless the message has
    /// another policy, or the connection.
    #[doc(hidden)]
    pub fn policy_of_waiting(&self, chosen: Option<WhenFull>) -> WhenFull {
        match (chosen, self.when_full) {
            (Some(chosen), _) => chosen,
            (None, WhenFull::Error) => WhenFull::Wait,
            (None, of_connection) => of_connection,
        }
    }
}
