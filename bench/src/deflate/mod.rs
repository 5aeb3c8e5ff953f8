//! The `deflate` command: the cost of inflating a message and compressing its answer on a server.
//!
//! The server is an echo of messages that are all compressed, both ways. What the codec itself takes is most of it: so the
//! baseline calls the same codec with the same settings, and what is above it is the price of a library.

mod alone;
mod codec;
pub(crate) mod load;
pub(crate) mod market;
mod raw;
mod settings;
mod threadwire;

#[cfg(feature = "peers")]
mod sockudo_ws;
#[cfg(feature = "peers")]
mod yawc;

use crate::fail;
use crate::fail::Result;
use crate::measure;
use crate::paired::{self, Sample};
use crate::pin::{self, Cores};
use crate::process::{self, Server};
use crate::servers::Outcome;
use load::Load;
use market::Kind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Help text below the options.
pub(crate) const ABOUT: &str = "\
Arms:
  raw         epoll and zlib-rs, with engines for each connection: all others are compared with it
  threadwire  callbacks, compression as it is by default
With the feature `peers` also yawc and sockudo-ws, on runtimes of one thread; with --python, Python's websockets.
All at level 1 and with windows of 12 bits; the memory level is 5, and 8 for yawc and sockudo-ws, where it can't be chosen.
`wire` is what the server sends, headers included, as a part of what it stands for.
Each number is the median of the rounds, each ratio the median of the rounds' ratios.";

/// Exchanges after each start of a server, which are not counted: until windows are full and buffers have grown.
const WARM_UP: usize = 20;
/// Files that each of the two processes has open besides the connections.
const OTHER_FILES: u64 = 100;
/// After the last echo a server has at most this to do until it sleeps.
const SETTLE: Duration = Duration::from_millis(2);

/// A server that compresses.
#[derive(Clone, Copy)]
struct Arm {
    name: &'static str,
    /// Serves 127.0.0.1 at this port until the process ends, with or without context takeover.
    run: fn(port: u16, takeover: bool) -> Outcome,
}

/// All servers of this program; the others are compared with the first.
const ARMS: &[Arm] = &[
    Arm { name: "raw", run: raw::run },
    Arm { name: "threadwire", run: threadwire::run },
    #[cfg(feature = "peers")]
    Arm { name: "yawc", run: yawc::run },
    #[cfg(feature = "peers")]
    Arm { name: "sockudo-ws", run: sockudo_ws::run },
];

/// The name of the server that is a script.
const PYTHON: &str = "websockets";
/// Where it is.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/deflate/websockets_echo.py");

/// Whether messages refer to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Takeover {
    /// Both sides keep their window.
    Yes,
    /// Each stands alone.
    No,
    /// One measurement with, one without.
    Both,
}

impl Takeover {
    fn all(self) -> &'static [bool] {
        match self {
            Takeover::Yes => &[true],
            Takeover::No => &[false],
            Takeover::Both => &[true, false],
        }
    }

    /// Whether it says yes; asked of those of which there is one.
    pub(crate) fn is_on(self) -> bool {
        self != Takeover::No
    }
}

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many connections there are, each with one message under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Messages to send: trades of about 300 bytes, order books of about 16 KiB. Both if not given. May be repeated.
    #[arg(long, value_name = "KIND", value_enum)]
    kind: Vec<Kind>,
    /// Whether messages refer to earlier ones.
    #[arg(long, value_enum, default_value = "both")]
    takeover: Takeover,
    /// How often each server is measured in each case.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds for which it is loaded each time, at least: the last messages are waited for.
    #[arg(long, default_value_t = 0.5, value_parser = crate::echo::seconds)]
    seconds: f64,
    /// Only servers with this part in their names; raw is always there. May be repeated.
    #[arg(long, value_name = "ARM")]
    only: Vec<String>,
    /// A Python that has `websockets` installed, which is then measured too.
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Measures no servers but the codec: size, time and memory for each of its settings.
    #[arg(long, conflicts_with_all = ["only", "python", "rounds"])]
    settings: bool,
    /// Prints one table for a document instead of those for a terminal.
    #[arg(long)]
    markdown: bool,
}

/// A server, by the arguments that make it one.
#[derive(Debug, clap::Args)]
pub(crate) struct Side {
    #[arg(value_parser = names())]
    arm: String,
    #[arg(long, value_enum)]
    takeover: Takeover,
    #[arg(long)]
    port: u16,
}

fn names() -> clap::builder::PossibleValuesParser {
    ARMS.iter().map(|arm| arm.name).collect::<Vec<_>>().into()
}

/// Is the server of an arm.
pub(crate) fn serve(side: &Side) -> Outcome {
    let Side { arm: name, takeover, port } = side;
    let arm = ARMS.iter().find(|arm| arm.name == name).ok_or_else(|| fail!("there is no arm {name:?}"))?;
    (arm.run)(*port, takeover.is_on())
}

/// The server of an arm, as a process.
pub(crate) fn server(name: &str, takeover: bool) -> Server {
    Server::builtin(name, ["deflate-server", name, "--takeover", yes_or_no(takeover)])
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// The cases that each server is measured with.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    takeover: bool,
}

