//! Terminal of `threadwire connect`: an input line below what arrives, if a person sits at both ends; otherwise plain lines.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::Receiver;

use threadwire::worker::Lock;
use threadwire_printer::{Input, Printer};

use crate::piped_input::{self, Piped};

/// The printer, as long as there is an input line. Log messages have to go through it, too.
static PRINTER: Lock<Option<Printer>> = Lock::new(None);

fn printer() -> Option<Printer> {
    PRINTER.lock().clone()
}

/// Where what is to be sent comes from. Dropping it leaves the terminal as it was.
pub(crate) enum Keyboard {
    Line(Input),
    Piped(Receiver<Piped>),
}

impl Keyboard {
    /// A terminal's input line, or what is piped in; with `is_binary`, that need not be UTF-8.
    pub(crate) fn open(is_binary: bool) -> io::Result<Keyboard> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let (printer, input) = Printer::builder().input("> ").open_with_input()?;
            if let Some(input) = input {
                *PRINTER.lock() = Some(printer);
                return Ok(Keyboard::Line(input));
            }
        }
        Ok(Keyboard::Piped(piped_input::lines(is_binary)))
    }
}

/// Shows what a command is there to show, on standard output. Whoever reads that may have gone: see [`is_closed_pipe`].
pub(crate) fn show(text: &str) -> io::Result<()> {
    if let Some(printer) = printer()
        && printer.print(text).is_ok()
    {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("can't write to standard output: {error}")))
}

/// Whether nobody reads standard output any more, as behind `| head -1`: a command then ends quietly.
pub(crate) fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
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
