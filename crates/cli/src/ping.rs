//! The `threadwire ping` command.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use threadwire::worker::{EventLoop, Worker};
use threadwire::{Config, Connection, Error, Keepalive, Message, Stopped, sleep};

use crate::tls::TlsOptions;

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

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0 to 86400".to_owned()),
    }
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let ended = Worker::builder().run(|| match ping(options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Error::Stopped) => Err(Stopped),
        Err(error) => Ok(crate::fail(&error)),
    });
    ended.done().unwrap_or(ExitCode::from(130))
}

fn ping(options: &Options) -> Result<(), Error> {
    let stop = EventLoop::current().remote();
    ctrlc::set_handler(move || stop.stop()).map_err(Error::other)?;
    let reply_timeout = Duration::from_secs_f64(options.timeout);
    // Keepalive is there only for its time to answer: it would not ping by itself.
    let keepalive = Keepalive::default().reply_timeout(reply_timeout).idle_timeout(Duration::MAX);
    let config =
        Config::default().open_timeout(reply_timeout.max(Duration::from_millis(1))).keepalive(keepalive);
    let client = options.tls.client(&options.url)?.config(config);
    let ws = client.connect(|_ws: &Connection, _message: Message<'_>| Ok(()))?;
    println!("connected to {}", ws.peer_addr()?);
    let mut times = Vec::new();
    for number in 0..options.count {
        if number > 0 {
            sleep(Duration::from_secs_f64(options.interval))?;
        }
        let time = ws.measure_roundtrip(1)?[0];
        println!("{:>3}  {}", number + 1, milliseconds(time));
        times.push(time);
    }
    times.sort_unstable();
    if let (Some(best), Some(worst)) = (times.first(), times.last()) {
        let median = times[times.len() / 2];
        println!(
            "{} pings: best {}, median {}, worst {}",
            times.len(),
            milliseconds(*best),
            milliseconds(median),
            milliseconds(*worst)
        );
    }
    ws.close()?;
    ws.wait_closed()?;
    Ok(())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}