impl Case {
    fn title(self) -> String {
        let takeover = if self.takeover { "context takeover" } else { "no context takeover" };
        format!("{}, {takeover}", self.kind.title())
    }
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    measure::supported()?;
    let cores = pin::cores()?;
    pin::pin(cores.load)?;
    let kinds = if options.kind.is_empty() { &Kind::ALL[..] } else { &options.kind };
    let time = Duration::from_secs_f64(options.seconds);
    if options.settings {
        return settings::run(kinds, options.takeover.all(), time, options.markdown);
    }
    process::allow_files(u64::from(options.connections) + OTHER_FILES)?;
    let python = options.python.as_deref();
    let names = selected(&options.only, python.is_some());
    if names.is_empty() {
        return Err(fail!("no arm has a name like that"));
    }
    let cases: Vec<Case> = kinds
        .iter()
        .flat_map(|kind| {
            options.takeover.all().iter().map(|takeover| Case { kind: *kind, takeover: *takeover })
        })
        .collect();
    eprintln!(
        "{} arms, {} rounds of {} s in {} cases: about {:.0} s. Server on core {}, load on core {}.",
        names.len(),
        options.rounds,
        options.seconds,
        cases.len(),
        f64::from(options.rounds) * (options.seconds + 0.1) * (cases.len() * names.len()) as f64,
        cores.server,
        cores.load,
    );
    let mut samples = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        for round in 0..options.rounds as usize {
            for turn in 0..names.len() {
                // Rotated, so that no arm is always the first.
                let name = names[(turn + round) % names.len()];
                let server =
                    if name == PYTHON { script(python, case.takeover)? } else { server(name, case.takeover) };
                let sample = measure(&server, cores, *case, options.connections as usize, time);
                let (cpu_ns, outcome) = sample.map_err(|error| fail!("{name}: {error}"))?;
                let per_second = outcome.messages as f64 / outcome.elapsed.as_secs_f64();
                samples.push(Sample { arm: name, case: place, cpu_ns, per_second, wire: Some(outcome.wire) });
            }
        }
        if options.markdown {
            eprintln!("{} is done", case.title());
        } else {
            let title = format!("{} connections, {}", options.connections, case.title());
            print!("{}", paired::table(&samples, &names, (place, &title), ("message", "messages")));
            let alone = alone::measure(case.kind, case.takeover, options.connections as usize, time)?;
            println!("the codec alone, without sockets: {alone:.0} ns");
        }
    }
    if options.markdown {
        let cases: Vec<_> = cases.iter().map(|case| case.title()).enumerate().collect();
        print!("{}", paired::markdown(&samples, &names, &cases, "Server CPU time per message"));
    }
    Ok(())
}

/// The arms that the filters leave; the first is among them if any is.
fn selected(filters: &[String], python: bool) -> Vec<&'static str> {
    let all: Vec<&'static str> = ARMS.iter().map(|arm| arm.name).chain(python.then_some(PYTHON)).collect();
    let admitted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()));
    if !all.iter().any(|name| admitted(name)) {
        return Vec::new();
    }
    all.iter().enumerate().filter(|(at, name)| *at == 0 || admitted(name)).map(|(_, name)| *name).collect()
}

/// The server that is a script.
fn script(python: Option<&Path>, takeover: bool) -> Result<Server> {
    let python = python.ok_or_else(|| fail!("no --python was given"))?;
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (python, script, takeover) = (quoted(python), quoted(Path::new(SCRIPT)), yes_or_no(takeover));
    Ok(format!("{PYTHON}={python} {script} {{port}} {takeover}").parse()?)
}

/// Starts a server and loads it: nanoseconds of its CPU for one message, and what the load saw.
fn measure(
    server: &Server,
    cores: Cores,
    Case { kind, takeover }: Case,
    connections: usize,
    time: Duration,
) -> Result<(f64, load::Outcome)> {
    let running = server.start(cores.server, false)?;
    let mut load = Load::connect(running.port, connections, takeover)?;
    for _ in 0..WARM_UP {
        load.exchange(0..connections, kind)?;
    }
    thread::sleep(SETTLE);
    let before = measure::cpu_time(running.id())?;
    let outcome = load.run(kind, time)?;
    thread::sleep(SETTLE);
    let cpu = measure::cpu_time(running.id())? - before;
    Ok((cpu as f64 / outcome.messages as f64, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn what_is_said_comes_back_compressed_whatever_the_arm() {
        for arm in ARMS {
            for takeover in [true, false] {
                let port = process::free_port().unwrap();
                // The server ends with the process of the tests.
                thread::spawn(move || (arm.run)(port, takeover));
                while TcpStream::connect(("127.0.0.1", port)).is_err() {
                    thread::yield_now();
                }
                let mut load = Load::connect(port, 3, takeover).unwrap();
                for kind in [Kind::Trade, Kind::Book, Kind::Trade] {
                    let outcome = load.run(kind, Duration::ZERO);
                    let outcome = outcome.unwrap_or_else(|error| panic!("{}, {kind:?}: {error}", arm.name));
                    assert_eq!(outcome.messages, 3);
                    assert!(outcome.wire < 0.9, "{}: {}", arm.name, outcome.wire);
                }
            }
        }
    }

    #[test]
    fn the_first_arm_is_there_whatever_the_filter() {
        assert_eq!(selected(&["wire".to_owned()], true), ["raw", "threadwire"]);
        assert_eq!(selected(&["sockets".to_owned()], true), ["raw", "websockets"]);
        assert!(selected(&["nobody".to_owned()], false).is_empty());
        assert_eq!(selected(&[], false).len(), ARMS.len());
    }
}
