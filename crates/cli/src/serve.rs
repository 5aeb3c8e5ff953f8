//! The `threadwire serve` command.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use threadwire::server::{
    Admission, ListenAddr, ListenSocket, Origins, Router, ServerTls, Shutdown, ShutdownReport, Stopper,
};
use threadwire::tls::Pem;
use threadwire::worker::Lock;
use threadwire::{Connection, Error, Message, Reply, Response, Server};

use crate::{signals, terminal};

/// Leaves time to spare within the second in which the server ends.
const TIMEOUT: Duration = Duration::from_millis(700);

#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 has the system choose one. May be repeated. [default: 127.0.0.1:9001, unless there is --unix]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// A path to listen at, as a Unix socket. May be repeated.
    #[arg(long, value_name = "PATH")]
    unix: Vec<PathBuf>,
    /// How many threads serve the connections.
    #[arg(long, value_name = "N", default_value = "1")]
    workers: NonZeroUsize,
    /// Speak TLS, with the certificate and its chain in this file (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The most connections that are open at once; others are answered with 503. [default: no limit]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// An origin whose pages may connect, as https://example.com or https://*.example.com; others are answered with 403, programs that send none are let in.
    /// May be repeated. [default: all]
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// A path that is answered with 200 and plain text, for health checks.
    #[arg(long, value_name = "PATH", default_value = "/healthz")]
    health: String,
}

/// A shutdown that was begun, on a thread of its own so that the next signal is heard.
type Shutting = Arc<Lock<Option<JoinHandle<Result<ShutdownReport, Error>>>>>;

pub(crate) fn run(options: &Options) -> ExitCode {
    let (tls, router) = match tls(options).and_then(|tls| Ok((tls, router(options)?))) {
        Ok(described) => described,
        Err(error) => return crate::fail_usage(&error),
    };
    match serve(options, tls, router) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error),
    }
}

fn tls(options: &Options) -> Result<Option<ServerTls>, Error> {
    match (&options.tls_cert, &options.tls_key) {
        (Some(chain), Some(key)) => ServerTls::new(Pem::file(chain), Pem::file(key)).map(Some),
        _ => Ok(None),
    }
}

fn serve(options: &Options, tls: Option<ServerTls>, router: Router) -> Result<(), Error> {
    // Before there is anybody to close with.
    let (shutting, stopper) = (Shutting::default(), Arc::new(OnceLock::new()));
    let (signalled, to_stop) = (Arc::clone(&shutting), Arc::clone(&stopper));
    signals::on_end(move || on_signal(&signalled, to_stop.get()))?;
    let mut sockets = sockets(options)?.into_iter();
    let Some(first) = sockets.next() else { return Err(Error::other("there is nothing to listen on")) };
    let mut server = sockets.fold(Server::from_socket(first), Server::add_socket);
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    if let Some(tls) = tls {
        server = server.tls(tls);
    }
    let server = server
        .workers(options.workers.get())
        .admission(Admission::default().max_connections(options.max_connections))
        .serve(router.hook())?;
    let _ = stopper.set(server.stopper());
    for addr in server.local_addrs() {
        let shown = match addr {
            ListenAddr::Tcp(addr) => format!("listening on {scheme}://{addr}"),
            addr => format!("listening on {addr}"),
        };
        // It serves all the same, whether or not somebody reads where.
        if let Err(error) = terminal::show(&shown)
            && !terminal::is_closed_pipe(&error)
        {
            crate::fail(&error.into());
        }
    }
    server.join()?;
    let shutting = shutting.lock().take();
    if let Some(Ok(report)) = shutting.map(JoinHandle::join) {
        print(&report?);
    }
    Ok(())
}

fn sockets(options: &Options) -> Result<Vec<ListenSocket>, Error> {
    let is_default = options.listen.is_empty() && options.unix.is_empty();
    let tcp = options.listen.iter().map(String::as_str).chain(is_default.then_some("127.0.0.1:9001"));
    let mut sockets = ListenSocket::tcp_all(tcp)?;
    for path in &options.unix {
        sockets.push(ListenSocket::unix(path)?);
    }
    Ok(sockets)
}

/// Echoes at every path but one.
fn router(options: &Options) -> Result<Router, Error> {
    let well = Response::new(200)?.with_body("well\n");
    let mut router = Router::new().page(&options.health, move |_| well.clone())?;
    if !options.origin.is_empty() {
        router = router.check(Origins::new(&options.origin)?.or_none());
    }
    Ok(router.fallback(|_| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message))))
}

/// The first signal shuts down, and the second ends it at once, as does one that comes before the server is there.
fn on_signal(shutting: &Shutting, stopper: Option<&Stopper>) {
    let mut shutting = shutting.lock();
    let Some(stopper) = stopper.filter(|_| shutting.is_none()).cloned() else {
        std::process::exit(signals::exit_code().into())
    };
    *shutting = Some(thread::spawn(move || stopper.shutdown(Shutdown::default().timeout(TIMEOUT))));
}

/// Says who did not answer. All going well, there is nothing to say.
fn print(report: &ShutdownReport) {
    if report.is_clean() {
        return;
    }
    terminal::say(&report.to_string());
    for peer in &report.unclean {
        terminal::say(&format!("  {peer}"));
    }
    for worker in &report.stuck {
        terminal::say(&format!("  {} is stuck, with {} connections", worker.name, worker.connections));
    }
}
