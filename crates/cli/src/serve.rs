//! `threadwire serve`

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use threadwire::tls::Pem;
use threadwire::{Accept, Connection, Error, Message, Server, ServerTls, Shutdown, ShutdownReport, Stopper};

/// Leaves time to spare within the second in which the server ends.
const TIMEOUT: Duration = Duration::from_millis(700);

/// As shells report a command that a Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 has the system choose one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: String,
    /// How many threads serve the connections.
    #[arg(long, value_name = "N", default_value = "1")]
    workers: NonZeroUsize,
    /// Speak TLS, with the certificate and its chain in this file (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// A shutdown that was begun, on a thread of its own so that the next signal is heard.
type Shutting = Arc<Mutex<Option<JoinHandle<Result<ShutdownReport, Error>>>>>;

pub(crate) fn run(options: &Options) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error),
    }
}

fn serve(options: &Options) -> Result<(), Error> {
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(chain), Some(key)) => Some(ServerTls::new(Pem::file(chain), Pem::file(key))?),
        _ => None,
    };
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    let mut server = Server::bind(options.listen.as_str())?.workers(options.workers.get());
    if let Some(tls) = tls {
        server = server.tls(tls);
    }
    let server =
        server.serve(|_request| Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
    let shutting = Shutting::default();
    let (signalled, stopper) = (Arc::clone(&shutting), server.stopper());
    ctrlc::set_handler(move || on_signal(&signalled, &stopper)).map_err(Error::other)?;
    println!("listening on {scheme}://{}", server.local_addr());
    server.join()?;
    let shutting = shutting.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Ok(report)) = shutting.map(JoinHandle::join) {
        print(&report?);
    }
    Ok(())
}

/// The first signal shuts down, and the second ends it at once.
fn on_signal(shutting: &Shutting, stopper: &Stopper) {
    let mut shutting = shutting.lock().unwrap_or_else(PoisonError::into_inner);
    if shutting.is_some() {
        std::process::exit(INTERRUPTED);
    }
    let stopper = stopper.clone();
    *shutting =
        Some(thread::spawn(move || stopper.shutdown(Shutdown { timeout: TIMEOUT, ..Shutdown::default() })));
}

/// Says who did not answer. All going well, there is nothing to say.
fn print(report: &ShutdownReport) {
    if report.is_clean() {
        return;
    }
    eprintln!("{report}");
    for peer in &report.unanswered {
        eprintln!("  {peer}");
    }
    for worker in &report.stuck {
        eprintln!("  {} is stuck, with {} connections", worker.name, worker.connections);
    }
}
