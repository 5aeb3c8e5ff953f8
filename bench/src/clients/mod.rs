//! The `clients` command: the cost of a client, against one fast server.
//!
//! Every client talks to the raw server of `echo`, and keeps one message in flight, or sixteen: for each echo it sends
//! another message, as a user of its library would write that. It is a process of its own and measures itself; this
//! process sleeps meanwhile.

mod aio;
mod arm;
mod blocking;
mod listener;
mod meter;
mod raw;
mod table;

#[cfg(feature = "peers")]
mod fastwebsockets;
#[cfg(feature = "peers")]
mod tokio_tungstenite;
#[cfg(feature = "peers")]
mod tungstenite;

use crate::fail;
use crate::fail::Result;
use crate::measure;
use crate::pin::{self, Cores};
use crate::process::{self, Server};
use crate::servers::BASELINE;
use arm::{ARMS, Arm};
use meter::{Meter, Outcome};
use std::time::Duration;
use table::Sample;

/// Help text below the options.
pub(crate) const ABOUT: &str = "\
Arms:
  raw       a blocking socket on which ready frames are written and read; all others are compared with it
  listener  threadwire, callbacks
  blocking  threadwire, recv and send
  aio       threadwire on tokio
With the feature `peers` also tungstenite (blocking), tokio-tungstenite and fastwebsockets, on runtimes of one thread.
Each number is the median of the rounds, each ratio the median of the rounds' ratios.";

/// How many messages a client has in flight.
const IN_FLIGHT: [u32; 2] = [1, 16];
/// Seconds that a client may take longer than it measures.
const LIMIT: f64 = 10.0;
/// Time to start a server and a client, and the client's warm-up: for the announcement.
const AROUND: f64 = 0.1;
/// How long a client measures that shall only show that it can.
const TRIAL: f64 = 0.01;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each arm is measured.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds for which it is measured each time.
    #[arg(long, default_value_t = 0.3, value_parser = crate::echo::seconds)]
    seconds: f64,
    /// The payload of the messages.
    #[arg(long, default_value_t = 64, value_parser = bytes())]
    bytes: u32,
    /// Only arms with this part in their names; raw is always there. May be repeated.
    #[arg(long, value_name = "ARM")]
    only: Vec<String>,
    /// Prints the tables for a document instead of those for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// The task of a client.
#[derive(Debug, clap::Args)]
pub(crate) struct Task {
    /// Of which arm.
    #[arg(value_parser = names())]
    arm: String,
    /// Where the server listens.
    #[arg(long)]
    port: u16,
    /// The payload of the messages.
    #[arg(long, value_parser = bytes())]
    bytes: u32,
    /// How many of them are in flight.
    #[arg(long)]
    in_flight: u32,
    /// For how long it measures.
    #[arg(long)]
    seconds: f64,
}

fn bytes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=65_536)
}

fn names() -> clap::builder::PossibleValuesParser {
    ARMS.iter().map(|arm| arm.name).collect::<Vec<_>>().into()
}

/// Is the client of an arm, and prints what it has measured.
pub(crate) fn ask(task: &Task) -> Result<()> {
    let arm = ARMS.iter().find(|arm| arm.name == task.arm);
    let arm = arm.ok_or_else(|| fail!("there is no arm {:?}", task.arm))?;
    let meter = Meter::new(Duration::from_secs_f64(task.seconds), task.in_flight)?;
    let meter = (arm.client)(task.port, task.bytes as usize, meter)?;
    println!("{}", serde_json::to_string(&meter.outcome()?)?);
    Ok(())
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    let arms = selected(&options.only);
    if arms.is_empty() {
        return Err(fail!("no arm has a name like that"));
    }
    eprintln!(
        "{} arms, {} rounds of {} s with 1 and with 16 in flight: about {:.0} s. Server on core {}, clients on core {}.",
        arms.len(),
        options.rounds,
        options.seconds,
        f64::from(options.rounds) * (arms.len() * IN_FLIGHT.len()) as f64 * (options.seconds + AROUND),
        cores.server,
        cores.load,
    );
    let measure = |arm: &Arm, in_flight, seconds| {
        measure(arm, cores, options.bytes, in_flight, seconds)
            .map_err(|error| fail!("{} with {in_flight} in flight: {error}", arm.name))
    };
    let names: Vec<&'static str> = arms.iter().map(|arm| arm.name).collect();
    for in_flight in IN_FLIGHT {
        for arm in &arms {
            measure(arm, in_flight, TRIAL)?;
        }
        let mut samples = Vec::new();
        for round in 0..options.rounds as usize {
            for turn in 0..arms.len() {
                // Rotated, so that no arm is always the first.
                let arm = &arms[(turn + round) % arms.len()];
                let outcome = measure(arm, in_flight, options.seconds)?;
                samples.push(Sample { arm: arm.name, peer: arm.peer, outcome });
            }
        }
        let title = format!("clients, {in_flight} in flight, {} bytes", options.bytes);
        print!("{}", table::table(&samples, &names, &title, options.markdown));
    }
    Ok(())
}

/// The arms that the filters leave; the first is among them if any is.
fn selected(filters: &[String]) -> Vec<Arm> {
    let admitted =
        |arm: &Arm| filters.is_empty() || filters.iter().any(|part| arm.name.contains(part.as_str()));
    if !ARMS.iter().any(admitted) {
        return Vec::new();
    }
    ARMS.iter().enumerate().filter(|(at, arm)| *at == 0 || admitted(arm)).map(|(_, arm)| *arm).collect()
}

/// Runs a server, and a client of an arm.
fn measure(arm: &Arm, cores: Cores, bytes: u32, in_flight: u32, seconds: f64) -> Result<Outcome> {
    let server = Server::builtin(BASELINE, ["server", BASELINE]);
    let running = server.start(cores.server, false)?;
    let arguments = [
        "clients-client",
        arm.name,
        "--port",
        &running.port.to_string(),
        "--bytes",
        &bytes.to_string(),
        "--in-flight",
        &in_flight.to_string(),
        "--seconds",
        &seconds.to_string(),
    ];
    let printed =
        process::output(cores.load, &arguments.map(str::to_owned), Duration::from_secs_f64(seconds + LIMIT))?;
    Ok(serde_json::from_str(&printed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers;
    use std::net::TcpStream;
    use std::thread;

    fn chosen(filters: &[&str]) -> Vec<&'static str> {
        let filters: Vec<String> = filters.iter().map(|part| (*part).to_owned()).collect();
        selected(&filters).iter().map(|arm| arm.name).collect()
    }

    #[test]
    fn the_first_arm_is_there_whatever_the_filter() {
        assert_eq!(chosen(&[]).len(), ARMS.len());
        assert_eq!(chosen(&["blocking"]), ["raw", "blocking"]);
        assert!(chosen(&["nobody"]).is_empty());
    }

    #[test]
    fn every_client_gets_its_echoes() {
        let port = process::free_port().unwrap();
        let server = servers::find(BASELINE).unwrap().run;
        // The server ends with the process of the tests.
        thread::spawn(move || server(port));
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::yield_now();
        }
        for arm in ARMS {
            for (bytes, in_flight) in [(1, 1), (64, 16), (65_536, 1), (10_000, 16)] {
                let meter = Meter::new(Duration::from_millis(1), in_flight).unwrap();
                let outcome = (arm.client)(port, bytes, meter).and_then(|meter| meter.outcome());
                let count = outcome.unwrap_or_else(|error| panic!("{}: {error}", arm.name)).count;
                assert!(count > 0, "{} with {in_flight} times {bytes} bytes", arm.name);
            }
        }
    }
}
