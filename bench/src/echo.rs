//! The `echo` command: all servers through all scenarios, in interleaved rounds.

use crate::client;
use crate::fail;
use crate::fail::Result;
use crate::load::{Load, Outcome};
use crate::measure;
use crate::pin::{self, Cores};
use crate::process::{Running, Server};
use crate::report::{self, Measurement, Results};
use crate::scenario::{self, Filter, Scenario};
use crate::servers::BASELINE;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Load after each start of a server, which is not counted.
const WARM_UP: Duration = Duration::from_millis(100);
/// Seconds for which a server is loaded before it is the next one's turn, at most.
const SLICE: f64 = 0.1;
/// Time to start a server, to connect to it and to end it, for the announcement.
const AROUND: Duration = Duration::from_millis(60);
/// After the last echo a server has at most this to do until it sleeps.
const SETTLE: Duration = Duration::from_millis(2);

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each server is measured in each scenario.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for which it is loaded each time.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
    /// Only scenarios and servers with these parts in their names: SCENARIO, SCENARIO/SERVER or /SERVER, for instance
    /// `64x16`, `utf8/tokio-tungstenite` or `/fastwebsockets`; the baseline is always there. May be repeated.
    #[arg(long, value_name = "FILTER")]
    only: Vec<Filter>,
    /// One more server: a command that serves 127.0.0.1 at {port}, for instance
    /// `--server "python=python3 echo.py {port}"`. May be repeated.
    #[arg(long, value_name = "NAME=COMMAND")]
    server: Vec<Server>,
    /// Through TLS, beside a raw server that uses rustls itself.
    #[arg(long)]
    tls: bool,
    /// Writes all measurements to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints the tables for a document instead of those for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// Reads the value of `--seconds`.
pub(crate) fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.01 to 60".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    pin::pin(cores.load)?;
    let servers = Server::all(&options.server, options.tls)?;
    let plan: Vec<(Scenario, Vec<&Server>)> = scenario::all()
        .into_iter()
        .filter_map(|scenario| selected(scenario, &servers, &options.only))
        .collect();
    if plan.is_empty() {
        return Err(fail!("no scenario or server has a name like that"));
    }
    announce(options, &plan, cores);
    check(&plan, cores, options.tls)?;

    let mut results = Results::new(options.rounds, options.seconds, cores);
    for (scenario, servers) in &plan {
        let parts = scenario.parts();
        for number in 0..(options.rounds * parts) as usize {
            let seconds = options.seconds / f64::from(parts);
            results.measurements.extend(round(
                number,
                servers,
                scenario,
                cores,
                Each { seconds, tls: options.tls },
            )?);
        }
        if options.markdown {
            eprintln!("{scenario} is done");
        } else {
            print!("{}", report::table(&results, *scenario));
        }
    }
    if options.markdown {
        print!("{}", report::markdown(&results));
    }
    if let Some(path) = &options.json {
        serde_json::to_writer(BufWriter::new(File::create(path)?), &results)?;
    }
    Ok(())
}

/// The servers that the filters leave for a scenario; the baseline is among them if any is.
fn selected<'s>(
    scenario: Scenario,
    servers: &'s [Server],
    filters: &[Filter],
) -> Option<(Scenario, Vec<&'s Server>)> {
    let admitted = |server: &Server| Filter::admits(filters, &scenario.to_string(), &server.name);
    let any = servers.iter().any(admitted);
    let servers = servers.iter().filter(|server| server.name == BASELINE || admitted(server));
    any.then(|| (scenario, servers.collect()))
}

fn announce(options: &Options, plan: &[(Scenario, Vec<&Server>)], cores: Cores) {
    let measured: u32 = plan.iter().map(|(_, servers)| servers.len() as u32).sum();
    let started: u32 = plan.iter().map(|(scenario, servers)| servers.len() as u32 * scenario.parts()).sum();
    let round = Duration::from_secs_f64(options.seconds) * measured + (WARM_UP + AROUND) * started;
    eprintln!(
        "{} scenarios, {} rounds of {} s for each server: about {:.0} s. Server on core {}, load on core {}.",
        plan.len(),
        options.rounds,
        options.seconds,
        (round * options.rounds).as_secs_f64(),
        cores.server,
        cores.load,
    );
}

/// Refuses to measure a server that does not echo.
fn check(plan: &[(Scenario, Vec<&Server>)], cores: Cores, tls: bool) -> Result<()> {
    let mut checked: Vec<&str> = Vec::new();
    for server in plan.iter().flat_map(|(_, servers)| servers) {
        if !checked.contains(&server.name.as_str()) {
            let result =
                server.start(cores.server, false).and_then(|running| client::check(running.port, tls));
            result.map_err(|error| fail!("{} does not work: {error}", server.name))?;
            checked.push(&server.name);
        }
    }
    Ok(())
}

/// How each server is measured.
#[derive(Clone, Copy)]
struct Each {
    seconds: f64,
    tls: bool,
}

/// Measures each server for `seconds`, in a new process; all are ended before this returns.
///
/// They take turns in slices: the speed of a machine wanders in less than a second, and the measurements of a round
/// shall share that. The processes whose turn it is not sleep.
fn round(
    number: usize,
    servers: &[&Server],
    scenario: &Scenario,
    cores: Cores,
    Each { seconds, tls }: Each,
) -> Result<Vec<Measurement>> {
    let slices = (seconds / SLICE).ceil() as u32;
    let slice = Duration::from_secs_f64(seconds) / slices;
    let start = |server: &&Server| {
        Turn::start(server, scenario, cores.server, tls)
            .map_err(|error| fail!("{}, {scenario}: {error}", server.name))
    };
    let mut turns = servers.iter().map(start).collect::<Result<Vec<Turn>>>()?;
    for at in 0..slices as usize {
        for turn in 0..turns.len() {
            // Rotated, so that no server is always the first.
            let turn = (turn + at + number) % servers.len();
            turns[turn].run(slice).map_err(|error| fail!("{}, {scenario}: {error}", servers[turn].name))?;
        }
    }
    let measurements = turns.iter().zip(servers).map(|(turn, server)| Measurement {
        scenario: *scenario,
        server: server.name.clone(),
        round: number,
        messages: turn.total.messages,
        elapsed_ns: turn.total.elapsed.as_nanos() as u64,
        server_cpu_ns: turn.server_cpu,
        load_cpu_ns: turn.total.cpu,
        p50_ns: turn.total.round_trips.value_at_quantile(0.5),
        p99_ns: turn.total.round_trips.value_at_quantile(0.99),
    });
    Ok(measurements.collect())
}

/// A server of a round, and what it has done so far.
struct Turn {
    // Before the server, so that its connections are closed first.
    load: Load,
    running: Running,
    total: Outcome,
    server_cpu: u64,
}

impl Turn {
    fn start(server: &Server, scenario: &Scenario, core: usize, tls: bool) -> Result<Turn> {
        let running = server.start(core, false)?;
        let mut load = Load::connect(running.port, scenario, tls)?;
        load.run(WARM_UP)?;
        Ok(Turn { load, running, total: Outcome::none()?, server_cpu: 0 })
    }

    fn run(&mut self, slice: Duration) -> Result<()> {
        thread::sleep(SETTLE);
        let before = measure::cpu_time(self.running.id())?;
        let outcome = self.load.run(slice)?;
        thread::sleep(SETTLE);
        self.server_cpu += measure::cpu_time(self.running.id())? - before;
        self.total.add(&outcome)
    }
}
