//! Test servers of each face that do the same, so that the opening handshake is tested once for all of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use threadwire::server::{Admission, ListenAddr, ListenSocket};
use threadwire::{Config, Connection, Error, Message, Reply, Request, Running, Server, blocking};

use super::patient;
use super::peer::{Peer, request_with};

/// A face that servers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Callbacks, on two workers.
    Listener,
    /// Threads that block.
    Blocking,
    /// Tasks.
    #[cfg(feature = "aio")]
    Aio,
}

/// All of them.
pub const FACES: &[Face] = &[
    Face::Listener,
    Face::Blocking,
    #[cfg(feature = "aio")]
    Face::Aio,
];

/// A value that a test attaches to a request, for its connection to say.
pub struct Note(pub String);

type Hook = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server to be.
#[derive(Clone)]
pub struct Plan {
    /// Its settings.
    pub config: Config,
    /// The admission limits.
    pub admission: Admission,
    /// The router.
    pub hook: Arc<Hook>,
    /// With TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<threadwire::server::ServerTls>,
}

impl Plan {
    /// A server with this hook, and patience.
    pub fn new<R: Into<Reply>>(hook: impl Fn(&Request) -> R + Send + Sync + 'static) -> Plan {
        Plan {
            config: patient(),
            admission: Admission::default(),
            hook: Arc::new(move |request| hook(request).into()),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The same, with something else for an admission.
    pub fn admission(self, admission: Admission) -> Plan {
        Plan { admission, ..self }
    }

    /// The same, with other settings.
    pub fn config(self, config: Config) -> Plan {
        Plan { config, ..self }
    }
}

/// A server at work, which stops when the test lets go of it.
pub struct Served {
    /// The listening address.
    pub addrs: Vec<ListenAddr>,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Face {
    /// Upgrades to a connection that echoes, and answers `note?` with the [`Note`] it has, or the request that it has kept.
    pub fn accept(self) -> Reply {
        if self != Face::Listener {
            return Reply::upgrade();
        }
        Reply::with(|ws: &Connection, message: Message<'_>| {
            if message.as_bytes() == b"note?" {
                return ws.send(&note(ws.attached::<Note>(), ws.request()));
            }
            ws.send(message)
        })
    }

    /// Serves at a port that the system chooses.
    pub fn serve(self, plan: Plan) -> Served {
        self.serve_on(vec![ListenSocket::tcp("127.0.0.1:0").unwrap()], plan)
    }

    /// Serves on these sockets.
    pub fn serve_on(self, mut sockets: Vec<ListenSocket>, plan: Plan) -> Served {
        let addrs = sockets.iter().map(|socket| socket.local_addr().clone()).collect();
        let first = sockets.remove(0);
        let stop: Box<dyn FnOnce() + Send> = match self {
            Face::Listener => {
                let server =
                    sockets.into_iter().fold(Server::from_socket(first), Server::add_socket).workers(2);
                let server = server.config(plan.config).admission(plan.admission);
                #[cfg(feature = "tls")]
                let server = if let Some(tls) = plan.tls { server.tls(tls) } else { server };
                let hook = plan.hook;
                let running = server.serve(move |request| hook(request)).unwrap();
                Box::new(move || stop(running))
            }
            Face::Blocking => {
                let server = sockets
                    .into_iter()
                    .fold(blocking::Server::from_socket(first), blocking::Server::add_socket);
                let server = server.config(plan.config).admission(plan.admission);
                #[cfg(feature = "tls")]
                let server = if let Some(tls) = plan.tls { server.tls(tls) } else { server };
                let hook = plan.hook;
                let server = server.on_request(move |request| hook(request));
                let serving = server.serve(8, converse).unwrap();
                Box::new(move || {
                    serving.stop();
                    serving.join().unwrap();
                })
            }
            #[cfg(feature = "aio")]
            Face::Aio => aio::serve(first, sockets, plan),
        };
        Served { addrs, stop: Some(stop) }
    }
}

fn note(note: Option<Arc<Note>>, request: Option<Arc<threadwire::proto::handshake::Request>>) -> String {
    match (note, request) {
        (Some(note), _) => note.0.clone(),
        (None, Some(request)) => format!("{} {:?}", request.target(), request.headers().get("X-Name")),
        (None, None) => "nothing".to_owned(),
    }
}

fn stop(running: Running) {
    running.stop();
    running.join().unwrap();
}

fn converse(ws: &mut blocking::Connection) -> Result<(), Error> {
    while let Some(message) = ws.recv()? {
        if message == "note?" {
            ws.send(&note(ws.attached::<Note>(), ws.request()))?;
        } else {
            ws.send(&message)?;
        }
    }
    Ok(())
}

#[cfg(feature = "aio")]
mod aio {
    use threadwire::aio;
    use tokio::sync::oneshot;

    use super::{ListenSocket, Note, Plan, note, thread};

    pub(super) fn serve(
        first: ListenSocket,
        others: Vec<ListenSocket>,
        plan: Plan,
    ) -> Box<dyn FnOnce() + Send> {
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = thread::spawn(move || {
            super::super::tasks::several().block_on(async move {
                let mut server = aio::Server::from_socket(first);
                for other in others {
                    server = server.add_socket(other);
                }
                let server = server.config(plan.config).admission(plan.admission);
                #[cfg(feature = "tls")]
                let server = if let Some(tls) = plan.tls { server.tls(tls) } else { server };
                let hook = plan.hook;
                let server = server.on_request(move |request| hook(request));
                let served = server.serve_until(stopped, |_request, mut ws| async move {
                    while let Ok(Some(message)) = ws.recv().await {
                        let sent = if message == "note?" {
                            let note = note(ws.attached::<Note>(), ws.request());
                            ws.send(&note).await
                        } else {
                            ws.send(&message).await
                        };
                        if sent.is_err() {
                            return;
                        }
                    }
                });
                served.await.unwrap();
            });
        });
        Box::new(move || {
            drop(stop);
            runtime.join().unwrap();
        })
    }
}

impl Served {
    /// The first address of TCP.
    pub fn addr(&self) -> SocketAddr {
        self.addrs.iter().find_map(ListenAddr::tcp).unwrap()
    }

    /// The first path.
    pub fn path(&self) -> PathBuf {
        let path = self.addrs.iter().find_map(|addr| match addr {
            ListenAddr::Unix(path) => Some(path.clone()),
            _ => None,
        });
        path.unwrap()
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr())
    }

    /// Sends these bytes, and returns all that comes, up to the end.
    pub fn answer(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut peer = Peer::connect(self.addr());
        peer.bytes(bytes);
        peer.rest()
    }

    /// The status of the answer to a request to upgrade with more headers; after a 101 the connection is broken off.
    pub fn status(&self, path: &str, headers: &str) -> u16 {
        let mut peer = Peer::connect(self.addr());
        peer.bytes(request_with(path, headers));
        status(&peer.head())
    }

    /// Opens a connection, and says what it has attached.
    pub fn note(&self, path: &str, headers: &str) -> String {
        let mut peer = Peer::connect(self.addr());
        peer.bytes(request_with(path, headers));
        ask_for_note(&mut peer)
    }

    /// Stops, and waits for that.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

/// The status of an answer.
pub fn status(head: &str) -> u16 {
    head.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status: {head}"))
}

/// Reads the 101, and asks what is attached.
pub fn ask_for_note(peer: &mut Peer) -> String {
    let head = peer.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    peer.send(super::peer::TEXT, b"note?");
    let note = peer.text();
    peer.close(1000, "");
    assert_eq!(peer.code(), 1000);
    note
}

/// Attaches what is to be said.
pub fn attach(request: &Request, text: impl ToString) {
    request.attach(Note(text.to_string()));
}
