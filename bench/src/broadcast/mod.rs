//! The `broadcast` command: what it costs a server to send one message to many connections.
//!
//! The server is a room: what a member says, all members hear. One of them speaks, and not again before all have heard
//! it: so nothing ever queues, and no two messages leave together.

mod load;
mod raw;
mod threadwire;

#[cfg(feature = "peers")]
mod sockudo_ws;
#[cfg(feature = "peers")]
mod tokio_tungstenite;

use crate::fail;
use crate::fail::Result;
use crate::measure;
use crate::paired::{self, Sample};
use crate::pin::{self, Cores};
use crate::process::{self, Server};
use crate::servers::{Builtin, Outcome};
use load::Load;
use std::thread;
use std::time::Duration;

/// Help text below the options.
pub(crate) const ABOUT: &str = "\
Arms:
  raw         epoll: the message is framed once, and written to one socket after the other; all others are compared with it
  threadwire  callbacks
With the feature `peers` also tokio-tungstenite (with a tokio broadcast channel) and sockudo-ws (with its publish and
subscribe), on runtimes of one thread.
The next message is said when all have heard the one before: deliveries/s depend on the load's core too.
Each number is the median of the rounds, each ratio the median of the rounds' ratios.";

/// Messages after each start of a server, which are not counted.
const WARM_UP: usize = 3;
/// Files that each of the two processes has open besides the connections.
const OTHER_FILES: u64 = 100;
/// After the last delivery a server has at most this to do until it sleeps.
const SETTLE: Duration = Duration::from_millis(2);
/// Time to open and to close a connection, for the announcement.
const OPENING: Duration = Duration::from_micros(130);

/// All servers; the others are compared with the first.
const ARMS: &[Builtin] = &[
    Builtin { name: "raw", run: raw::run, run_in_tls: None },
    Builtin { name: "threadwire", run: threadwire::run, run_in_tls: None },
    #[cfg(feature = "peers")]
    Builtin { name: "tokio-tungstenite", run: tokio_tungstenite::run, run_in_tls: None },
    #[cfg(feature = "peers")]
    Builtin { name: "sockudo-ws", run: sockudo_ws::run, run_in_tls: None },
];

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many connections hear each message. May be repeated.
    #[arg(long, default_values_t = [1000, 5000], value_parser = clap::value_parser!(u32).range(1..=25_000))]
    connections: Vec<u32>,
    /// How often each server is measured with each number of connections.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds for which it is loaded each time, at least: the last message is waited for.
    #[arg(long, default_value_t = 0.3, value_parser = crate::echo::seconds)]
    seconds: f64,
    /// The length of the message: text, of ASCII.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    bytes: u32,
    /// Only servers with this part in their names; raw is always there. May be repeated.
    #[arg(long, value_name = "ARM")]
    only: Vec<String>,
    /// Prints one table for a document instead of those for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// The names of the servers, for the command line.
pub(crate) fn names() -> clap::builder::PossibleValuesParser {
    ARMS.iter().map(|arm| arm.name).collect::<Vec<_>>().into()
}

/// Is the server of an arm.
pub(crate) fn serve(name: &str, port: u16) -> Outcome {
    let arm = ARMS.iter().find(|arm| arm.name == name).ok_or_else(|| fail!("there is no arm {name:?}"))?;
    (arm.run)(port)
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    pin::pin(cores.load)?;
    let most = options.connections.iter().copied().max().unwrap_or(0);
    process::allow_files(u64::from(most) + OTHER_FILES)?;
    let arms = selected(&options.only);
    if arms.is_empty() {
        return Err(fail!("no arm has a name like that"));
    }
    announce(options, arms.len(), cores);
    let names: Vec<&'static str> = arms.iter().map(|arm| arm.name).collect();
    let mut samples = Vec::new();
    for (case, connections) in options.connections.iter().enumerate() {
        for round in 0..options.rounds as usize {
            for turn in 0..arms.len() {
                // Rotated, so that no arm is always the first.
                let arm = arms[(turn + round) % arms.len()];
                let sample = measure(arm, cores, (case, *connections), options);
                samples.push(sample.map_err(|error| fail!("{}: {error}", arm.name))?);
            }
        }
        if options.markdown {
            eprintln!("{connections} connections are done");
        } else {
            let title = format!(
                "{connections} connections, each of which gets every message of {} bytes",
                options.bytes
            );
            print!("{}", paired::table(&samples, &names, (case, &title), ("delivery", "deliveries")));
        }
    }
    if options.markdown {
        let cases = options.connections.iter().map(|connections| format!("{connections} connections"));
        let cases: Vec<(usize, String)> = cases.enumerate().collect();
        let title = format!("Server CPU time per delivery of {} bytes", options.bytes);
        print!("{}", paired::markdown(&samples, &names, &cases, &title));
    }
    Ok(())
}

