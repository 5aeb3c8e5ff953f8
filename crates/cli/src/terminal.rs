//! Terminal of `threadwire connect`: an input line below what arrives, if a person sits at both ends; otherwise plain lines.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use threadwire::worker::{EventLoop, Lock, Remote};
use threadwire_printer::{Input, Printer, Typed};

/// The printer, as long as there is an input line. Log messages have to go through it, too.
static PRINTER: Lock<Option<Printer>> = Lock::new(None);

fn printer() -> Option<Printer> {
    PRINTER.lock().clone()
}

/// Where what is typed comes from. Dropping it leaves the terminal as it was.
pub(crate) enum Keyboard {
    Line(Input),
    Plain(Receiver<Typed>),
}

impl Keyboard {
    pub(crate) fn open() -> io::Result<Keyboard> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let (printer, input) = Printer::builder().input("> ").open_with_input()?;
            if let Some(input) = input {
                *PRINTER.lock() = Some(printer);
                return Ok(Keyboard::Line(input));
            }
        }
        Ok(Keyboard::Plain(read_lines(EventLoop::current().remote())))
    }

    /// Typed lines that were not read yet. The loop of the calling thread turns when there is more.
    pub(crate) fn try_read(&self) -> Option<Typed> {
        match self {
            Keyboard::Line(input) => input.try_read(),
            Keyboard::Plain(lines) => lines.try_recv().ok(),
        }
    }
}

/// Reads lines on a thread of its own: reading from standard input blocks.
fn read_lines(remote: Remote) -> Receiver<Typed> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok).map(Typed::Line);
        for typed in lines.chain([Typed::End]) {
            // Wakes the loop, which then looks into the channel.
            if send.send(typed).is_err() || remote.post(|_| {}).is_err() {
                return;
            }
        }
    });
    receive
}

/// Shows what has arrived.
pub(crate) fn show(text: &str) -> io::Result<()> {
    if let Some(printer) = printer()
        && printer.print(text).is_ok()
    {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Says something about the connection, or about ourselves: on standard error, and not over the input line.
pub(crate) fn say(text: &str) {
    // Standard error may be a file where the other two are not.
    let printer = if io::stderr().is_terminal() { printer() } else { None };
    if printer.is_none_or(|printer| printer.print(text).is_err()) {
        // If the terminal is gone, there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Ends the input line when it goes out of scope, after everything has been printed.
pub(crate) struct Closes;

impl Drop for Closes {
    fn drop(&mut self) {
        let printer = PRINTER.lock().take();
        if let Some(Err(error)) = printer.map(|printer| printer.close()) {
            let _ = writeln!(io::stderr(), "threadwire: {error}");
        }
    }
}

/// Where log messages go.
pub(crate) struct Log;

impl Write for Log {
    /// Takes a message at a time, as those who format them give them.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(message);
        say(text.strip_suffix('\n').unwrap_or(&text));
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
