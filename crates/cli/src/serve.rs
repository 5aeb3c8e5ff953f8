//! `threadwire serve`

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use threadwire::{Accept, Config, Connection, Error, Message, Running, Server};

/// Leaves time to spare within the second in which the server ends.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(700);

#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 has the system choose one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: String,
    /// How many threads serve the connections.
    #[arg(long, value_name = "N", default_value = "1")]
    workers: NonZeroUsize,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match start(options).and_then(Running::join) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fail(&error),
    }
}

fn start(options: &Options) -> Result<Running, Error> {
    let config = Config { close_timeout: CLOSE_TIMEOUT, ..Config::default() };
    let server = Server::bind(options.listen.as_str())?
        .workers(options.workers.get())
        .config(config)
        .serve(|_request| Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
    let stopper = server.stopper();
    ctrlc::set_handler(move || stopper.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr());
    Ok(server)
}
