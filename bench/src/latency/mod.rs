//! The `latency` command: the time of one message to a server and back, with nothing else under way.
//!
//! Client and server of an arm are of the same library, each a process of its own on its own core; this process sleeps
//! meanwhile. The client measures its own round trips.

mod arm;
mod raw;
mod recorder;
mod table;
mod threadwire;

#[cfg(feature = "peers")]
mod fastwebsockets;
#[cfg(feature = "peers")]
mod tokio_tungstenite;

use crate::fail;
use crate::fail::Result;
use crate::measure;
use crate::pin::{self, Cores};
use crate::process::{self, Server};
use arm::{ARMS, Arm};
use recorder::{Outcome, Recorder};
use std::time::Duration;
use table::Sample;

/// Help text below the options.
pub(crate) const ABOUT: &str = "\
Arms:
  raw              blocking sockets on which ready frames are written and read; all others are compared with it
  raw busy         the same, but neither side ever sleeps: the lower bound
  threadwire       callbacks on both sides
  threadwire busy  the same, with loops that poll without sleeping
With the feature `peers` also tokio-tungstenite and fastwebsockets, on both sides, on runtimes of one thread.
A busy arm needs both cores for itself: on a machine that does other work, its slow round trips are that work's.
Each number is the median of the rounds, each ratio the median of the rounds' ratios.";

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
    #[arg(long, default_value_t = 0.5, value_parser = crate::echo::seconds)]
    seconds: f64,
    /// The payload of the messages.
    #[arg(long, default_value_t = 64, value_parser = bytes())]
    bytes: u32,
    /// Only arms with this part in their names; raw is always there. May be repeated.
    #[arg(long, value_name = "ARM")]
    only: Vec<String>,
    /// Prints the table for a document instead of the one for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// The task of one of the two processes of an arm.
#[derive(Debug, clap::Args)]
pub(crate) struct Side {
    /// Of which arm.
    #[arg(value_parser = names())]
    arm: String,
    /// Where the server listens.
    #[arg(long)]
    port: u16,
    /// The payload of the messages.
    #[arg(long, value_parser = bytes())]
    bytes: u32,
}

fn bytes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=65_536)
}

fn names() -> clap::builder::PossibleValuesParser {
    ARMS.iter().map(|arm| arm.name).collect::<Vec<_>>().into()
}

impl Side {
    fn arm(&self) -> Result<Arm> {
        arm::find(&self.arm).ok_or_else(|| fail!("there is no arm {:?}", self.arm))
    }
}

/// Is the server of an arm.
pub(crate) fn serve(side: &Side) -> Result<()> {
    (side.arm()?.server)(side.port, side.bytes as usize)
}

/// Is the client of an arm, for so many seconds, and prints what it has measured.
pub(crate) fn ask(side: &Side, seconds: f64) -> Result<()> {
    let recorder = Recorder::new(Duration::from_secs_f64(seconds))?;
    let recorder = (side.arm()?.client)(side.port, side.bytes as usize, recorder)?;
    println!("{}", serde_json::to_string(&recorder.outcome()?)?);
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
        "{} arms, {} rounds of {} s for each: about {:.0} s. Servers on core {}, clients on core {}.",
        arms.len(),
        options.rounds,
        options.seconds,
        f64::from(options.rounds) * arms.len() as f64 * (options.seconds + AROUND),
        cores.server,
        cores.load,
    );
    let measure = |arm: &Arm, seconds| {
        measure(arm, cores, options.bytes, seconds).map_err(|error| fail!("{}: {error}", arm.name))
    };
    for arm in &arms {
        measure(arm, TRIAL)?;
    }
    let mut samples = Vec::new();
    for round in 0..options.rounds as usize {
        for turn in 0..arms.len() {
            // Rotated, so that no arm is always the first.
            let arm = &arms[(turn + round) % arms.len()];
            let outcome = measure(arm, options.seconds)?;
            samples.push(Sample { arm: arm.name, peer: arm.peer, outcome });
        }
    }
    let names: Vec<&'static str> = arms.iter().map(|arm| arm.name).collect();
    print!("{}", table::table(&samples, &names, options.bytes as usize, options.seconds, options.markdown));
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

/// Runs both processes of an arm.
fn measure(arm: &Arm, cores: Cores, bytes: u32, seconds: f64) -> Result<Outcome> {
    let bytes = bytes.to_string();
    let server = Server::builtin(arm.name, ["latency-server", arm.name, "--bytes", &bytes]);
    let running = server.start(cores.server, false)?;
    let arguments = [
        "latency-client",
        arm.name,
        "--port",
        &running.port.to_string(),
        "--bytes",
        &bytes,
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
    use std::net::TcpStream;
    use std::thread;

    fn chosen(filters: &[&str]) -> Vec<&'static str> {
        let filters: Vec<String> = filters.iter().map(|part| (*part).to_owned()).collect();
        selected(&filters).iter().map(|arm| arm.name).collect()
    }

    #[test]
    fn the_first_arm_is_there_whatever_the_filter() {
        assert_eq!(chosen(&[]).len(), ARMS.len());
        assert_eq!(chosen(&["raw busy"]), ["raw", "raw busy"]);
        assert!(chosen(&["nobody"]).is_empty());
    }

    #[test]
    fn client_and_server_of_every_arm_understand_each_other() {
        for arm in ARMS {
            // A spinning server would spin until the last test ends; otherwise it is the same.
            let server = if arm.name == "threadwire busy" { ARMS[2].server } else { arm.server };
            for bytes in [1, 64, 65_536] {
                let port = process::free_port().unwrap();
                // The server ends with the process of the tests.
                thread::spawn(move || server(port, bytes));
                while TcpStream::connect(("127.0.0.1", port)).is_err() {
                    thread::yield_now();
                }
                let recorder = Recorder::new(Duration::from_millis(1)).unwrap();
                let outcome = (arm.client)(port, bytes, recorder).and_then(|recorder| recorder.outcome());
                assert!(outcome.is_ok_and(|outcome| outcome.count > 0), "{} with {bytes} bytes", arm.name);
            }
        }
    }
}
