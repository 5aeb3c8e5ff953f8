//! The terminal's input on the printer's loop: the keyboard, and the signals of a resize or a continued process.

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGCONT, SIGWINCH};
use signal_hook::{SigId, low_level};
use threadwire_worker::mio::unix::SourceFd;
use threadwire_worker::mio::{self, Interest};
use threadwire_worker::{EventLoop, Ready, Source, Token};

use crate::input::{Typed, TypedQueue};
use crate::keys::Decoder;
use crate::screen::{Pressed, Size};
use crate::terminal::Terminal;

/// The size of the terminal that the output is.
pub(crate) fn size() -> Size {
    let told = rustix::termios::tcgetwinsize(io::stdout()).map(|size| (size.ws_col, size.ws_row));
    let (columns, rows) = told.unwrap_or((0, 0));
    Size::told(columns, rows)
}

/// Standard input, if it is a terminal.
pub(crate) struct Keyboard {
    token: Token,
    terminal: Arc<Terminal>,
    waiting: Arc<TypedQueue>,
    decoder: RefCell<Decoder>,
}

impl Keyboard {
    pub(crate) fn attach(terminal: &Arc<Terminal>, waiting: &Arc<TypedQueue>) -> io::Result<()> {
        let fd = io::stdin().as_raw_fd();
        let (terminal, waiting) = (Arc::clone(terminal), Arc::clone(waiting));
        EventLoop::current().attach(SourceFd(&fd), Interest::READABLE, |_, token| {
            Rc::new(Keyboard { token, terminal, waiting, decoder: RefCell::default() })
        })?;
        Ok(())
    }

    /// Ends the input, as the terminal is gone.
    fn hang_up(&self) {
        self.waiting.end();
        self.detach();
    }

    fn detach(&self) {
        EventLoop::current().detach(self.token, &mut SourceFd(&io::stdin().as_raw_fd()));
    }

    fn understand(&self, bytes: &[u8]) -> io::Result<()> {
        let mut keys = Vec::new();
        self.decoder.borrow_mut().decode(bytes, |key| keys.push(key));
        for pressed in self.terminal.keys(&keys)? {
            match pressed {
                Pressed::Line(line) => self.waiting.push(Typed::Line(line)),
                Pressed::Interrupt => self.waiting.push(Typed::Interrupt),
                Pressed::End => self.waiting.push(Typed::End),
                Pressed::Suspend => self.terminal.suspend(),
            }
        }
        Ok(())
    }
}

impl Source for Keyboard {
    fn ready(self: Rc<Self>, _ready: Ready) {
        let event_loop = EventLoop::current();
        let (remote, token) = (event_loop.remote(), self.token);
        let resume = move || {
            let _ = remote.post(move |event_loop| event_loop.requeue(token, Ready::READABLE));
        };
        // A read must not block, and a terminal that others use too must not be told so.
        if !self.waiting.has_room(resume) || !has_input() {
            return;
        }
        let mut bytes = [0; 4096];
        let Some(read) = self.terminal.read(|| rustix::io::read(io::stdin(), &mut bytes)) else {
            return self.detach();
        };
        match read {
            Ok(0) => self.hang_up(),
            Ok(length) => {
                if let Err(error) = self.understand(&bytes[..length]) {
                    tracing::debug!(%error, "can't draw the input line");
                }
                event_loop.requeue(token, Ready::READABLE);
            }
            Err(Errno::INTR | Errno::AGAIN) => event_loop.requeue(token, Ready::READABLE),
            Err(error) => {
                tracing::debug!(%error, "can't read from the terminal");
                self.hang_up();
            }
        }
    }

    fn stop(self: Rc<Self>) {
        self.detach();
    }
}

/// Whether a read would return at once.
fn has_input() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Signals of a resize, or that the process goes on after it was stopped: a byte arrives for each.
pub(crate) struct Signals {
    token: Token,
    stream: RefCell<mio::net::UnixStream>,
    _ids: RegisteredSignals,
    was_asleep: Arc<AtomicBool>,
    terminal: Arc<Terminal>,
}

impl Signals {
    pub(crate) fn attach(terminal: &Arc<Terminal>) -> io::Result<()> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let was_asleep = Arc::new(AtomicBool::new(false));
        let ids = RegisteredSignals::default();
        // The flag comes first: it is up when the byte arrives.
        ids.add(signal_hook::flag::register(SIGCONT, Arc::clone(&was_asleep))?);
        ids.add(low_level::pipe::register(SIGCONT, theirs.try_clone()?)?);
        ids.add(low_level::pipe::register(SIGWINCH, theirs)?);
        let terminal = Arc::clone(terminal);
        let stream = mio::net::UnixStream::from_std(stream);
        EventLoop::current().attach(stream, Interest::READABLE, |stream, token| {
            Rc::new(Signals { token, stream: RefCell::new(stream), _ids: ids, was_asleep, terminal })
        })?;
        Ok(())
    }
}

impl Source for Signals {
    fn ready(self: Rc<Self>, _ready: Ready) {
        let mut bytes = [0; 64];
        while matches!(self.stream.borrow_mut().read(&mut bytes), Ok(1..)) {}
        let was_asleep = self.was_asleep.swap(false, Ordering::Relaxed);
        let drawn = if was_asleep { self.terminal.wake_up(size()) } else { self.terminal.resize(size()) };
        if let Err(error) = drawn {
            tracing::debug!(%error, "can't draw the screen again");
        }
    }

    fn stop(self: Rc<Self>) {
        EventLoop::current().detach(self.token, &mut *self.stream.borrow_mut());
    }
}

/// Signals that are listened to as long as this lives.
#[derive(Default)]
struct RegisteredSignals(RefCell<Vec<SigId>>);

impl RegisteredSignals {
    fn add(&self, id: SigId) {
        self.0.borrow_mut().push(id);
    }
}

impl Drop for RegisteredSignals {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|id| _ = low_level::unregister(id));
    }
}
