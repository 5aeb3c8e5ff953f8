//! The terminal printer: a worker that owns the terminal, for programs of many threads.
//!
//! Anyone prints from any thread. Lines are wrapped by their display width, and what is on the screen is wrapped again
//! when the terminal is resized. At the bottom there may be an input line, which what is printed does not tear. Where the
//! output is no terminal (or `TERM` is `dumb`), the same text comes out as plain lines.
//!
//! ```
//! use threadwire_printer::Printer;
//! use threadwire_worker::Worker;
//!
//! let printer = Printer::open()?;
//! let workers: Vec<_> = (0..3)
//!     .map(|number| {
//!         let printer = printer.clone();
//!         Worker::spawn(move || Ok(printer.print(format!("hello from worker {number}"))))
//!     })
//!     .collect();
//! for worker in workers {
//!     worker.join()?;
//! }
//! printer.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The screen is drawn where the cursor is, and what was there before scrolls up. When the width changes, the visible part
//! of the screen is drawn anew from the [history](Builder::history); what has scrolled out of it is the terminal's, and
//! stays as it was wrapped. While a printer is open, everything for the terminal should go through it: what others write
//! there appears where the cursor happens to be. (A panic's message is taken care of.)
//!
//! On systems other than Unix there is no input line, and another width is noticed when something is printed.
#![forbid(unsafe_code)]

mod edit;
mod input;
#[cfg(unix)]
mod keyboard;
mod keys;
mod screen;
mod task;
mod terminal;
mod wrap;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use threadwire_worker::{Rejected, Remote, Worker};

pub use input::{Input, Typed};
pub use wrap::wrap;

use crate::input::TypedQueue;
use crate::screen::{Screen, Size};
use crate::task::{Output, PrintQueue, PrinterEnd};
use crate::terminal::Terminal;

/// Prints from any thread: cheap to clone, `Send` and `Sync`. See the [module](self).
///
/// When the last clone is dropped, the printer is [closed](Printer::close), and that drop waits until all is written.
#[derive(Clone)]
pub struct Printer(Arc<OpenPrinter>);

struct OpenPrinter {
    queue: Arc<PrintQueue>,
    remote: Remote,
}

impl Printer {
    /// A printer on the standard output, with defaults. Fails if the system refuses a thread.
    ///
    /// ```
    /// use threadwire_printer::Printer;
    ///
    /// let printer = Printer::open()?;
    /// printer.print("hello")?;
    /// printer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open() -> io::Result<Printer> {
        Printer::builder().open()
    }

    /// A printer with settings.
    ///
    /// ```
    /// use threadwire_printer::Printer;
    ///
    /// let printer = Printer::builder().history(50).open()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder { history: 1000, rule: false, prompt: String::new(), plain: None }
    }

    /// Prints a text of one or more lines: from the beginning of a line, and with its end. Texts of one thread keep
    /// their order, and no text is printed between the lines of another. Control characters are written out: they do
    /// nothing to the terminal ([`wrap`] says how).
    ///
    /// Returns before it is written. If more than 1 MiB waits to be written, it waits for room, without turning the
    /// loop of the calling thread: as `println!` waits for a slow terminal.
    ///
    /// Fails if the printer was closed, or the output takes no more (then [`close`](Printer::close) says why).
    pub fn print(&self, text: impl Into<String>) -> Result<(), Rejected> {
        if self.0.queue.push(text.into())? {
            // If the worker has ended, what was pushed is dropped: nobody takes it from here on.
            self.0.remote.post(|_| {})?;
        }
        Ok(())
    }

    /// Closes the printer for all its clones: what was printed before is still written, then the input line is taken
    /// away, the terminal is as it was, and the printer's thread ends. Returns when all that is done, without turning
    /// the loop of the calling thread. Closing again does nothing.
    ///
    /// Fails with the error of the output, if it took not everything; it is told once.
    ///
    /// ```
    /// use threadwire_printer::Printer;
    /// use threadwire_worker::Rejected;
    ///
    /// let printer = Printer::open()?;
    /// let clone = printer.clone();
    /// printer.close()?;
    /// assert_eq!(clone.print("too late"), Err(Rejected));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

impl OpenPrinter {
    fn close(&self) -> io::Result<()> {
        self.queue.close();
        // A printer that has ended already need not be woken.
        let _ = self.remote.post(|_| {});
        self.queue.wait_for_end()
    }
}

impl Drop for OpenPrinter {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "not everything was printed");
        }
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("remote", &self.0.remote).finish_non_exhaustive()
    }
}

/// Settings of a printer, see [`Printer::builder`].
pub struct Builder {
    history: usize,
    rule: bool,
    prompt: String,
    plain: Option<Box<dyn Write + Send>>,
}

impl Builder {
    /// The number of messages that are kept, to be wrapped again when the terminal is resized. 1000 by default, and never more than
    /// 1 MiB of them, except for a single longer one. Only as much as fills the screen is ever drawn again. Without a
    /// terminal, nothing is kept.
    pub fn history(mut self, messages: usize) -> Builder {
        self.history = messages;
        self
    }

