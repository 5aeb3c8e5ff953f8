//! The `threadwire connect` command.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use clap::Args;
use threadwire::client::Proxy;
use threadwire::worker::{Ended, EventLoop, Worker};
use threadwire::{
    Client, CloseCode, Config, Connection, Error, Listener, Message, Stopped, WhenFull, wait_until,
};
use threadwire_printer::{Input, Typed};

use crate::piped_input::Piped;
use crate::signals;
use crate::terminal::{self, Keyboard};
use crate::tls::TlsOptions;

/// How long a server may take to answer our close frame, so that Ctrl-D and Ctrl-C are not felt to hang.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// As much of a binary message as is shown, in bytes.
const SHOWN: usize = 32;

#[derive(Args)]
pub(crate) struct Options {
    /// Where to connect to: ws://HOST[:PORT][/PATH][?QUERY], wss://... or ws+unix:/SOCKET[:/PATH]
    url: String,
    /// Go through this proxy: http, https, socks4, socks4a, socks5 or socks5h, or none [default: as the environment says]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Send this header as well (repeatable).
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Authenticate with this user name and password.
    #[arg(long, short, value_name = "USER:PASSWORD", conflicts_with = "bearer")]
    user: Option<String>,
    /// Authenticate with this token.
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<String>,
    /// Send piped lines as binary messages, whatever is in them.
    #[arg(long)]
    binary: bool,
    /// Seconds for which the server has to be quiet, after the last piped line, before the connection is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = crate::ping::seconds)]
    linger: f64,
    /// Close as soon as the last piped line has left.
    #[arg(long, conflicts_with = "linger")]
    no_linger: bool,
    /// Do not close at the end of piped input: the server does, or Ctrl-C.
    #[arg(long, conflicts_with_all = ["linger", "no_linger"])]
    keep_open: bool,
    #[command(flatten)]
    tls: TlsOptions,
}

impl Options {
    /// How long the server has to be quiet after the end of piped input. None if the connection stays open.
    fn quiet(&self) -> Option<Duration> {
        match (self.keep_open, self.no_linger) {
            (true, _) => None,
            (_, true) => Some(Duration::ZERO),
            _ => Some(Duration::from_secs_f64(self.linger)),
        }
    }

    /// The client that they describe.
    fn client(&self) -> Result<Client, Error> {
        let config = Config::default().close_timeout(CLOSE_TIMEOUT);
        let mut client = self.tls.client(&self.url)?.config(config);
        client = match self.proxy.as_deref() {
            None => client,
            Some("none") => client.proxy(Proxy::none()),
            Some(url) => client.proxy(Proxy::new(url)?),
        };
        for header in &self.header {
            // The header may be secret: the error does not show it.
            let expected = || Error::other("a header has no colon, expected NAME: VALUE");
            let (name, value) = header.split_once(':').ok_or_else(expected)?;
            client = client.header(name, value)?;
        }
        if let Some(user) = &self.user {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            client = client.basic_auth(user, password)?;
        }
        match &self.bearer {
            None => Ok(client),
            Some(token) => client.bearer_auth(token),
        }
    }
}

/// What the connection's listener and the loop that sends know of one another.
#[derive(Default)]
struct State {
    /// How the connection ended.
    outcome: Option<ExitCode>,
    /// When something arrived last.
    heard: Option<Instant>,
    /// Why what arrived could not be printed.
    unprinted: Option<std::io::Error>,
}

type Shared = Rc<RefCell<State>>;

pub(crate) fn run(options: &Options) -> ExitCode {
    let client = match options.client() {
        Ok(client) => client,
        Err(error) => return crate::fail_usage(&error),
    };
    let ended = {
        // When the worker has ended, and with it the connection, there is no more to print.
        let _closes = terminal::Closes;
        Worker::builder().grace(CLOSE_TIMEOUT).run(|| match talk(options, client) {
            Ok(code) => Ok(code),
            Err(Error::Stopped) => Err(Stopped),
            Err(error) => Ok(crate::fail(&error)),
        })
    };
    match ended {
        Ended::Done(code) => code,
        Ended::Stopped => ExitCode::from(signals::exit_code()),
        Ended::Failed(error) => crate::fail(&Error::of_program(error)),
        Ended::Panicked(payload) => std::panic::resume_unwind(payload),
    }
}

fn talk(options: &Options, client: Client) -> Result<ExitCode, Error> {
    let stop = EventLoop::current().remote();
    // In front of an input line, Ctrl-C is a key, but there are others who send signals.
    signals::on_end(move || stop.stop())?;

    let shared = Shared::default();
    let ws = client.connect(Printer { shared: Rc::clone(&shared) })?;
    match Keyboard::open(options.binary)? {
        Keyboard::Line(input) => type_in(&ws, &input, &shared)?,
        Keyboard::Piped(lines) => {
            if !pipe(&ws, &lines, &shared)? {
                // Why was said.
                ws.close()?;
                ws.wait_closed()?;
                return Ok(ExitCode::FAILURE);
            }
            if let Some(quiet) = options.quiet() {
                linger(&ws, quiet, &shared)?;
            }
        }
    }
    wait_until(None, || shared.borrow().outcome.is_some())?;
    let state = shared.take();
    match state.unprinted {
        Some(error) if !terminal::is_closed_pipe(&error) => {
            crate::fail(&error.into());
            Ok(ExitCode::FAILURE)
        }
        // Nobody reads on: that is no failure.
        Some(_) => Ok(ExitCode::SUCCESS),
        None => Ok(state.outcome.unwrap_or(ExitCode::FAILURE)),
    }
}