fn announce(options: &Options, arms: usize, cores: Cores) {
    let opening: Duration = options.connections.iter().map(|connections| OPENING * *connections).sum();
    let seconds = Duration::from_secs_f64(options.seconds) * options.connections.len() as u32;
    eprintln!(
        "{arms} arms, {} rounds of {} s for each: about {:.0} s. Server on core {}, load on core {}.",
        options.rounds,
        options.seconds,
        ((opening + seconds) * options.rounds * arms as u32).as_secs_f64(),
        cores.server,
        cores.load,
    );
}

/// The arms that the filters leave; the first is among them if any is.
fn selected(filters: &[String]) -> Vec<Builtin> {
    let admitted =
        |arm: &Builtin| filters.is_empty() || filters.iter().any(|part| arm.name.contains(part.as_str()));
    if !ARMS.iter().any(admitted) {
        return Vec::new();
    }
    ARMS.iter().enumerate().filter(|(at, arm)| *at == 0 || admitted(arm)).map(|(_, arm)| *arm).collect()
}

/// Starts a server, joins its room and loads it.
fn measure(
    arm: Builtin,
    cores: Cores,
    (case, connections): (usize, u32),
    options: &Options,
) -> Result<Sample> {
    let running = Server::builtin(arm.name, ["broadcast-server", arm.name]).start(cores.server, false)?;
    let mut load = Load::connect(running.port, connections as usize, options.bytes as usize)?;
    for _ in 0..WARM_UP {
        load.say()?;
    }
    thread::sleep(SETTLE);
    let before = measure::cpu_time(running.id())?;
    let outcome = load.run(Duration::from_secs_f64(options.seconds))?;
    thread::sleep(SETTLE);
    let cpu = measure::cpu_time(running.id())? - before;
    let deliveries = (outcome.messages * u64::from(connections)) as f64;
    Ok(Sample {
        arm: arm.name,
        case,
        cpu_ns: cpu as f64 / deliveries,
        per_second: deliveries / outcome.elapsed.as_secs_f64(),
        wire: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn what_a_member_says_all_hear_whatever_the_arm() {
        for arm in ARMS {
            for bytes in [1, 64, 16_384] {
                let port = process::free_port().unwrap();
                // The server ends with the process of the tests.
                thread::spawn(move || (arm.run)(port));
                while TcpStream::connect(("127.0.0.1", port)).is_err() {
                    thread::yield_now();
                }
                let mut load = Load::connect(port, 5, bytes).unwrap();
                for _ in 0..3 {
                    load.say().unwrap_or_else(|error| panic!("{}, {bytes} bytes: {error}", arm.name));
                }
            }
        }
    }

    #[test]
    fn the_first_arm_is_there_whatever_the_filter() {
        let chosen = |filter: &str| -> Vec<&str> {
            selected(&[filter.to_owned()]).iter().map(|arm| arm.name).collect()
        };
        assert_eq!(chosen("wire"), ["raw", "threadwire"]);
        assert!(chosen("nobody").is_empty());
        assert_eq!(selected(&[]).len(), ARMS.len());
    }
}
