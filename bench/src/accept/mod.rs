//! The `accept` command: connections that come, upgrade and go, and what each of them costs the server.

mod load;
mod table;

use crate::client;
use crate::echo::seconds;
use crate::fail;
use crate::fail::Result;
use crate::measure;
use crate::pin::{self, Cores};
use crate::process::{self, Running, Server};
use crate::scenario::Filter;
use crate::servers::BASELINE;
use load::{Load, Outcome};
use std::thread;
use std::time::Duration;

/// Load after each start of a server, which is not counted.
const WARM_UP: Duration = Duration::from_millis(100);
/// Seconds for which a server is loaded before it is the next one's turn, at most.
const SLICE: f64 = 0.1;
/// After the last connection a server has at most this to do until it sleeps.
const SETTLE: Duration = Duration::from_millis(5);
/// How many connections are under way at the same time.
const PARALLEL: [usize; 2] = [1, 64];
/// Files that each of the two processes may have open.
const FILES: u64 = 1024;

/// The reported figures.
pub(crate) const ABOUT: &str = "Each connection is opened, upgraded, closed by the client with 1000, and ended by the server; \
                                then the next one comes. Where the load's core is busy, as it is in most of this, connections \
                                per second say what both sides cost together; the CPU time is the server's alone.";

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each server is measured.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for which it is loaded each time.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
    /// Only servers with this part in their name; the baseline is always there. May be repeated.
    #[arg(long, value_name = "SERVER")]
    only: Vec<String>,
    /// One more server: a command that serves 127.0.0.1 at {port}. May be repeated.
    #[arg(long, value_name = "NAME=COMMAND")]
    server: Vec<Server>,
    /// Connections in TLS, each with a whole handshake.
    #[arg(long)]
    tls: bool,
    /// Prints the table for a document instead of the one for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// One server in one round.
struct Measurement {
    server: String,
    outcome: Outcome,
    /// Nanoseconds of CPU the server took, in user and kernel mode.
    server_cpu: u64,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    pin::pin(cores.load)?;
    process::allow_files(FILES)?;
    let filters: Vec<Filter> =
        options.only.iter().filter_map(|server| format!("/{server}").parse().ok()).collect();
    let mut servers = Server::all(&options.server, options.tls)?;
    servers.retain(|server| server.name == BASELINE || Filter::admits(&filters, "", &server.name));
    for server in &servers {
        let result =
            server.start(cores.server, false).and_then(|running| client::check(running.port, options.tls));
        result.map_err(|error| fail!("{} does not work: {error}", server.name))?;
    }
    for parallel in PARALLEL {
        let mut measurements = Vec::new();
        for number in 0..options.rounds as usize {
            measurements.extend(round(number, &servers, parallel, cores, options)?);
        }
        print!("{}", table::of(&measurements, parallel, options.markdown));
    }
    Ok(())
}

/// Measures each server for `seconds`, in a new process. They take turns in slices, so that what disturbs the machine disturbs all.
fn round(
    number: usize,
    servers: &[Server],
    parallel: usize,
    cores: Cores,
    options: &Options,
) -> Result<Vec<Measurement>> {
    let slices = (options.seconds / SLICE).ceil() as u32;
    let slice = Duration::from_secs_f64(options.seconds) / slices;
    let start = |server: &Server| {
        Turn::start(server, parallel, cores.server, options.tls)
            .map_err(|error| fail!("{}: {error}", server.name))
    };
    let mut turns = servers.iter().map(start).collect::<Result<Vec<Turn>>>()?;
    for at in 0..slices as usize {
        for turn in 0..turns.len() {
            // Rotated, so that no server is always the first.
            let turn = (turn + at + number) % servers.len();
            turns[turn].run(slice).map_err(|error| fail!("{}: {error}", servers[turn].name))?;
        }
    }
    let measurements = turns.into_iter().zip(servers).map(|(turn, server)| Measurement {
        server: server.name.clone(),
        outcome: turn.total,
        server_cpu: turn.server_cpu,
    });
    Ok(measurements.collect())
}

/// A server of a round, and what it has done so far.
struct Turn {
    running: Running,
    load: Load,
    total: Outcome,
    server_cpu: u64,
}

impl Turn {
    fn start(server: &Server, parallel: usize, core: usize, tls: bool) -> Result<Turn> {
        let running = server.start(core, false)?;
        let mut load = Load::new(running.port, parallel, tls)?;
        load.run(WARM_UP)?;
        Ok(Turn { running, load, total: Outcome::default(), server_cpu: 0 })
    }

    fn run(&mut self, slice: Duration) -> Result<()> {
        thread::sleep(SETTLE);
        let before = measure::cpu_time(self.running.id())?;
        let outcome = self.load.run(slice)?;
        thread::sleep(SETTLE);
        self.server_cpu += measure::cpu_time(self.running.id())? - before;
        self.total.add(&outcome);
        Ok(())
    }
}
