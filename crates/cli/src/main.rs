//! The `threadwire` command and its subcommands.

mod connect;
mod ping;
mod piped_input;
mod serve;
mod signals;
mod terminal;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// WebSockets for programs made of threads.
#[derive(Parser)]
#[command(
    name = "threadwire",
    version,
    arg_required_else_help = true,
    after_help = "Set THREADWIRE_LOG to debug or trace to see on stderr what happens.\n\n\
        Exit codes: 0 if all went well, also where nobody reads on what a command prints; 1 if it failed; 2 if it could not be \
        tried at all (a bad URL or option); 128 and a signal's number after that signal, so 130 for Ctrl-C. \
        Signals that were ignored at the start stay ignored."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve an echo: every message goes back to where it came from.
    ///
    /// Ctrl-C, SIGTERM and SIGHUP close every connection with 1001 and end the server within a second, with the exit code 0; a second
    /// signal ends it at once.
    Serve(serve::Options),
    /// Talk to a server: lines from the terminal go out, messages are printed.
    ///
    /// In a terminal, messages are printed above the line that is being typed, and the up key brings earlier lines back.
    /// Ctrl-D on an empty line closes the connection with 1000.
    ///
    /// From a pipe or a file, each line is sent, as fast as the server takes them, and the connection is closed when the server has been
    /// quiet for a second after the last: see --linger.
    ///
    /// Exit codes: 0 if the connection was closed in the normal way, 1 if it failed, 2 if it could not be tried at all (a bad URL or
    /// option), 130 after Ctrl-C.
    Connect(connect::Options),
    /// Measure round trips to a server, by pings.
    ///
    /// Exit codes: 0 if every ping was answered, 1 if one was not or the connection failed, 2 if it could not be tried at
    /// all, 130 after Ctrl-C.
    Ping(ping::Options),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder()
                .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
                .with_env_var("THREADWIRE_LOG")
                .from_env_lossy(),
        )
        // Text above an input line is printed without escape sequences, so without colours.
        .with_ansi(matches!(command, Command::Serve(_)))
        .with_writer(|| terminal::Log)
        .init();
    match command {
        Command::Serve(options) => serve::run(&options),
        Command::Connect(options) => connect::run(&options),
        Command::Ping(options) => ping::run(&options),
    }
}

/// Says what went wrong, and why, in one line, and with which exit code that ends the command.
fn fail(error: &threadwire::Error) -> ExitCode {
    terminal::say(&format!("threadwire: {error:#}"));
    ExitCode::FAILURE
}

/// The same for what is wrong about the options: nothing was tried.
fn fail_usage(error: &threadwire::Error) -> ExitCode {
    fail(error);
    ExitCode::from(2)
}
