//! Faces under test, a file for each, and what each of them must offer to be tested.

mod aio;
mod app;
mod blocking;
mod listener;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, ValueEnum};
use threadwire::client::{ClientTls, Proxy};
use threadwire::frame::OpCode;
use threadwire::server::ServerTls;
use threadwire::tls::Pem;
use threadwire::{Client, CloseCode, Config, Error, Limits};

use crate::settings;

/// How long a server may be silent before a check gives it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The settings of all faces.
fn config() -> Config {
    // Limits as large as the messages of the suites; and a close timeout short enough not to hold them up.
    let limits = Limits::default().max_frame(16 << 20).max_message(16 << 20);
    let (close_timeout, deflate) = (Duration::from_secs(2), settings::deflate());
    Config::default().limits(limits).max_buffered(64 << 20).close_timeout(close_timeout).deflate(deflate)
}

/// How all clients get to the server.
static WAY: OnceLock<Way> = OnceLock::new();

/// A way to a server, where it is not the nearest.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Way {
    /// Go through this proxy [default: as the environment says]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Trust the certificates that this one has signed, and no others: of the server, and of the proxy.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Way {
    /// Has all clients take it.
    pub(crate) fn take(self) {
        WAY.get_or_init(|| self);
    }

    fn apply(&self, mut client: Client) -> Result<Client, Error> {
        let tls = match &self.ca {
            Some(file) => Some(ClientTls::new().only_roots(Pem::file(file))?),
            None => None,
        };
        if let Some(proxy) = &self.proxy {
            let proxy = Proxy::new(proxy)?;
            client = client.proxy(match &tls {
                Some(tls) => proxy.tls(tls.clone()),
                None => proxy,
            });
        }
        Ok(match tls {
            Some(tls) => client.tls(tls),
            None => client,
        })
    }
}

/// As whom all servers come.
static IDENTITY: OnceLock<Identity> = OnceLock::new();

/// A certificate, for servers that are to speak TLS.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Identity {
    /// Speak TLS, with this chain of certificates.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the first of them.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Identity {
    /// Has all servers use it.
    pub(crate) fn take(self) {
        IDENTITY.get_or_init(|| self);
    }
}

/// TLS for a server of any face, if it is wanted.
fn server_tls() -> Result<Option<ServerTls>, Error> {
    let identity =
        IDENTITY.get().and_then(|identity| identity.tls_cert.as_ref().zip(identity.tls_key.as_ref()));
    identity.map(|(chain, key)| ServerTls::new(Pem::file(chain), Pem::file(key))).transpose()
}

/// A client of any face.
fn client(url: &str) -> Result<Client, Error> {
    let client = Client::new(url)?.config(config());
    WAY.get().map_or(Ok(client.clone()), |way| way.apply(client))
}

/// A face of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Face {
    /// Async, on tokio.
    Aio,
    /// Callbacks.
    Listener,
    /// Receiving and sending; a server has all its connections on one thread.
    Blocking,
    /// The same; a server has a thread for each connection.
    BlockingThreads,
    /// Apps: a client only.
    App,
}

/// A frame to send.
pub(crate) struct Step {
    pub(crate) opcode: OpCode,
    pub(crate) fin: bool,
    pub(crate) payload: Vec<u8>,
}

/// The messages that came back.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The messages: whether it is text, and the payload.
    pub(crate) messages: Vec<(bool, Vec<u8>)>,
    /// The payloads of the pongs.
    pub(crate) pongs: Vec<Vec<u8>>,
    /// Whether the face does not tell of them.
    pub(crate) hides_pongs: bool,
    /// How the connection was closed: the code, and whether cleanly. None if it was not.
    pub(crate) closed: Option<(CloseCode, bool)>,
    /// The error of this side.
    pub(crate) error: Option<String>,
}

impl Face {
    /// Serves an echo until a signal.
    pub(crate) fn serve(self, listen: &str) -> Result<(), Error> {
        match self {
            Face::Aio => aio::serve(listen),
            Face::Listener => listener::serve(listen),
            Face::Blocking => blocking::serve(listen),
            Face::BlockingThreads => blocking::serve_with_threads(listen),
            Face::App => Err(Error::other("the app face has no server")),
        }
    }

    /// Connects, and echoes until the server closes.
    pub(crate) fn echo(self, url: &str) -> Result<(), Error> {
        match self {
            Face::Aio => aio::echo(url),
            Face::Listener => listener::echo(url),
            Face::Blocking | Face::BlockingThreads => blocking::echo(url),
            Face::App => app::echo(url),
        }
    }

    /// Connects, and takes one message.
    pub(crate) fn ask(self, url: &str) -> Result<String, Error> {
        match self {
            Face::Aio => aio::ask(url),
            Face::Listener => listener::ask(url),
            Face::Blocking | Face::BlockingThreads => blocking::ask(url),
            Face::App => app::ask(url),
        }
    }

    /// Connects, sends the frames, waits until `messages` messages and `pongs` pongs came back (or nothing more does),
    /// and closes with this code.
    pub(crate) fn exchange(
        self,
        url: &str,
        steps: &[Step],
        expected: (usize, usize),
        code: CloseCode,
    ) -> Result<Seen, Error> {
        match self {
            Face::Aio => aio::exchange(url, steps, expected, code),
            Face::Listener => listener::exchange(url, steps, expected, code),
            Face::Blocking | Face::BlockingThreads => blocking::exchange(url, steps, expected.0, code),
            Face::App => app::exchange(url, steps, expected, code),
        }
    }
}
