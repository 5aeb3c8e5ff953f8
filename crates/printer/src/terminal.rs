//! The terminal under a lock, its raw mode, and the way back out of it.
//!
//! The terminal is in raw mode exactly as long as its screen has an input line: until the [`Input`](crate::Input) is
//! dropped or the printer ends, whichever is first, on whatever thread that is. A panic that is reported meanwhile gets
//! the terminal as it was, and gives it back.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{Arc, MutexGuard, Once};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use threadwire_worker::Lock;

use crate::screen::{Screen, Size};

/// The terminal whose raw mode it is: a process has one keyboard.
static RAW: Lock<Option<Arc<Terminal>>> = Lock::new(None);

thread_local! {
    /// Whether this thread holds a terminal's lock.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

pub(crate) struct Terminal(Lock<TerminalState>);

struct TerminalState {
    screen: Screen,
    sink: Box<dyn Write + Send>,
    /// Whether a panic is being reported, or the process is asleep, so that texts have to wait.
    lent: bool,
    /// Texts that were printed meanwhile.
    held: Vec<String>,
}

impl Terminal {
    pub(crate) fn new(screen: Screen, sink: Box<dyn Write + Send>) -> Terminal {
        Terminal(Lock::new(TerminalState { screen, sink, lent: false, held: Vec::new() }))
    }

    /// Changes the screen, and writes what that takes.
    fn change<T>(&self, change: impl FnOnce(&mut TerminalState, &mut String) -> T) -> io::Result<T> {
        let mut state = TerminalGuard::lock(&self.0);
        let mut out = String::new();
        let result = change(&mut state.0, &mut out);
        if !out.is_empty() {
            state.0.sink.write_all(out.as_bytes())?;
            state.0.sink.flush()?;
        }
        Ok(result)
    }

    pub(crate) fn print(&self, messages: Vec<String>) -> io::Result<()> {
        self.change(|state, out| {
            if state.lent {
                state.held.extend(messages);
            } else {
                state.screen.print(messages, out);
            }
        })
    }

    /// Draws a rule, before anything is printed.
    pub(crate) fn begin_with_rule(&self) -> io::Result<()> {
        self.change(|state, out| state.screen.begin_with_rule(out))
    }

    /// Enters raw mode, and shows an input line.
    pub(crate) fn begin_line(self: &Arc<Self>, prompt: &str) -> io::Result<()> {
        {
            let mut raw = RAW.lock();
            if raw.is_some() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is an input line already"));
            }
            enable_raw_mode()?;
            *raw = Some(Arc::clone(self));
        }
        lend_for_panics();
        self.change(|state, out| state.screen.begin_line(prompt, out)).inspect_err(|_| self.end_line())
    }

    /// Takes the input line away, and leaves raw mode. Does nothing if that has been done.
    pub(crate) fn end_line(&self) {
        let erased = self.change(|state, out| {
            state.screen.end_line(out);
            if std::mem::take(&mut state.lent) {
                out.clear();
            }
            let held = std::mem::take(&mut state.held);
            if !held.is_empty() {
                state.screen.print(held, out);
            }
        });
        if let Err(error) = erased {
            tracing::debug!(%error, "can't erase the input line");
        }
        let left = {
            let mut raw = RAW.lock();
            let is_ours = raw.as_ref().is_some_and(|terminal| std::ptr::eq(&**terminal, self));
            is_ours.then(|| {
                *raw = None;
                disable_raw_mode()
            })
        };
        // This is logged after the lock is free: a panic in the log would want the lock.
        if let Some(Err(error)) = left {
            tracing::error!(%error, "can't leave the terminal's raw mode");
        }
    }

    /// Takes the input line away for a while, and leaves raw mode. Returns whether there was something to do.
    fn lend(&self) -> bool {
        let lent = self.change(|state, out| {
            if state.lent || !state.screen.has_line() {
                return false;
            }
            state.lent = true;
            state.screen.erase_line(out);
            true
        });
        // Raw mode is left even if the terminal can't be written to.
        let lent = lent.unwrap_or(true);
        if lent {
            let _ = disable_raw_mode();
        }
        lent
    }

    /// Goes on after [`lend`](Terminal::lend), unless the input line has been ended meanwhile.
    fn take_back(&self) {
        let drawn = self.change(|state, out| {
            if !state.lent || !state.screen.has_line() {
                return;
            }
            state.lent = false;
            if let Err(error) = enable_raw_mode() {
                tracing::error!(%error, "can't enter the terminal's raw mode again");
            }
            let held = std::mem::take(&mut state.held);
            state.screen.print(held, out);
        });
        if let Err(error) = drawn {
            tracing::debug!(%error, "can't draw the input line again");
        }
    }

    /// The size may have changed.
    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        self.change(|state, out| {
            if !state.lent {
                state.screen.resize(size, out);
            }
        })
    }
}

