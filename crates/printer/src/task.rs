//! The printer's thread and its bounded queue of texts, with backpressure on those who print.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::thread::{self, ThreadId};

use threadwire_worker::{Condition, EventLoop, Lock, Rejected};

use crate::input::TypedQueue;
use crate::terminal::Terminal;
use crate::wrap::harmless;

/// The number of bytes that may wait to be written, before those who print wait too.
pub(crate) const MOST_PENDING: usize = 1024 * 1024;

/// Texts that were printed and not yet written.
#[derive(Default)]
pub(crate) struct PrintQueue {
    state: Lock<PendingTexts>,
    changed: Condition,
    /// The printer's own thread, which must not wait for itself when its work is logged through the printer.
    writer: OnceLock<ThreadId>,
}

#[derive(Default)]
struct PendingTexts {
    texts: VecDeque<String>,
    bytes: usize,
    /// Whether no more texts are taken.
    closed: bool,
    /// Whether all texts that were taken have been written, or can't be.
    ended: bool,
    /// The reason why texts can't be written.
    error: Option<io::Error>,
}

impl PrintQueue {
    fn lock(&self) -> MutexGuard<'_, PendingTexts> {
        self.state.lock()
    }

    fn wait_while(&self, condition: impl FnMut(&mut PendingTexts) -> bool) -> MutexGuard<'_, PendingTexts> {
        let pending = self.lock();
        if self.writer.get() == Some(&thread::current().id()) {
            return pending;
        }
        self.changed.wait_while(pending, condition)
    }

    /// Leaves a text to be written. Returns whether the printer has to be woken up for it.
    pub(crate) fn push(&self, text: String) -> Result<bool, Rejected> {
        let mut pending = self.wait_while(|pending| !pending.closed && pending.bytes >= MOST_PENDING);
        if pending.closed {
            return Err(Rejected);
        }
        // Empty lines take room, too.
        pending.bytes += text.len() + size_of::<String>();
        pending.texts.push_back(text);
        Ok(pending.texts.len() == 1)
    }

    /// Takes no more texts from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until all is written. Returns the error, if there was one, to the first caller.
    pub(crate) fn wait_for_end(&self) -> io::Result<()> {
        self.wait_while(|pending| !pending.ended).error.take().map_or(Ok(()), Err)
    }

    fn end(&self, error: Option<io::Error>) {
        let mut pending = self.lock();
        pending.closed = true;
        pending.ended = true;
        pending.error = error;
        pending.texts.clear();
        drop(pending);
        self.changed.notify_all();
    }

    /// Takes all texts. `None` if there are none and never will be.
    fn take(&self) -> Option<Vec<String>> {
        let mut pending = self.lock();
        if pending.texts.is_empty() && pending.closed {
            return None;
        }
        pending.bytes = 0;
        let texts = pending.texts.drain(..).collect();
        drop(pending);
        self.changed.notify_all();
        Some(texts)
    }

    fn has_news(&self) -> bool {
        let pending = self.lock();
        pending.closed || !pending.texts.is_empty()
    }
}

/// The output of a printer.
pub(crate) enum Output {
    Plain(Box<dyn Write + Send>),
    Terminal(Arc<Terminal>),
}

impl Output {
    fn print(&mut self, texts: Vec<String>) -> io::Result<()> {
        match self {
            Output::Terminal(terminal) => {
                // On systems where no signal tells of another size.
                #[cfg(not(unix))]
                terminal.resize_if_changed(crate::size())?;
                terminal.print(texts)
            }
            Output::Plain(sink) => {
                let mut out = String::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
                for text in &texts {
                    out += &harmless(text);
                    out.push('\n');
                }
                sink.write_all(out.as_bytes())?;
                sink.flush()
            }
        }
    }
}

/// Ends the printer when it is dropped, also by a panic: the terminal is left, and nobody waits for the printer any more.
pub(crate) struct PrinterEnd {
    pub(crate) queue: Arc<PrintQueue>,
    pub(crate) terminal: Option<Arc<Terminal>>,
    pub(crate) waiting: Arc<TypedQueue>,
    pub(crate) error: Option<io::Error>,
}

impl PrinterEnd {
    /// Writes texts until the printer is closed or its worker is stopped; then the rest.
    pub(crate) fn serve(mut self, mut output: Output) {
        let event_loop = EventLoop::current();
        let _ = self.queue.writer.set(thread::current().id());
        loop {
            if event_loop.wait(None, || self.queue.has_news()).is_err() {
                self.queue.close();
            }
            let Some(texts) = self.queue.take() else { return };
            if !texts.is_empty()
                && let Err(error) = output.print(texts)
            {
                self.error = Some(error);
                return;
            }
        }
    }
}

impl Drop for PrinterEnd {
    fn drop(&mut self) {
        if let Some(terminal) = &self.terminal {
            terminal.end_line();
        }
        if thread::panicking() {
            self.error = Some(io::Error::other("the printer panicked"));
        }
        self.queue.end(self.error.take());
        self.waiting.end();
    }
}
