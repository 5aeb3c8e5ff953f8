//! An echo server and an echo client of every face, to be judged by test suites, and a check of any echo server.

mod attacked;
mod check;
mod faces;
mod fuzzed;
mod keep;
mod settings;

use std::process::ExitCode;

use attacked::Attacked;
use clap::{Args, Parser, Subcommand};
use faces::{Face, Identity, Way};
use keep::Keep;
use settings::Settings;

/// Echo servers and clients of every face of Threadwire, for test suites.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve an echo until SIGTERM or Ctrl-C.
    Server {
        #[command(flatten)]
        common: Common,
        /// Where to listen; port 0 has the system choose one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
        listen: String,
        #[command(flatten)]
        identity: Identity,
    },
    /// Run all cases of a fuzzing server, then have it write its reports.
    Client {
        #[command(flatten)]
        common: Common,
        /// The fuzzing server, ws://HOST:PORT
        #[arg(long)]
        url: String,
        /// The name in the reports.
        #[arg(long, default_value = "threadwire")]
        agent: String,
    },
    /// Check any echo server: sizes, types, fragments, pings, closing.
    Check {
        #[command(flatten)]
        common: Common,
        /// The echo server, ws://HOST:PORT[/PATH]
        #[arg(long)]
        url: String,
        #[command(flatten)]
        way: Way,
        /// Leave out what is longer than 64 KiB.
        #[arg(long)]
        quick: bool,
    },
    /// Keep connections open, and tell how each of them ended.
    Keep(Keep),
    /// Serve what conformance/attacks/run.py attacks.
    Attacked(Attacked),
}

#[derive(Args)]
struct Common {
    /// The face of the library to use.
    #[arg(long, value_enum, default_value = "listener")]
    face: Face,
    /// How messages are compressed: `off`, `default`, or parameters as in the header, with level, mem_level and threshold,
    /// as in "server_max_window_bits=9; client_no_context_takeover; level=6".
    #[arg(long, value_name = "SETTINGS", default_value = "default")]
    deflate: Settings,
}

impl Common {
    /// The face, with the settings of this run.
    fn face(self) -> Face {
        settings::choose(self.deflate);
        self.face
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().role {
        Role::Server { common, listen, identity } => {
            identity.take();
            common.face().serve(&listen).map(|()| true)
        }
        Role::Client { common, url, agent } => fuzzed::run(common.face(), &url, &agent).map(|()| true),
        Role::Check { common, url, way, quick } => {
            way.take();
            check::run(common.face(), &url, quick)
        }
        Role::Keep(keep) => keep.run().map(|()| true),
        Role::Attacked(attacked) => attacked.run().map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("threadwire-conformance: {error}");
            ExitCode::from(2)
        }
    }
}