    /// Draws a rule across the terminal, `#-----#`, above all that is printed. It is always as wide as the terminal, and scrolls out as
    /// lines do. Without a terminal there is none. None by default.
    ///
    /// ```
    /// use threadwire_printer::Printer;
    ///
    /// let printer = Printer::builder().rule().open()?;
    /// printer.print("below the rule")?;
    /// printer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rule(mut self) -> Builder {
        self.rule = true;
        self
    }

    /// The prompt before the [input line](Builder::open_with_input). None by default. On terminals too narrow for it, the prompt
    /// is left out.
    ///
    /// ```no_run
    /// use threadwire_printer::{Printer, Typed};
    ///
    /// let (printer, input) = Printer::builder().input("> ").open_with_input()?;
    /// // Without a terminal there is no input line, and standard input can be read as usual.
    /// let Some(input) = input else { return Ok(()) };
    /// loop {
    ///     match input.read()? {
    ///         Typed::Line(line) => printer.print(format!("you said {line:?}"))?,
    ///         Typed::Interrupt | Typed::End => break,
    ///     }
    /// }
    /// printer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn input(mut self, prompt: impl Into<String>) -> Builder {
        self.prompt = prompt.into();
        self
    }

    /// Prints plain lines to `output` instead of the standard output. There is no input line then.
    ///
    /// ```
    /// use threadwire_printer::Printer;
    ///
    /// let (mut from, into) = std::io::pipe()?;
    /// let printer = Printer::builder().plain(into).open()?;
    /// printer.print("one\x1b[2J\ntwo")?;
    /// printer.close()?;
    /// assert_eq!(std::io::read_to_string(&mut from)?, "one\\u{1b}[2J\ntwo\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plain(mut self, output: impl Write + Send + 'static) -> Builder {
        self.plain = Some(Box::new(output));
        self
    }

    /// Opens the printer, without an input line. Fails if the system refuses a thread, or to tell of its signals.
    pub fn open(self) -> io::Result<Printer> {
        self.start(false).map(|(printer, _)| printer)
    }

    /// Opens the printer with an input line, if both the standard input and the output are terminals; there can be
    /// one in a process at a time. Fails if there is one already, or if the terminal refuses raw mode.
    ///
    /// Close the printer, or drop the [`Input`], before the program ends: then the terminal is left as it was found.
    pub fn open_with_input(self) -> io::Result<(Printer, Option<Input>)> {
        self.start(true)
    }

    fn start(self, with_input: bool) -> io::Result<(Printer, Option<Input>)> {
        let queue = Arc::new(PrintQueue::default());
        let waiting = Arc::new(TypedQueue::default());
        let terminal = match &self.plain {
            None if is_terminal() => {
                let screen = Screen::new(size(), self.history);
                Some(Arc::new(Terminal::new(screen, Box::new(io::stdout()))))
            }
            _ => None,
        };
        if let Some(terminal) = &terminal
            && self.rule
        {
            terminal.begin_with_rule()?;
        }
        let with_input = with_input && cfg!(unix) && io::stdin().is_terminal();
        // From here on, dropping the input leaves raw mode.
        let input = terminal
            .as_ref()
            .filter(|_| with_input)
            .map(|terminal| {
                terminal.begin_line(&self.prompt)?;
                Ok::<_, io::Error>(Input { waiting: Arc::clone(&waiting), terminal: Arc::clone(terminal) })
            })
            .transpose()?;

        let ending =
            PrinterEnd { queue: Arc::clone(&queue), terminal: terminal.clone(), waiting, error: None };
        let reads = input.is_some();
        let output = match terminal {
            Some(terminal) => Output::Terminal(terminal),
            None => Output::Plain(self.plain.unwrap_or_else(|| Box::new(io::stdout()))),
        };
        let (started, start) = mpsc::sync_channel(1);
        let worker =
            Worker::builder().name("printer").grace(Duration::ZERO).no_parent().spawn(move || {
                let attached = watch(&ending, reads);
                let is_attached = attached.is_ok();
                let _ = started.send(attached);
                if is_attached {
                    ending.serve(output);
                }
                Ok(())
            })?;
        start.recv().map_err(|_| io::Error::other("the printer's thread panicked"))??;
        Ok((Printer(Arc::new(OpenPrinter { queue, remote: worker.remote() })), input))
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("history", &self.history)
            .field("rule", &self.rule)
            .field("prompt", &self.prompt)
            .field("plain", &self.plain.is_some())
            .finish()
    }
}

/// Whether the output shows what is sent to it, and can be drawn on.
fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(unix)]
fn size() -> Size {
    keyboard::size()
}

#[cfg(not(unix))]
fn size() -> Size {
    let (columns, rows) = crossterm::terminal::size().unwrap_or((0, 0));
    Size::told(columns, rows)
}

/// Attaches the terminal's input and signals to the loop of this thread.
#[cfg(unix)]
fn watch(ending: &PrinterEnd, reads: bool) -> io::Result<()> {
    let Some(terminal) = &ending.terminal else { return Ok(()) };
    keyboard::Signals::attach(terminal)?;
    if reads {
        keyboard::Keyboard::attach(terminal, &ending.waiting)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn watch(_ending: &PrinterEnd, _reads: bool) -> io::Result<()> {
    Ok(())
}