/// Sends what is typed, until Ctrl-D closes the connection, or it ends.
fn type_in(ws: &Connection, input: &Input, shared: &Shared) -> Result<(), Error> {
    terminal::say("type lines to send, Ctrl-D closes");
    while let Some(typed) = next(|| input.try_read(), shared)? {
        match typed {
            Typed::Line(line) => ws.send(&line)?,
            Typed::End => ws.close()?,
            Typed::Interrupt => EventLoop::current().remote().stop(),
        }
    }
    Ok(())
}

/// Sends lines as fast as the server takes them, until there are no more, or the connection ends. False if the input ends with
/// something that can't be sent: why was said.
fn pipe(ws: &Connection, lines: &Receiver<Piped>, shared: &Shared) -> Result<bool, Error> {
    while let Some(piped) = next(|| lines.try_recv().ok(), shared)? {
        let sent = match &piped {
            Piped::Text(line) => ws.send_with(line, WhenFull::Wait),
            Piped::Binary(line) => ws.send_with(line, WhenFull::Wait),
            Piped::End => break,
            Piped::Failed(why) => {
                terminal::say(&format!("threadwire: {why}"));
                return Ok(false);
            }
        };
        match sent {
            // It is told how the connection ended.
            Err(Error::Closed) => break,
            sent => sent?,
        }
    }
    Ok(true)
}

/// The next of what is to be sent; none once the connection has ended.
fn next<T>(mut read: impl FnMut() -> Option<T>, shared: &Shared) -> Result<Option<T>, Error> {
    let mut next = None;
    wait_until(None, || {
        next = read();
        next.is_some() || shared.borrow().outcome.is_some()
    })?;
    Ok(next)
}

/// Closes the connection when all has left and the server has been quiet for so long, unless it ends by itself.
fn linger(ws: &Connection, quiet: Duration, shared: &Shared) -> Result<(), Error> {
    let is_over = || shared.borrow().outcome.is_some();
    wait_until(None, || is_over() || ws.buffered() == 0)?;
    let drained = Instant::now();
    while !is_over() {
        let heard = shared.borrow().heard.map_or(drained, |heard| heard.max(drained));
        let left = quiet.saturating_sub(heard.elapsed());
        if left.is_zero() {
            return ws.close();
        }
        wait_until(Some(left), is_over)?;
    }
    Ok(())
}

/// Prints what arrives.
struct Printer {
    shared: Shared,
}

impl Listener for Printer {
    fn on_open(&mut self, _ws: &Connection) -> Result<(), Error> {
        terminal::say("connected");
        Ok(())
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.shared.borrow_mut().heard = Some(Instant::now());
        let shown = terminal::show(&readable(message));
        match shown {
            Ok(()) => Ok(()),
            Err(error) => {
                self.shared.borrow_mut().unprinted = Some(error);
                ws.close()
            }
        }
    }

    fn on_close(&mut self, _ws: &Connection, closed: &threadwire::Closed) {
        terminal::say(&closed.to_string());
        let fine = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::NO_STATUS];
        let is_normal = closed.clean && fine.contains(&closed.code);
        let code = if is_normal { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        self.shared.borrow_mut().outcome = Some(code);
    }
}

/// A message as a terminal can show it: a server must not be able to move the cursor, or worse.
fn readable(message: Message<'_>) -> String {
    match message {
        Message::Text(text) => {
            let mut shown = String::with_capacity(text.len());
            for c in text.chars() {
                match c {
                    '\n' | '\t' => shown.push(c),
                    c if c.is_control() => shown.extend(c.escape_default()),
                    c => shown.push(c),
                }
            }
            shown
        }
        Message::Binary(bytes) => {
            let mut shown = format!("<{} bytes", bytes.len());
            for (index, byte) in bytes.iter().take(SHOWN).enumerate() {
                let space = if index == 0 { ": " } else { " " };
                let _ = write!(shown, "{space}{byte:02x}");
            }
            shown + if bytes.len() > SHOWN { " ...>" } else { ">" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_would_control_the_terminal() {
        assert_eq!(readable(Message::Text("a\x1b[2Jb\r\u{9b}31m\n")), "a\\u{1b}[2Jb\\r\\u{9b}31m\n");
        assert_eq!(readable(Message::Text("grüße 你好")), "grüße 你好");
    }

    #[test]
    fn shows_the_beginning_of_binary_messages() {
        assert_eq!(readable(Message::Binary(&[])), "<0 bytes>");
        assert_eq!(readable(Message::Binary(&[0, 255])), "<2 bytes: 00 ff>");
        assert!(readable(Message::Binary(&[7; 40])).ends_with("07 ...>"));
    }
}
