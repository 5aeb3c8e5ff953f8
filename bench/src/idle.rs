//! The `idle` command: the memory of a connection that does nothing.

use crate::client::{self, Stream};
use crate::deflate;
use crate::deflate::load::Load;
use crate::deflate::market::Kind;
use crate::fail;
use crate::fail::Result;
use crate::frame::BINARY;
use crate::measure;
use crate::pin;
use crate::process::{self, Server};
use crate::scenario::Filter;
use std::iter;
use std::thread;
use std::time::Duration;

/// Files that each of the two processes has open besides the connections.
const OTHER_FILES: u64 = 100;
/// How long the last echo is past when memory is read.
const SETTLE: Duration = Duration::from_millis(200);
/// One connection in so many is used again after the measurement, to see that they were still open.
const SAMPLE: usize = 100;

/// Options of the command.
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
    /// Threadwire's callbacks with compression agreed on and used once on each connection, instead of all other servers: without
    /// and with context takeover. What the engines hold, which all connections share, is not counted to their heap, but told.
    #[arg(long, conflicts_with_all = ["only", "server", "tls"])]
    deflate: bool,
    /// Connections in TLS.
    #[arg(long)]
    tls: bool,
    /// Prints the table for a document instead of the one for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// Bytes per idle connection.
struct Cost {
    /// Allocated by the server, without what all connections share; unknown of a server that is a command.
    heap: Option<f64>,
    /// In memory.
    resident: f64,
    /// Memory of all compression engines.
    engines: Option<i64>,
}

/// A server, and what is spoken with it.
struct Subject {
    name: String,
    server: Server,
    /// Whether that is TLS.
    tls: bool,
    /// If messages are compressed: whether they refer to earlier ones, and what is sent.
    compressed: Option<(bool, Kind)>,
}

impl Subject {
    fn all(options: &Options) -> Result<Vec<Subject>> {
        if options.deflate {
            let all = [
                (false, Kind::Book, "no context takeover"),
                (true, Kind::Trade, "context takeover, 300 B said"),
                (true, Kind::Book, "context takeover, windows full"),
            ];
            let subject = |(takeover, kind, name): (bool, Kind, &str)| Subject {
                name: name.to_owned(),
                server: deflate::server("threadwire", takeover),
                tls: false,
                compressed: Some((takeover, kind)),
            };
            return Ok(all.map(subject).into());
        }
        let filters: Vec<Filter> =
            options.only.iter().filter_map(|server| format!("/{server}").parse().ok()).collect();
        let mut servers = Server::all(&options.server, options.tls)?;
        servers.retain(|server| Filter::admits(&filters, "", &server.name));
        let tls = options.tls;
        let subject = |server: Server| Subject { name: server.name.clone(), server, tls, compressed: None };
        Ok(servers.into_iter().map(subject).collect())
    }
}

/// The connections to a server.
enum Crowd {
    Echoing { streams: Vec<Stream>, tls: bool },
    Compressing { load: Box<Load>, takeover: bool, kind: Kind },
}

impl Crowd {
    /// One connection more, over which a message goes.
    fn join(&mut self, port: u16) -> Result<()> {
        let place = match self {
            Crowd::Echoing { streams, tls } => {
                streams.push(client::connect_by(port, *tls)?);
                streams.len() - 1
            }
            Crowd::Compressing { load, takeover, .. } => load.join(port, *takeover)?,
        };
        self.exchange(place)
    }

    fn exchange(&mut self, place: usize) -> Result<()> {
        match self {
            Crowd::Echoing { streams, .. } => {
                client::echo(&mut streams[place], BINARY, b"twenty bytes of load")
            }
            Crowd::Compressing { load, kind, .. } => load.exchange(iter::once(place), *kind),
        }
    }
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    pin::pin(cores.load)?;
    process::allow_files(u64::from(options.connections) + OTHER_FILES)?;
    let subjects = Subject::all(options)?;
    if subjects.is_empty() {
        return Err(fail!("no server has a name like that"));
    }
    let width = subjects.iter().map(|subject| subject.name.len()).max().unwrap_or(0).max(8);
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
    for subject in subjects {
        let cost = measure(&subject, cores.server, options.connections as usize);
        let Cost { heap, resident, engines } = cost.map_err(|error| fail!("{}: {error}", subject.name))?;
        let heap = heap.map_or("?".to_owned(), |heap| format!("{heap:.0}"));
        if options.markdown {
            println!("| {} | {heap} | {resident:.0} |", subject.name);
        } else {
            println!("{:width$}  {heap:>6}  {resident:>8.0}", subject.name);
        }
        if let Some(engines) = engines.filter(|_| options.deflate) {
            eprintln!("its engines hold {:.1} MiB in all", engines as f64 / f64::from(1 << 20));
        }
    }
    Ok(())
}

fn measure(subject: &Subject, core: usize, count: usize) -> Result<Cost> {
    let mut running = subject.server.start(core, true)?;
    let mut crowd = match subject.compressed {
        None => Crowd::Echoing { streams: Vec::with_capacity(count), tls: subject.tls },
        Some((takeover, kind)) => Crowd::Compressing { load: Box::new(Load::new(count)), takeover, kind },
    };
    // One-time allocations for the first connection don't count for the others.
    crowd.join(running.port)?;
    thread::sleep(SETTLE);
    let (heap, resident) = (running.heap()?, measure::resident(running.id())?);
    let engines = running.engines()?;
    for _ in 0..count {
        crowd.join(running.port)?;
    }
    thread::sleep(SETTLE);
    let (heap_after, resident_after) = (running.heap()?, measure::resident(running.id())?);
    let engines_after = running.engines()?;
    for place in (1..=count).step_by(SAMPLE) {
        crowd.exchange(place).map_err(|error| fail!("an idle connection: {error}"))?;
    }
    let own = |heap: Option<i64>, engines: Option<i64>| Some(heap? - engines.unwrap_or(0));
    Ok(Cost {
        heap: own(heap, engines)
            .zip(own(heap_after, engines_after))
            .map(|(before, after)| (after - before) as f64 / count as f64),
        resident: (resident_after as f64 - resident as f64) / count as f64,
        engines: engines_after,
    })
}