#[cfg(not(unix))]
impl Terminal {
    pub(crate) fn resize_if_changed(&self, size: Size) -> io::Result<()> {
        let is_other = TerminalGuard::lock(&self.0).0.screen.size() != size;
        if is_other { self.resize(size) } else { Ok(()) }
    }
}

#[cfg(unix)]
impl Terminal {
    pub(crate) fn keys(&self, keys: &[crate::keys::Key]) -> io::Result<Vec<crate::screen::Pressed>> {
        self.change(|state, out| {
            let pressed = state.screen.keys(keys, out);
            if state.lent {
                // The line is drawn when the terminal is ours again.
                out.clear();
            }
            pressed
        })
    }

    /// Reads, if there is an input line to read for. The line is not taken away meanwhile: later input is for the next reader
    /// of the terminal.
    pub(crate) fn read<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let state = TerminalGuard::lock(&self.0);
        state.0.screen.has_line().then(read)
    }

    /// Puts the process to sleep, as Ctrl-Z does where there is no raw mode, and goes on when it is woken up.
    pub(crate) fn suspend(&self) {
        if self.lend() {
            if let Err(error) = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)
            {
                tracing::debug!(%error, "can't suspend the process");
            }
            self.take_back();
        }
    }

    /// The process goes on after it was asleep: whoever had the terminal meanwhile has left it in another mode.
    pub(crate) fn wake_up(&self, size: Size) -> io::Result<()> {
        self.change(|state, out| {
            if state.lent {
                return;
            }
            if state.screen.has_line() {
                let _ = disable_raw_mode();
                if let Err(error) = enable_raw_mode() {
                    tracing::error!(%error, "can't enter the terminal's raw mode again");
                }
            }
            state.screen.resize(size, out);
        })
    }
}

/// The guard of a terminal's lock.
struct TerminalGuard<'a>(MutexGuard<'a, TerminalState>);

impl TerminalGuard<'_> {
    fn lock(state: &Lock<TerminalState>) -> TerminalGuard<'_> {
        let guard = state.lock();
        HOLDS.set(true);
        TerminalGuard(guard)
    }
}

impl Drop for TerminalGuard<'_> {
    fn drop(&mut self) {
        HOLDS.set(false);
    }
}

/// Has the terminal left as it was found while a panic is reported: in raw mode, the lines of the report would run like stairs,
/// and over the input line. If a panic ends the process at once, the report is the last chance to leave raw mode.
fn lend_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if HOLDS.try_with(Cell::get).unwrap_or(true) {
                // The drawing itself panics: the printer ends, and its guard does the rest.
                let _ = disable_raw_mode();
                return report(info);
            }
            let terminal = RAW.lock().clone();
            let lent = terminal.filter(|terminal| terminal.lend());
            report(info);
            if let Some(terminal) = lent
                && cfg!(panic = "unwind")
            {
                terminal.take_back();
            }
        }));
    });
}
