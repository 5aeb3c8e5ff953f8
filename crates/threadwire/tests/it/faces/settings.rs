//! Settings and ways: each setting of a client is used in each way to connect, and each of a connection in each way to serve. It has
//! its effect, or is refused by its name; it is never passed over in silence.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::drive;
use crate::common::certificates::Authority;
use crate::common::faces::Face;
use crate::common::files::Files;
use crate::common::proxies::{Kind, Proxying};
use crate::common::recorder::{Call, Log};
use crate::common::secure::Secure;
use crate::common::tasks::{several, single};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, patient};
use threadwire::client::{CookieJar, Proxy, Timeouts};
use threadwire::error::SettingError;
use threadwire::frame::OpCode;
use threadwire::reconnect::{Backoff, Cause};
use threadwire::server::ListenSocket;
use threadwire::trace::Trace;
use threadwire::{
    App, Client, Compress, Config, Connection, Deflate, Error, Keepalive, Limits, Message, Reply, WhenFull,
    aio, blocking, wait_until,
};

/// A server that echoes, and what else clients may meet. It pings before it answers.
struct World {
    serving: Serving,
    /// The server's Unix socket.
    path: PathBuf,
    /// Where nobody answers.
    silent: TcpListener,
    silent_path: PathBuf,
    proxying: Proxying,
    /// Where a socket of the program's own has to lead.
    to: Cell<SocketAddr>,
    to_path: Cell<bool>,
    /// The request that came last: a few headers, and where it came from.
    asked: Arc<Mutex<Vec<(&'static str, String)>>>,
    pongs: Arc<AtomicUsize>,
    /// What else happened.
    count: Arc<AtomicUsize>,
    ended: mpsc::Receiver<()>,
    _silent_unix: UnixListener,
    _files: Files,
}

const NOTED: &[&str] = &[
    "Host",
    "Origin",
    "User-Agent",
    "X-Name",
    "Authorization",
    "Cookie",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
];

impl World {
    fn new() -> World {
        let files = Files::empty();
        let (path, silent_path) = (files.path("echo.sock"), files.path("silent.sock"));
        let (asked, pongs) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (notes, counted) = (Arc::clone(&asked), Arc::clone(&pongs));
        let (tell, ended) = mpsc::channel();
        let log = Log::new();
        let react = move |ws: &Connection, call: &Call| match call {
            Call::Text(message) => {
                ws.ping(b"there?")?;
                let (first, rest) = message.as_bytes().split_at(3);
                ws.send_frame(OpCode::Text, false, first)?;
                ws.send_frame(OpCode::Continuation, true, rest)
            }
            Call::Pong(_) => {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            Call::Closed(_) => {
                // The test may be over.
                let _ = tell.send(());
                Ok(())
            }
            _ => Ok(()),
        };
        let server = bind()
            .config(patient().deflate(Deflate::default()))
            .add_socket(ListenSocket::unix(&path).unwrap());
        let serving = Serving::with(server, move |request| {
            let mut noted: Vec<_> = NOTED
                .iter()
                .map(|name| (*name, request.header(name).unwrap_or_default().to_owned()))
                .collect();
            noted.push(("from", request.peer_addr().map(|addr| addr.ip().to_string()).unwrap_or_default()));
            *notes.lock().unwrap() = noted;
            match request.path() {
                "/old" => Reply::status(307).header("Location", "/new"),
                _ => Ok(Reply::with(log.listener(react.clone()))),
            }
        });
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let _silent_unix = UnixListener::bind(&silent_path).unwrap();
        let proxying = Proxying::start(Kind::Http, "feed.test", serving.addr);
        World {
            to: Cell::new(serving.addr),
            to_path: Cell::new(true),
            serving,
            path,
            silent,
            silent_path,
            proxying,
            asked,
            pongs,
            count: Arc::default(),
            ended,
            _silent_unix,
            _files: files,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.serving.url("/")).unwrap().config(patient())
    }

    /// A client with these settings of its connections.
    fn with(&self, set: impl FnOnce(Config) -> Config) -> Client {
        self.client().config(set(patient()))
    }

    /// A client of a host that nobody knows.
    fn elsewhere(&self) -> Client {
        let url = format!("ws://feed.test:{}/", self.serving.addr.port());
        Client::new(&url).unwrap().config(patient())
    }

    /// A client that nobody answers.
    fn unanswered(&self) -> Client {
        self.to.set(self.silent.local_addr().unwrap());
        self.to_path.set(false);
        Client::new(&format!("ws://{}/", self.silent.local_addr().unwrap())).unwrap()
    }

    fn asked(&self, name: &str) -> String {
        let asked = self.asked.lock().unwrap();
        asked.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn unix(&self) -> &PathBuf {
        if self.to_path.get() { &self.path } else { &self.silent_path }
    }

    /// Counts a call of the program's.
    fn counter(&self) -> impl Fn() + Send + Sync + use<> {
        let count = Arc::clone(&self.count);
        move || {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn has_counted(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }
}

type Outcome = Result<String, Error>;

/// A setting.
struct Row {
    name: &'static str,
    /// A client that has it.
    set: fn(&World) -> Client,
    /// Whether it had its effect.
    heeded: fn(&World, &Outcome) -> bool,
}

/// For settings whose effect needs more than an echo to be seen, and has tests of its own.
fn echoes(_: &World, outcome: &Outcome) -> bool {
    outcome.is_ok()
}

fn fails(_: &World, outcome: &Outcome) -> bool {
    outcome.is_err()
}

fn times_out(_: &World, outcome: &Outcome) -> bool {
    matches!(outcome, Err(Error::Timeout(_)))
}

const ROWS: &[Row] = &[
    Row {
        name: "Limits::max_frame",
        set: |world| world.with(|it| it.limits(Limits::default().max_frame(2))),
        heeded: fails,
    },
    Row {
        name: "Limits::max_fragments",
        set: |world| world.with(|it| it.limits(Limits::default().max_fragments(1))),
        heeded: fails,
    },
    Row {
        name: "Limits::max_message",
        set: |world| world.with(|it| it.limits(Limits::default().max_message(2))),
        heeded: fails,
    },
    Row {
        name: "deflate",
        set: |world| world.with(|it| it.deflate(Deflate::default())),
        heeded: |world, _| world.asked("Sec-WebSocket-Extensions").contains("deflate"),
    },
    Row {
        name: "Config::auto_pong",
        set: |world| world.with(|it| it.auto_pong(false)),
        heeded: |world, outcome| {
            world.ended.recv_timeout(PATIENCE).unwrap();
            outcome.is_ok() && world.pongs.load(Ordering::SeqCst) == 0
        },
    },
    Row {
        name: "Config::open_timeout",
        set: |world| world.unanswered().config(patient().open_timeout(SOON)),
        heeded: times_out,
    },
    Row {
        name: "close_timeout",
        set: |world| world.with(|it| it.close_timeout(Duration::from_secs(50))),
        heeded: echoes,
    },
    Row {
        name: "progress_timeout",
        set: |world| world.with(|it| it.progress_timeout(Duration::from_secs(50))),
        heeded: echoes,
    },
    Row {
        name: "budget",
        set: |world| world.with(|it| it.budget(threadwire::Budget::new(1 << 30))),
        heeded: echoes,
    },
    Row {
        name: "wait_timeout",
        set: |world| world.with(|it| it.wait_timeout(Duration::from_secs(50))),
        heeded: echoes,
    },
    Row {
        name: "keepalive",
        set: |world| world.with(|it| it.keepalive(Keepalive::default())),
        heeded: echoes,
    },
    Row {
        name: "Config::keep_round_trips",
        set: |world| world.with(|it| it.keep_round_trips(true)),
        heeded: echoes,
    },
    Row { name: "max_buffered", set: |world| world.with(|it| it.max_buffered(1 << 20)), heeded: echoes },
    Row { name: "when_full", set: |world| world.with(|it| it.when_full(WhenFull::Close)), heeded: echoes },
    Row { name: "high_watermark", set: |world| world.with(|it| it.high_watermark(1 << 20)), heeded: echoes },
    Row { name: "low_watermark", set: |world| world.with(|it| it.low_watermark(1 << 10)), heeded: echoes },
    Row { name: "throttle", set: |world| world.with(|it| it.throttle(false)), heeded: echoes },
    Row { name: "close_on_error", set: |world| world.with(|it| it.close_on_error(false)), heeded: echoes },
    Row { name: "Config::max_head", set: |world| world.with(|it| it.max_head(10)), heeded: fails },
    Row { name: "Config::max_headers", set: |world| world.with(|it| it.max_headers(1)), heeded: fails },
    Row {
        name: "trace",
        set: |world| {
            let count = world.counter();
            world.with(|it| it.trace(Trace::to(move |_| count())))
        },
        heeded: |world, _| world.has_counted(),
    },
    Row {
        name: "header",
        set: |world| world.client().header("X-Name", "value").unwrap(),
        heeded: |world, _| world.asked("X-Name") == "value",
    },
    Row {
        name: "origin",
        set: |world| world.client().origin("https://example.com").unwrap(),
        heeded: |world, _| world.asked("Origin") == "https://example.com",
    },
    Row {
        name: "user_agent",
        set: |world| world.client().user_agent("test").unwrap(),
        heeded: |world, _| world.asked("User-Agent") == "test",
    },
    Row {
        name: "host",
        set: |world| world.client().host("feed.test").unwrap(),
        heeded: |world, _| world.asked("Host") == "feed.test",
    },
    Row {
        name: "basic_auth",
        set: |world| world.client().basic_auth("user", "secret").unwrap(),
        heeded: |world, _| world.asked("Authorization").starts_with("Basic "),
    },
    Row {
        name: "bearer_auth",
        set: |world| world.client().bearer_auth("token").unwrap(),
        heeded: |world, _| world.asked("Authorization") == "Bearer token",
    },
    Row {
        name: "subprotocols",
        set: |world| world.client().subprotocols(["v1"]).unwrap(),
        heeded: |world, _| world.asked("Sec-WebSocket-Protocol") == "v1",
    },
    Row {
        name: "cookies",
        set: |world| {
            let jar = CookieJar::new();
            assert!(jar.set(&world.serving.url("/"), "a=1").unwrap());
            world.client().cookies(&jar)
        },
        heeded: |world, _| world.asked("Cookie") == "a=1",
    },
    Row {
        name: "headers",
        set: |world| world.client().headers(|| [("X-Name", "fresh")]),
        heeded: |world, _| world.asked("X-Name") == "fresh",
    },
    Row {
        name: "timeouts",
        set: |world| world.unanswered().config(patient()).timeouts(Timeouts::default().upgrade(SOON)),
        heeded: times_out,
    },
    Row {
        name: "Client::redirects",
        set: |world| Client::new(&world.serving.url("/old")).unwrap().config(patient()).redirects(1),
        heeded: echoes,
    },
    Row {
        name: "Client::redirected_headers",
        set: |world| {
            let client = Client::new(&world.serving.url("/old")).unwrap().config(patient());
            client.redirected_headers(["X-Feed"])
        },
        heeded: echoes,
    },
    Row {
        name: "Client::proxy",
        set: |world| {
            world.to.set(world.proxying.addr);
            world.elsewhere().proxy(Proxy::new(&format!("http://{}", world.proxying.addr)).unwrap())
        },
        heeded: |world, _| world.proxying.asked().len() == 1,
    },
    Row {
        name: "Client::resolve",
        set: |world| world.elsewhere().resolve("feed.test", [world.serving.addr]),
        heeded: echoes,
    },
    Row {
        name: "Client::bind",
        set: |world| world.client().bind("127.0.0.7".parse().unwrap()),
        heeded: |world, _| world.asked("from") == "127.0.0.7",
    },
    Row {
        name: "Client::prepare_socket",
        set: |world| {
            let count = world.counter();
            world.client().prepare_socket(move |_, _| {
                count();
                Ok(())
            })
        },
        heeded: |world, _| world.has_counted(),
    },
    Row { name: "Client::nodelay", set: |world| world.client().nodelay(false), heeded: echoes },
    Row {
        name: "Client::open_socket (or over)",
        set: |world| {
            let (addr, count) = (world.serving.addr, world.counter());
            world.elsewhere().open_socket(move |_| {
                count();
                Ok(TcpStream::connect(addr)?.into())
            })
        },
        heeded: |world, _| world.has_counted(),
    },
    Row {
        name: "Client::unix_socket",
        set: |world| world.elsewhere().unix_socket(&world.path),
        heeded: echoes,
    },
    Row {
        name: "a URL of ws+unix",
        set: |world| Client::new(&format!("ws+unix://{}", world.path.display())).unwrap().config(patient()),
        heeded: echoes,
    },
];

/// A way to connect, and what it refuses.
struct Way {
    name: &'static str,
    echo: fn(&World, Client) -> Outcome,
    refuses: &'static [&'static str],
    /// What is the way itself, and so can't be set beside it.
    is: &'static [&'static str],
}

fn over(world: &World, client: Client) -> Client {
    client.over(TcpStream::connect(world.to.get()).unwrap())
}

fn unix(world: &World, client: Client) -> Client {
    client.unix_socket(world.unix())
}

fn listening(_: &World, client: Client) -> Outcome {
    let (tell, told) = mpsc::channel();
    let ws = client.connect(move |ws: &Connection, message: Message<'_>| {
        tell.send(message.to_string()).unwrap();
        ws.close()
    })?;
    ws.send("hello")?;
    ws.wait_closed()?;
    told.try_recv().map_err(|_| Error::Lost)
}

fn in_parts(_: &World, client: Client) -> Outcome {
    let mut ws = blocking::connect_in_parts(&client)?;
    ws.send("hello")?;
    let mut whole = Vec::new();
    if let Some(mut message) = ws.recv()? {
        while let Some(part) = message.next_part()? {
            whole.extend(part);
        }
    }
    ws.close()?;
    Ok(String::from_utf8(whole).unwrap())
}

fn reconnecting(_: &World, client: Client) -> Outcome {
    let (tell, told) = mpsc::channel();
    let reconnect = client.reconnect(Backoff::default().max_attempts(1)).retry_if(|_| false);
    let handle = reconnect.start(move |ws: &Connection, message: Message<'_>| {
        tell.send(message.to_string()).unwrap();
        ws.close()
    });
    wait_until(None, || handle.state().is_final() || handle.send("hello").is_ok())?;
    let change = handle.wait_ended()?;
    drop(handle);
    told.try_recv().map_err(|_| change.cause.and_then(owned).unwrap_or(Error::Lost))
}

/// The error that is the cause, out of what nobody else has any more.
fn owned(cause: Arc<Cause>) -> Option<Error> {
    Arc::into_inner(cause)?.into_error()
}

fn aio_reconnecting(_: &World, client: Client) -> Outcome {
    single().block_on(async {
        let backoff = Backoff::default().max_attempts(1);
        let mut feed = aio::reconnect(&client, backoff).retry_if(|_| false).on_open(|ws| ws.send("hello"));
        let got = match feed.recv().await {
            Ok(message) => message.ok_or(Error::Lost)?,
            Err(error) => {
                let change = feed.handle().last_change();
                drop((feed, error));
                return Err(change.cause.and_then(owned).unwrap_or(Error::Lost));
            }
        };
        feed.handle().close()?;
        while feed.recv().await?.is_some() {}
        Ok(got.to_string())
    })
}

fn over_stream(world: &World, client: Client) -> Outcome {
    single().block_on(async {
        let stream = tokio::net::TcpStream::connect(world.to.get()).await.unwrap();
        let mut ws = aio::connect_over(stream, &client).await?;
        ws.send("hello").await?;
        let got = ws.recv().await?.ok_or(Error::Lost)?;
        ws.close().await?;
        Ok(got.to_string())
    })
}

const NOT_ALONE: &str = "Config::keep_round_trips";
const OF_FRAMES: &str = "Limits::max_frame";
const OVER: &[&str] = &[
    OF_FRAMES,
    "Client::redirected_headers",
    "Client::redirects",
    "Client::resolve",
    "Client::bind",
    "Client::prepare_socket",
    "Client::unix_socket",
];
const AIO_OVER: &[&str] = &[
    NOT_ALONE,
    OF_FRAMES,
    "Client::redirected_headers",
    "Client::redirects",
    "Client::resolve",
    "Client::bind",
    "Client::prepare_socket",
    "Client::unix_socket",
];
const UNIX: &[&str] = &[
    OF_FRAMES,
    "Client::redirected_headers",
    "Client::redirects",
    "Client::proxy",
    "Client::resolve",
    "Client::bind",
    "Client::prepare_socket",
    "Client::nodelay",
];
const AIO_UNIX: &[&str] = &[
    NOT_ALONE,
    OF_FRAMES,
    "Client::redirected_headers",
    "Client::redirects",
    "Client::proxy",
    "Client::resolve",
    "Client::bind",
    "Client::prepare_socket",
    "Client::nodelay",
];
const UNIX_IS: &[&str] = &["Client::unix_socket", "a URL of ws+unix", "Client::open_socket (or over)"];
const OVER_IS: &[&str] = &["Client::open_socket (or over)", "a URL of ws+unix"];

const WAYS: &[Way] = &[
    Way { name: "connect", echo: listening, refuses: &[OF_FRAMES], is: &[] },
    Way {
        name: "blocking::connect",
        echo: |_, client| Face::Blocking.echo(&client, "hello"),
        refuses: &[OF_FRAMES, "Config::auto_pong"],
        is: &[],
    },
    Way {
        name: "connect_in_parts",
        echo: in_parts,
        refuses: &["Config::auto_pong", "Limits::max_message", "Limits::max_fragments"],
        is: &[],
    },
    Way { name: "App", echo: |_, client| Face::App.echo(&client, "hello"), refuses: &[OF_FRAMES], is: &[] },
    Way {
        name: "aio::connect",
        echo: |_, client| Face::Aio.echo(&client, "hello"),
        refuses: &[NOT_ALONE, OF_FRAMES],
        is: &[],
    },
    Way { name: "Client::reconnect", echo: reconnecting, refuses: &[OF_FRAMES], is: &[] },
    Way { name: "aio::reconnect", echo: aio_reconnecting, refuses: &[NOT_ALONE, OF_FRAMES], is: &[] },
    Way {
        name: "aio::connect_over",
        echo: over_stream,
        refuses: &[
            NOT_ALONE,
            OF_FRAMES,
            "Client::redirected_headers",
            "Client::redirects",
            "Client::proxy",
            "Client::resolve",
            "Client::bind",
            "Client::prepare_socket",
            "Client::nodelay",
            "Client::open_socket (or over)",
            "Client::unix_socket",
            "a URL of ws+unix",
        ],
        is: &[],
    },
    Way {
        name: "connect, over",
        echo: |world, client| listening(world, over(world, client)),
        refuses: OVER,
        is: OVER_IS,
    },
    Way {
        name: "aio::connect, over",
        echo: |world, client| Face::Aio.echo(&over(world, client), "hello"),
        refuses: AIO_OVER,
        is: OVER_IS,
    },
    Way {
        name: "connect, Unix",
        echo: |world, client| listening(world, unix(world, client)),
        refuses: UNIX,
        is: UNIX_IS,
    },
    Way {
        name: "aio::connect, Unix",
        echo: |world, client| Face::Aio.echo(&unix(world, client), "hello"),
        refuses: AIO_UNIX,
        is: UNIX_IS,
    },
];

fn refused(outcome: &Result<impl Sized, Error>) -> Option<&SettingError> {
    match outcome {
        Err(Error::Setting(error)) => Some(error),
        _ => None,
    }
}

#[test]
fn each_way_to_connect_heeds_a_setting_or_refuses_it_by_name() {
    let mut wrong = Vec::new();
    for way in WAYS {
        for row in ROWS.iter().filter(|row| !way.is.contains(&row.name)) {
            let told = catch_unwind(|| {
                let (tell, told) = mpsc::channel();
                bounded(move || {
                    let world = World::new();
                    let client = (row.set)(&world);
                    let outcome = (way.echo)(&world, client);
                    let refused = refused(&outcome).map(|error| error.setting);
                    let is_right = match way.refuses.contains(&row.name) {
                        true => refused == Some(row.name),
                        false => refused.is_none() && (row.heeded)(&world, &outcome),
                    };
                    tell.send((is_right, format!("{outcome:?}"))).unwrap();
                });
                told.recv().unwrap()
            });
            match told {
                Ok((true, _)) => {}
                Ok((false, outcome)) => wrong.push(format!("{}, {}: {outcome}", way.name, row.name)),
                Err(_) => wrong.push(format!("{}, {}: panicked", way.name, row.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The fields that a value prints.
fn fields(debug: &str) -> Vec<String> {
    let mut depth = 0;
    let mut fields = Vec::new();
    for line in debug.lines() {
        if depth == 1
            && let Some((name, _)) = line.trim().split_once(": ")
        {
            fields.push(name.to_owned());
        }
        let opened = line.ends_with(['{', '(', '[']);
        let closed = line.trim_start().starts_with(['}', ')', ']']);
        depth += i32::from(opened) - i32::from(closed);
    }
    fields
}

#[test]
fn no_setting_of_a_connection_is_left_out() {
    let config = fields(&format!("{:#?}", Config::default()));
    let limits = fields(&format!("{:#?}", Limits::default()));
    assert!(config.len() > 10 && limits.len() > 2, "{config:?} {limits:?}");
    for field in config.iter().chain(&limits).filter(|field| *field != "limits") {
        assert!(ROWS.iter().any(|row| row.name.split("::").last() == Some(field)), "{field}");
    }
}

#[test]
fn an_error_says_what_is_set_where_and_what_to_do() {
    bounded(|| {
        let (here, _there) = UnixStream::pair().unwrap();
        let proxy = Proxy::new("http://proxy.example").unwrap();
        let client =
            Client::new("ws://localhost/").unwrap().over(here).unix_socket("/run/feed.sock").proxy(proxy);
        let error = Face::Listener.fails(&client);
        let said = "Client::open_socket (or over) can't heed Client::unix_socket: there are two sockets then: leave one out";
        assert_eq!(error.to_string(), said);
        assert!(!error.is_transient());
    });
}

#[test]
fn an_app_that_does_not_reconnect_refuses_what_is_about_the_connections_that_follow() {
    bounded(|| {
        let app = || App::new("ws://localhost/").unwrap();
        for (mut app, name) in [
            (app().retry_if(|_| true), "App::retry_if"),
            (app().slower_than(Duration::from_secs(1), 1), "App::slower_than"),
        ] {
            assert_eq!(refused(&app.run_forever()).map(|error| error.setting), Some(name));
            let mut app = app.reconnect(Backoff::default());
            app.handle().close().unwrap();
            app.run_forever().unwrap();
        }
    });
}

/// What a way to serve says to settings of connections.
struct Serves {
    name: &'static str,
    begin: fn(Config) -> Result<(), Error>,
    refuses: &'static [&'static str],
}

const SERVES: &[Serves] = &[
    Serves {
        name: "Server::serve",
        begin: |config| {
            let running = bind().config(config).serve(|_| Reply::with(echo))?;
            running.stop();
            running.join()
        },
        refuses: &[],
    },
    Serves {
        name: "Server::run",
        begin: |config| {
            let server = bind().config(config);
            server.stopper().stop();
            server.run(|_| Reply::with(echo))
        },
        refuses: &[],
    },
    Serves {
        name: "blocking::Server::serve",
        begin: |config| {
            let serving = blocking::Server::bind("127.0.0.1:0")?.config(config).serve(1, |_| Ok(()))?;
            serving.stop();
            serving.join()
        },
        refuses: &[OF_FRAMES, "Config::auto_pong"],
    },
    Serves {
        name: "blocking::Server::accept",
        begin: |config| {
            let mut server = blocking::Server::bind("127.0.0.1:0")?.config(config);
            server.stop();
            stopped(server.accept())
        },
        refuses: &[OF_FRAMES, "Config::auto_pong"],
    },
    Serves {
        name: "aio::Server::accept",
        begin: |config| {
            several().block_on(async {
                let mut server = aio::Server::bind("127.0.0.1:0").await?.config(config);
                server.stopper().stop();
                stopped(server.accept().await)
            })
        },
        refuses: &[NOT_ALONE, OF_FRAMES],
    },
    Serves {
        name: "aio::Server::serve",
        begin: |config| {
            several().block_on(async {
                let server = aio::Server::bind("127.0.0.1:0").await?.config(config);
                server.serve_until(async {}, |_, _| async {}).await
            })
        },
        refuses: &[NOT_ALONE, OF_FRAMES],
    },
    Serves {
        name: "aio::accept_over",
        begin: |config| {
            several().block_on(async {
                let (here, there) = tokio::io::duplex(4096);
                drop(there);
                match aio::accept_over(here, config).await {
                    Err(Error::Lost | Error::Io(_)) => Ok(()),
                    Err(error) => Err(error),
                    Ok(_) => panic!("nobody asked"),
                }
            })
        },
        refuses: &[NOT_ALONE, OF_FRAMES],
    },
    #[cfg(feature = "axum")]
    Serves {
        name: "aio::Upgrade",
        begin: upgrade,
        refuses: &[NOT_ALONE, OF_FRAMES, "Config::open_timeout", "Config::max_head", "Config::max_headers"],
    },
];

/// What is no failure to begin.
fn stopped(accepted: Result<impl Sized, Error>) -> Result<(), Error> {
    match accepted {
        Err(Error::Stopped) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => panic!("nobody asked"),
    }
}

/// Answers a request of axum's.
#[cfg(feature = "axum")]
fn upgrade(config: Config) -> Result<(), Error> {
    use axum::response::IntoResponse;
    single().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/", listener.local_addr()?);
        let (tell, told) = mpsc::channel();
        let answer = move |upgrade: aio::Upgrade| async move {
            let upgrade = upgrade.config(config);
            tell.send(refused(&upgrade).cloned()).unwrap();
            match upgrade {
                Ok(upgrade) => upgrade.on_upgrade(|_| async {}),
                Err(error) => error.to_string().into_response(),
            }
        };
        let app = axum::Router::new().route("/", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let _connected = aio::connect(&url).await;
        told.recv().unwrap().map_or(Ok(()), |error| Err(error.into()))
    })
}

#[test]
fn each_way_to_serve_refuses_by_name_what_it_does_not_heed() {
    type Set = fn(Config) -> Config;
    let settings: &[(&str, Set)] = &[
        (OF_FRAMES, |it| it.limits(Limits::default().max_frame(2))),
        ("Limits::max_message", |it| it.limits(Limits::default().max_message(2))),
        ("deflate", |it| it.deflate(Deflate::default())),
        ("Config::auto_pong", |it| it.auto_pong(false)),
        ("Config::open_timeout", |it| it.open_timeout(SOON)),
        ("close_timeout", |it| it.close_timeout(SOON)),
        ("keepalive", |it| it.keepalive(Keepalive::default()).keep_round_trips(true)),
        (NOT_ALONE, |it| it.keep_round_trips(true)),
        ("max_buffered", |it| it.max_buffered(1)),
        ("when_full", |it| it.when_full(WhenFull::Close)),
        ("high_watermark", |it| it.high_watermark(1)),
        ("low_watermark", |it| it.low_watermark(1)),
        ("throttle", |it| it.throttle(false)),
        ("Config::max_head", |it| it.max_head(1000)),
        ("Config::max_headers", |it| it.max_headers(20)),
        ("trace", |it| it.trace(Trace::to(|_| ()))),
    ];
    bounded(move || {
        for way in SERVES {
            for (name, set) in settings {
                let begun = (way.begin)(set(Config::default()));
                match way.refuses.contains(name) {
                    true => {
                        assert_eq!(refused(&begun).map(|error| error.setting), Some(*name), "{}", way.name)
                    }
                    false => assert!(begun.is_ok(), "{}, {name}: {begun:?}", way.name),
                }
            }
        }
    });
}

#[test]
fn a_send_that_waits_by_default_does_what_the_connection_says_where_it_says_something() {
    const MESSAGE: &[u8] = &[1; 10_000];
    let config = || patient().max_buffered(20_000).when_full(WhenFull::DropNewest);
    // The peers read nothing. What waited would wait for ever.
    bounded(move || {
        let (mut ws, _peer) = drive::blocking::open(config());
        while ws.connection().dropped() == 0 {
            ws.send(MESSAGE).unwrap();
        }
        let dropped = ws.connection().dropped();
        // The system may have made room meanwhile.
        while ws.connection().dropped() == dropped {
            ws.send_with(MESSAGE, Compress::Never).unwrap();
        }
        ws.connection().abort();
    });
    bounded(move || {
        let (ws, _peer) = drive::blocking::open(config());
        let (sender, ws) = ws.split();
        while ws.connection().dropped() == 0 {
            sender.send(MESSAGE).unwrap();
        }
        ws.connection().abort();
    });
    bounded(move || {
        let (client, peer) = drive::client(config().when_full(WhenFull::Close));
        let mut ws = blocking::connect_in_parts(&client).unwrap();
        let _peer = peer.join().unwrap();
        let refused = std::iter::repeat_with(|| ws.send(MESSAGE)).find_map(Result::err);
        assert!(matches!(refused, Some(Error::Limit(_))), "{refused:?}");
        ws.handle().abort();
    });
    bounded(move || {
        several().block_on(async {
            let (ws, _peer) = drive::aio::open(config()).await;
            while ws.dropped() == 0 {
                ws.send(MESSAGE).await.unwrap();
            }
            let (sender, _receiver) = ws.split();
            let dropped = sender.handle().dropped();
            while sender.handle().dropped() == dropped {
                sender.send(MESSAGE).await.unwrap();
            }
            sender.handle().abort();
        });
    });
}

#[test]
fn a_stream_that_is_there_speaks_tls_where_the_url_says_so() {
    bounded(|| {
        let (secure, authority) = Secure::trusted();
        single().block_on(async {
            let connect = async |client: Client| {
                let stream = tokio::net::TcpStream::connect(secure.addr()).await.unwrap();
                aio::connect_over(stream, &client).await
            };
            let mut ws = connect(secure.client(authority.trusted())).await.unwrap();
            ws.send("hello").await.unwrap();
            assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
            let unknown = Authority::new("nobody");
            let refused = connect(secure.client(unknown.trusted())).await;
            assert!(matches!(refused, Err(Error::Tls(_))), "{refused:?}");
        });
    });
}
