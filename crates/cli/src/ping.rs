//! The `threadwire ping` command.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use threadwire::worker::{EventLoop, Worker};
use threadwire::{Client, Config, Connection, Error, Keepalive, Message, Stopped, sleep};

use crate::tls::TlsOptions;
use crate::{signals, terminal};

#[derive(Args)]
pub(crate) struct Options {
    /// Where to connect to: ws://HOST[:PORT][/PATH][?QUERY], or wss:// for TLS
    url: String,
    #[command(flatten)]
    tls: TlsOptions,
    /// How many pings.
    #[arg(short, long, default_value_t = 5)]
    count: u32,
    /// Seconds between them.
    #[arg(short, long, default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// Seconds after which a ping counts as lost.
    #[arg(short, long, default_value_t = 5.0, value_parser = seconds)]
    timeout: f64,
}

/// Seconds as an option has them.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0 to 86400".to_owned()),
    }
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let client = match client(options) {
        Ok(client) => client,
        Err(error) => return crate::fail_usage(&error),
    };
    let ended = Worker::builder().run(|| match ping(options, client) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Error::Stopped) => Err(Stopped),
        // Nobody reads on: the connection was closed as this unwound.
        Err(Error::Io(error)) if terminal::is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(crate::fail(&error)),
    });
    ended.done().unwrap_or_else(|| ExitCode::from(signals::exit_code()))
}

/// The client that the options describe.
fn client(options: &Options) -> Result<Client, Error> {
    let reply_timeout = Duration::from_secs_f64(options.timeout);
    // Keepalive is there only for its time to answer: it would not ping by itself.
    let keepalive = Keepalive::default().reply_timeout(reply_timeout).idle_timeout(Duration::MAX);
    let config =
        Config::default().open_timeout(reply_timeout.max(Duration::from_millis(1))).keepalive(keepalive);
    Ok(options.tls.client(&options.url)?.config(config))
}

fn ping(options: &Options, client: Client) -> Result<(), Error> {
    let stop = EventLoop::current().remote();
    signals::on_end(move || stop.stop())?;
    let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
    terminal::show(&format!("connected to {}", ws.peer_addr()?))?;
    let mut times = Vec::new();
    for number in 0..options.count {
        if number > 0 {
            sleep(Duration::from_secs_f64(options.interval))?;
        }
        let time = ws.measure_roundtrip(1)?[0];
        terminal::show(&format!("{:>3}  {}", number + 1, milliseconds(time)))?;
        times.push(time);
    }
    times.sort_unstable();
    if let (Some(best), Some(worst)) = (times.first(), times.last()) {
        let median = times[times.len() / 2];
        terminal::show(&format!(
            "{} pings: best {}, median {}, worst {}",
            times.len(),
            milliseconds(*best),
            milliseconds(median),
            milliseconds(*worst)
        ))?;
    }
    ws.close()?;
    ws.wait_closed()?;
    Ok(())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}
