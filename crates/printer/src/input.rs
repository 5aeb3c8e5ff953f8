//! Typed input on its way from the printer's thread to the program, with backpressure on the keyboard.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};

use threadwire_worker::{EventLoop, Lock, Remote, Stopped};

use crate::terminal::Terminal;

/// The number of typed lines and keys that may wait for the program. Beyond that the keyboard is not read.
pub(crate) const MOST_WAITING: usize = 1000;

/// Something that was typed at the [input line](crate::Builder::input).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line, without its end, which may be empty. At most 64 KiB long.
    Line(String),
    /// Ctrl-C. What was being typed is dropped. In raw mode there is no `SIGINT`: it is up to the program what this
    /// means.
    Interrupt,
    /// Ctrl-D on an empty line; or the terminal is gone, or the printer has ended.
    End,
}

/// The input line of a [`Printer`](crate::Printer). While it lives, the terminal is in raw mode; dropping it takes the
/// line away and leaves the terminal as it was, before the drop returns and on every way out of its scope, also on
/// a panic. (What no drop can see: `std::process::exit`.)
///
/// Keys: arrows, Home and End (Ctrl-A and Ctrl-E), by words with Ctrl or Alt and an arrow (Alt-B and Alt-F); Backspace,
/// Delete, Ctrl-U (all before the cursor), Ctrl-K (all behind it), Ctrl-W (the word before it); Up and Down for the last
/// 1000 lines; Ctrl-L draws the screen again, Ctrl-Z suspends the process. A line that was sent stays on the screen,
/// behind its prompt.
///
/// See [`Builder::input`](crate::Builder::input) for an example.
pub struct Input {
    pub(crate) waiting: Arc<TypedQueue>,
    pub(crate) terminal: Arc<Terminal>,
}

impl Input {
    /// Waits until something is typed, while the loop of the calling thread goes on. Once the printer has ended, and
    /// all earlier input has been read, the result is [`Typed::End`] at once.
    ///
    /// ```no_run
    /// use threadwire_printer::{Printer, Typed};
    ///
    /// let (printer, input) = Printer::builder().input("name? ").open_with_input()?;
    /// let Some(input) = input else { return Err("this needs a terminal".into()) };
    /// if let Typed::Line(name) = input.read()? {
    ///     printer.print(format!("hello {name}"))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self) -> Result<Typed, Stopped> {
        let event_loop = EventLoop::current();
        let mut typed = None;
        event_loop.wait(None, || {
            typed = self.try_read();
            typed.is_some() || self.waiting.lock().ended
        })?;
        Ok(typed.unwrap_or(Typed::End))
    }

    /// The next input that was typed and not yet read, if there is any. The end of the printer shows up once, as
    /// [`Typed::End`].
    ///
    /// The loop of the thread that asked last turns when there is more, so that this can be asked in a
    /// [`wait_until`](threadwire_worker::wait_until):
    ///
    /// ```no_run
    /// # use threadwire_printer::Printer;
    /// use std::time::Duration;
    /// use threadwire_worker::wait_until;
    ///
    /// # let (printer, input) = Printer::builder().input("> ").open_with_input()?;
    /// # let input = input.unwrap();
    /// let mut answer = None;
    /// wait_until(Some(Duration::from_secs(10)), || {
    ///     answer = input.try_read();
    ///     answer.is_some()
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_read(&self) -> Option<Typed> {
        let mut waiting = self.waiting.lock();
        let typed = waiting.typed.pop_front();
        if typed.is_none() {
            waiting.reader = Some(EventLoop::current().remote());
        }
        let resume = if waiting.typed.len() < MOST_WAITING / 2 { waiting.resume.take() } else { None };
        drop(waiting);
        if let Some(resume) = resume {
            resume();
        }
        typed
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.terminal.end_line();
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("waiting", &self.waiting.lock().typed.len()).finish_non_exhaustive()
    }
}

/// Input that was typed and not yet read.
#[derive(Default)]
pub(crate) struct TypedQueue(Lock<TypedState>);

#[derive(Default)]
pub(crate) struct TypedState {
    typed: VecDeque<Typed>,
    ended: bool,
    /// The worker to wake when something is typed.
    reader: Option<Remote>,
    /// A call that has the keyboard read again.
    resume: Option<Box<dyn FnOnce() + Send>>,
}

impl TypedQueue {
    fn lock(&self) -> MutexGuard<'_, TypedState> {
        self.0.lock()
    }

    pub(crate) fn push(&self, typed: Typed) {
        let reader = {
            let mut waiting = self.lock();
            if waiting.ended {
                return;
            }
            waiting.typed.push_back(typed);
            waiting.reader.take()
        };
        wake(reader);
    }

    /// Ends the input: nothing more will be typed.
    pub(crate) fn end(&self) {
        self.push(Typed::End);
        let (reader, resume) = {
            let mut waiting = self.lock();
            waiting.ended = true;
            (waiting.reader.take(), waiting.resume.take())
        };
        drop(resume);
        wake(reader);
    }

    /// Whether there is room for more. If not, `resume` is called when there is.
    #[cfg(unix)]
    pub(crate) fn has_room(&self, resume: impl FnOnce() + Send + 'static) -> bool {
        let mut waiting = self.lock();
        let has_room = waiting.typed.len() < MOST_WAITING;
        if !has_room {
            waiting.resume = Some(Box::new(resume));
        }
        has_room
    }
}

/// Wakes the reader's loop, so that it looks again.
fn wake(reader: Option<Remote>) {
    if let Some(reader) = reader {
        // A reader that has ended reads no more.
        let _ = reader.post(|_| {});
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use threadwire_worker::Worker;

    use super::*;
    use crate::screen::{Screen, Size};

    fn input() -> Input {
        let terminal = Terminal::new(Screen::new(Size::told(80, 24), 10), Box::new(io::sink()));
        Input { waiting: Arc::default(), terminal: Arc::new(terminal) }
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_what_is_typed_and_by_the_end() {
        let input = input();
        let waiting = Arc::clone(&input.waiting);
        let typist = Worker::spawn(move || {
            waiting.push(Typed::Line("one".into()));
            waiting.push(Typed::Interrupt);
            waiting.end();
            waiting.push(Typed::Line("too late".into()));
            Ok(())
        });
        assert_eq!(input.read(), Ok(Typed::Line("one".into())));
        assert_eq!(input.read(), Ok(Typed::Interrupt));
        assert_eq!(input.read(), Ok(Typed::End));
        assert_eq!(input.read(), Ok(Typed::End), "it stays ended");
        typist.join().unwrap();
    }

    #[test]
    fn the_end_shows_up_once_for_one_who_only_looks() {
        let input = input();
        assert_eq!(input.try_read(), None);
        input.waiting.end();
        assert_eq!(input.try_read(), Some(Typed::End));
        assert_eq!(input.try_read(), None);
    }

    #[test]
    #[cfg(unix)]
    fn the_keyboard_is_read_again_when_half_of_what_waited_was_read() {
        let input = input();
        let resumed = Arc::new(AtomicUsize::new(0));
        let resume = || {
            let resumed = Arc::clone(&resumed);
            move || _ = resumed.fetch_add(1, Ordering::Relaxed)
        };
        for _ in 0..MOST_WAITING {
            assert!(input.waiting.has_room(resume()));
            input.waiting.push(Typed::Interrupt);
        }
        assert!(!input.waiting.has_room(resume()));
        for left in (0..MOST_WAITING).rev() {
            input.try_read();
            assert_eq!(resumed.load(Ordering::Relaxed), usize::from(left < MOST_WAITING / 2));
        }
    }
}
