//! Threadwire's benchmarks: its servers beside a raw baseline and, with the feature `peers`, other libraries.
//!
//! - `echo`: messages per second, CPU time per message and round trips, in several scenarios.
//! - `idle`: memory per idle connection.
//! - `latency`: round trips of one message, when nothing else is under way.
//! - `clients`: round trips of clients, and their CPU time per message, against one fast server.
//! - `broadcast`: CPU time of one message to many connections.
//! - `deflate`: CPU time of messages that are compressed; and size, time and memory for each setting of the codec.
//! - `accept`: connections that come, upgrade and go, and what each of them costs the server.
//! - `workers`: events, round trips, lives and stops of workers, beside plain threads and actor libraries.
//! - `server`: one of the built-in servers, for other load generators.
//!
//! Each server under test is a process of its own, alone on one core; the load is made by this process on another (for
//! `latency` and `clients`, by a client of the same library, which is a process too).

mod accept;
mod broadcast;
mod client;
mod clients;
mod counting_allocator;
mod deflate;
mod echo;
mod fail;
mod frame;
mod idle;
mod latency;
mod load;
mod measure;
mod paired;
mod pin;
mod process;
mod report;
mod scenario;
mod secure;
mod servers;
mod stats;
mod workers;

use clap::{Parser, Subcommand};
use counting_allocator::CountingAllocator;
use std::io;
use std::process::ExitCode;
use std::thread;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[cfg(feature = "peers")]
const PEERS: &str = "Other libraries are built in: see the names of `server --help`.";
#[cfg(not(feature = "peers"))]
const PEERS: &str = "Other libraries (tokio-tungstenite, fastwebsockets, tokio-websockets) are measured too if they are \
                     built in: cargo run --release -p threadwire-bench --features peers -- echo";

/// Measures WebSocket servers and clients, and workers, side by side.
#[derive(Debug, Parser)]
#[command(version, after_help = PEERS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Messages per second, server CPU time per message and round trips, beside the raw baseline.
    #[command(after_help = PEERS)]
    Echo(echo::Options),
    /// Connections that come, upgrade and go: how many per second, and what each of them costs the server.
    #[command(after_help = accept::ABOUT)]
    Accept(accept::Options),
    /// Heap and resident bytes per idle connection.
    #[command(after_help = PEERS)]
    Idle(idle::Options),
    /// Round trips of one message at a time, with client and server of the same library.
    #[command(after_help = latency::ABOUT)]
    Latency(latency::Options),
    /// Round trips of clients, and their CPU time per message, against the raw server.
    #[command(after_help = clients::ABOUT)]
    Clients(clients::Options),
    /// Server CPU time of one message to thousands of connections, per connection.
    #[command(after_help = broadcast::ABOUT)]
    Broadcast(broadcast::Options),
    /// Server CPU time per message that is compressed both ways; what the settings of the codec are worth.
    #[command(after_help = deflate::ABOUT)]
    Deflate(deflate::Options),
    /// Events per second, round trips, lives and stops of workers, beside threads with a channel and actor libraries.
    #[command(after_help = workers::ABOUT)]
    Workers(workers::Options),
    /// Runs one of the built-in echo servers on 127.0.0.1.
    Server {
        /// Which one.
        #[arg(value_parser = builtin_names())]
        name: String,
        /// The listening address.
        #[arg(long)]
        port: u16,
        /// Speaks TLS, with a certificate that it makes.
        #[arg(long)]
        tls: bool,
        /// Counts its heap, answers the lines `heap` and `engines` with bytes, and ends with its input.
        #[arg(long, hide = true)]
        control: bool,
    },
    /// Runs the server of an arm of `latency`.
    #[command(hide = true)]
    LatencyServer(latency::Side),
    /// Runs the client of an arm of `latency`.
    #[command(hide = true)]
    LatencyClient {
        #[command(flatten)]
        side: latency::Side,
        #[arg(long)]
        seconds: f64,
    },
    /// Runs the client of an arm of `clients`.
    #[command(hide = true)]
    ClientsClient(clients::Task),
    /// Runs the server of an arm of `broadcast`.
    #[command(hide = true)]
    BroadcastServer {
        #[arg(value_parser = broadcast::names())]
        arm: String,
        #[arg(long)]
        port: u16,
    },
    /// Runs the server of an arm of `deflate`.
    #[command(hide = true)]
    DeflateServer {
        #[command(flatten)]
        side: deflate::Side,
        #[arg(long)]
        control: bool,
    },
    /// Runs a command on one core, and ends it with its parent.
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        core: usize,
        #[arg(long)]
        parent: u32,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

fn builtin_names() -> clap::builder::PossibleValuesParser {
    servers::BUILTIN.iter().map(|server| server.name).collect::<Vec<_>>().into()
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Echo(options) => echo::run(&options),
        Command::Accept(options) => accept::run(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Latency(options) => latency::run(&options),
        Command::LatencyServer(side) => latency::serve(&side),
        Command::LatencyClient { side, seconds } => latency::ask(&side, seconds),
        Command::Clients(options) => clients::run(&options),
        Command::ClientsClient(task) => clients::ask(&task),
        Command::Broadcast(options) => broadcast::run(&options),
        Command::BroadcastServer { arm, port } => broadcast::serve(&arm, port),
        Command::Deflate(options) => deflate::run(&options),
        Command::DeflateServer { side, control } => serve_controlled(control, || deflate::serve(&side)),
        Command::Workers(options) => workers::run(&options),
        Command::Server { name, port, tls, control } => serve(&name, port, tls, control),
        Command::Launch { core, parent, command } => process::launch(core, parent, &command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, port: u16, tls: bool, control: bool) -> fail::Result<()> {
    let server = servers::find(name).ok_or_else(|| fail!("there is no server {name:?}"))?;
    let run = match (tls, server.run_in_tls) {
        (false, _) => server.run,
        (true, Some(run)) => run,
        (true, None) => return Err(fail!("{name} does not speak TLS")),
    };
    serve_controlled(control, || run(port))
}

fn serve_controlled(control: bool, run: impl FnOnce() -> fail::Result<()>) -> fail::Result<()> {
    if control {
        counting_allocator::start();
        // A second thread is started only here, as the kernel then counts references at each system call, which `echo` would see.
        thread::spawn(answer);
    }
    run()
}

/// Answers the questions of the parent until it closes the pipe.
fn answer() {
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "heap" => println!("{}", counting_allocator::live()),
            "engines" => println!("{}", threadwire::proto::deflate::memory_in_use()),
            _ => {}
        }
    }
    std::process::exit(0);
}
