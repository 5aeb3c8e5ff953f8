//! The `threadwire connect` command.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use threadwire::client::Proxy;
use threadwire::worker::{Ended, EventLoop, Worker};
use threadwire::{Client, CloseCode, Config, Connection, Error, Listener, Message, Stopped, wait_until};
use threadwire_printer::Typed;

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
    #[command(flatten)]
    tls: TlsOptions,
}

impl Options {
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

/// How the connection ended.
type Outcome = Rc<RefCell<Option<ExitCode>>>;

pub(crate) fn run(options: &Options) -> ExitCode {
    let ended = {
        // When the worker has ended, and with it the connection, there is no more to print.
        let _closes = terminal::Closes;
        Worker::builder().grace(CLOSE_TIMEOUT).run(|| match talk(options) {
            Ok(code) => Ok(code),
            Err(Error::Stopped) => Err(Stopped),
            Err(error) => Ok(crate::fail(&error)),
        })
    };
    match ended {
        Ended::Done(code) => code,
        Ended::Stopped => ExitCode::from(130),
        Ended::Panicked(payload) => std::panic::resume_unwind(payload),
    }
}

fn talk(options: &Options) -> Result<ExitCode, Error> {
    let remote = EventLoop::current().remote();
    let stop = remote.clone();
    // In front of an input line, Ctrl-C is a key, but there are others who send signals.
    ctrlc::set_handler(move || stop.stop()).map_err(Error::other)?;

    let outcome = Outcome::default();
    let ws = options.client()?.connect(Printer { outcome: Rc::clone(&outcome) })?;

    let keyboard = Keyboard::open()?;
    terminal::say("connected: type lines to send, Ctrl-D closes");
    loop {
        let mut next = None;
        wait_until(None, || {
            next = keyboard.try_read();
            next.is_some() || outcome.borrow().is_some()
        })?;
        match next {
            Some(Typed::Line(line)) => ws.send(&line)?,
            Some(Typed::End) => ws.close()?,
            Some(Typed::Interrupt) => remote.stop(),
            None => break,
        }
    }
    let code = outcome.borrow().unwrap_or(ExitCode::FAILURE);
    Ok(code)
}

/// Prints what arrives.
struct Printer {
    outcome: Outcome,
}

impl Listener for Printer {
    fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        Ok(terminal::show(&readable(message))?)
    }

    fn on_close(&mut self, _ws: &Connection, closed: &threadwire::Closed) {
        terminal::say(&closed.to_string());
        let fine = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::NO_STATUS];
        let is_normal = closed.clean && fine.contains(&closed.code);
        *self.outcome.borrow_mut() = Some(if is_normal { ExitCode::SUCCESS } else { ExitCode::FAILURE });
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
