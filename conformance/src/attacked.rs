//! Servers to be attacked, one of each face that has servers: an echo at `/`, answers that are longer than requests at `/long`, and a
//! room at `/room`, all on one thread.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};
use threadwire::blocking::{Select, Selected};
use threadwire::worker::EventLoop;
use threadwire::{Config, Connection, Deflate, Error, Message, Reply, Room, Server, WhenFull, aio, blocking};
use tokio::runtime::Builder;

/// A server to be attacked, until SIGTERM or Ctrl-C: see conformance/attacks.
#[derive(Args)]
pub(crate) struct Attacked {
    #[arg(long, value_enum)]
    face: Face,
    /// Where to listen; port 0 has the system choose one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Face {
    Listener,
    Blocking,
    Aio,
}

/// The length of an answer at `/long`.
const LONG: usize = 20 << 10;

/// What is longer than that is inflated only, at `/long`; the blocking server does not know the path of a message.
const BOMB: usize = 10 << 20;

/// The defaults, but for times that would make a run long, and room that takes long to fill.
fn config() -> Config {
    let second = Duration::from_secs(1);
    let config = Config::default().deflate(Deflate::default()).max_buffered(1 << 20).wait_timeout(second);
    config.progress_timeout(3 * second).close_timeout(second).open_timeout(3 * second)
}

impl Attacked {
    pub(crate) fn run(self) -> Result<(), Error> {
        match self.face {
            Face::Listener => serve_listeners(&self.listen),
            Face::Blocking => serve_blocking(&self.listen),
            Face::Aio => serve_tasks(&self.listen),
        }
    }
}

fn serve_listeners(listen: &str) -> Result<(), Error> {
    let room = Room::new();
    let server =
        Server::bind(listen)?.config(config()).workers(1).serve(move |request| match request.path() {
            "/long" => {
                Reply::with(|ws: &Connection, _: Message<'_>| ws.send_with(&[7; LONG], WhenFull::Wait))
            }
            "/room" => Reply::with(Member { room: room.clone() }),
            _ => Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
        })?;
    let stopper = server.stopper();
    ctrlc::set_handler(move || stopper.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr().map_err(Error::other)?);
    server.join()
}

/// Says what it hears to the room.
struct Member {
    room: Room,
}

impl threadwire::Listener for Member {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.room.join_with(ws, WhenFull::DropOldest);
        Ok(())
    }

    fn on_message(&mut self, _: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.room.send(message);
        Ok(())
    }
}

/// All connections in one `Select`. There a send that waits would hold up everybody, as the program itself does, so none does.
fn serve_blocking(listen: &str) -> Result<(), Error> {
    let server = blocking::Server::bind(listen)?.config(config().when_full(WhenFull::Close));
    let remote = EventLoop::current().remote();
    ctrlc::set_handler(move || remote.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr().map_err(Error::other)?);
    let mut select = Select::new();
    select.serve(server);
    loop {
        match select.recv() {
            Ok(Some((key, Selected::Message(message)))) => {
                // A bomb is not thrown back. What became of the peer is told by its end.
                let _ = match message.len() {
                    ..=BOMB => select[key].send(&message),
                    _ => select[key].send(&[7; LONG]),
                };
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Error::Stopped) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn serve_tasks(listen: &str) -> Result<(), Error> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    ctrlc::set_handler(move || drop(stop.take())).map_err(Error::other)?;
    let members: Arc<Mutex<Vec<aio::Handle>>> = Arc::default();
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let server = aio::Server::bind(listen).await?.config(config());
        println!("listening on ws://{}", server.local_addr()?);
        let serve = move |request: threadwire::Request, mut ws: aio::Connection| {
            let members = Arc::clone(&members);
            async move {
                let path = request.path().to_owned();
                if path == "/room" {
                    let mut members = members.lock().unwrap_or_else(|error| error.into_inner());
                    members.retain(aio::Handle::is_open);
                    members.push(ws.handle());
                }
                while let Ok(Some(message)) = ws.recv().await {
                    let sent = match path.as_str() {
                        "/long" => ws.send(&[7; LONG]).await,
                        "/room" => {
                            let members = members.lock().unwrap_or_else(|error| error.into_inner()).clone();
                            aio::broadcast_with(&members, &message, WhenFull::DropOldest);
                            Ok(())
                        }
                        _ => ws.send(&message).await,
                    };
                    if sent.is_err() {
                        break;
                    }
                }
            }
        };
        server.serve_until(stopped, serve).await
    })
}
