//! The `idle` command: what a connection costs that does nothing.

use crate::client;
use crate::fail;
use crate::fail::Result;
use crate::frame::BINARY;
use crate::measure;
use crate::pin;
use crate::process::{self, Server};
use crate::scenario::Filter;
use std::thread;
use std::time::Duration;

/// Files that each of the two processes has open besides the connections.
const OTHER_FILES: u64 = 100;
/// How long the last echo is past when memory is read.
const SETTLE: Duration = Duration::from_millis(200);
/// One connection in so many is used again after the measurement, to see that they were still open.
const SAMPLE: usize = 100;

/// What to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many connections are opened to each server.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    connections: u32,
    /// Only servers with this part in their name. May be repeated.
    #[arg(long, value_name = "SERVER")]
    only: Vec<String>,
    /// One more server: a command that serves 127.0.0.1 at {port}. Its heap is not known. May be repeated.
    #[arg(long, value_name = "NAME=COMMAND")]
    server: Vec<Server>,
    /// Connections in TLS.
    #[arg(long)]
    tls: bool,
    /// Prints the table for a document instead of the one for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// Bytes per idle connection.
struct Cost {
    /// Allocated by the server; unknown of a server that is a command.
    heap: Option<f64>,
    /// In memory.
    resident: f64,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    pin::pin(cores.load)?;
    process::allow_files(u64::from(options.connections) + OTHER_FILES)?;
    let filters: Vec<Filter> =
        options.only.iter().filter_map(|server| format!("/{server}").parse().ok()).collect();
    let mut servers = Server::all(&options.server, options.tls)?;
    servers.retain(|server| Filter::admits(&filters, "", &server.name));
    if servers.is_empty() {
        return Err(fail!("no server has a name like that"));
    }
    let width = servers.iter().map(|server| server.name.len()).max().unwrap_or(0).max(8);
    if options.markdown {
        println!(
            "| Bytes per idle connection, of {} | heap | resident |\n| --- | --: | --: |",
            options.connections
        );
    } else {
        println!(
            "bytes per idle connection, of {}\n{:width$}    heap  resident",
            options.connections, "server"
        );
    }
    for server in servers {
        let cost = measure(&server, cores.server, options.connections as usize, options.tls);
        let Cost { heap, resident } = cost.map_err(|error| fail!("{}: {error}", server.name))?;
        let heap = heap.map_or("?".to_owned(), |heap| format!("{heap:.0}"));
        if options.markdown {
            println!("| {} | {heap} | {resident:.0} |", server.name);
        } else {
            println!("{:width$}  {heap:>6}  {resident:>8.0}", server.name);
        }
    }
    Ok(())
}

fn measure(server: &Server, core: usize, count: usize, tls: bool) -> Result<Cost> {
    let mut running = server.start(core, true)?;
    // What a server allocates once, for the first connection, is not the price of one more.
    let mut first = client::connect_by(running.port, tls)?;
    client::echo(&mut first, BINARY, b"twenty bytes of load")?;
    thread::sleep(SETTLE);
    let (heap, resident) = (running.heap()?, measure::resident(running.id())?);

    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = client::connect_by(running.port, tls)?;
        client::echo(&mut stream, BINARY, b"twenty bytes of load")?;
        connections.push(stream);
    }
    thread::sleep(SETTLE);
    let (heap_after, resident_after) = (running.heap()?, measure::resident(running.id())?);
    for stream in connections.iter_mut().step_by(SAMPLE) {
        client::echo(stream, BINARY, b"twenty bytes of load")
            .map_err(|error| fail!("an idle connection: {error}"))?;
    }
    Ok(Cost {
        heap: heap.zip(heap_after).map(|(before, after)| (after - before) as f64 / count as f64),
        resident: (resident_after as f64 - resident as f64) / count as f64,
    })
}
