//! Callbacks of a connection: the trait by which the engine calls the program, on the connection's thread, while the bytes still lie
//! in the buffer they were received in.

use threadwire_proto::{Frame, Level, Message};

use crate::{Closed, Connection, Error};

/// What happens to a connection.
///
/// All of it is called on the thread of the connection, one call at a time. A call may wait (in
/// [`sleep`](crate::sleep), say): then other connections go on, and what arrives for this one waits until it returns. A
/// call that returns an error, or panics, closes its connection with 1011, and no other; the error is found in
/// [`Closed::error`]. The code is 1001 for [`Error::Stopped`](crate::Error::Stopped), and 1008 for
/// [`Error::Limit`](crate::Error::Limit). To return [`Error::Closed`](crate::Error::Closed) when the connection is closed
/// is no failure. With [`Config::close_on_error`](crate::Config::close_on_error) off, the error is logged and the connection goes on.
///
/// Closures are listeners for messages: anything that is `FnMut(&Connection, Message<'_>) -> Result<(), Error>`, with the types written out.
/// [`on_message`](crate::on_message) makes a listener of a closure without types, which may return any error. Here `?` takes what
/// [`Error`] can be made of: of other errors with `.map_err(Error::other)?`, and of a `Box<dyn Error + Send + Sync>` as it is.
///
/// ```
/// use threadwire::{Closed, Connection, Error, Listener, Message};
///
/// #[derive(Default)]
/// struct Counter { messages: u64 }
///
/// impl Listener for Counter {
///     fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
///         ws.send("welcome")
///     }
///
///     fn on_message(&mut self, ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
///         self.messages += 1;
///         ws.send(&self.messages.to_string())
///     }
///
///     fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
///         println!("{closed} after {} messages", self.messages);
///     }
/// }
/// ```
#[allow(unused_variables, reason = "the names of the arguments are documentation")]
pub trait Listener: 'static {
    /// Whether it listens to messages or to frames. Asked once, before the connection opens; messages by default. At
    /// [`Level::Frames`] only `on_frame` is called for what arrives, and a message is never gathered: its length has no
    /// limit but that of each frame.
    fn level(&self) -> Level {
        Level::Messages
    }

    /// What it is called where a callback is reported that held the loop for too long
    /// ([`EventLoop::set_stall_limit`](crate::worker::EventLoop::set_stall_limit)): the name of its type by default.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The connection is open: called first of all, before anything that the peer has sent.
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        Ok(())
    }

    /// A message has arrived. It lies in the receive buffer: what is to be kept must be copied.
    ///
    /// ```compile_fail
    /// use threadwire::{Connection, Error, Listener, Message};
    ///
    /// struct Keeper { last: &'static str }
    ///
    /// impl Listener for Keeper {
    ///     fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
    ///         self.last = message.as_text().unwrap_or_default(); // does not live long enough
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// A frame has arrived, of whatever kind; order, lengths and UTF-8 were checked. Pings (unless
    /// [`Config::auto_pong`](crate::Config::auto_pong) is off) and close frames were answered already. Only called at
    /// [`Level::Frames`].
    ///
    /// ```
    /// use threadwire::frame::{Frame, Level, OpCode};
    /// use threadwire::{Connection, Error, Listener};
    /// # use std::{cell::RefCell, rc::Rc};
    /// # use threadwire::{Reply, Message, Server, connect};
    ///
    /// struct Echo; // that passes fragments on as they come, and holds no message
    ///
    /// impl Listener for Echo {
    ///     fn level(&self) -> Level {
    ///         Level::Frames
    ///     }
    ///
    ///     fn on_frame(&mut self, ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
    ///         match frame.opcode() {
    ///             OpCode::Close | OpCode::Ping | OpCode::Pong => Ok(()),
    ///             opcode => ws.send_frame(opcode, frame.fin(), frame.payload()),
    ///         }
    ///     }
    /// }
    /// # let server = Server::bind("127.0.0.1:0")?.serve(|_| Reply::with(Echo))?;
    /// # let heard = Rc::new(RefCell::new(String::new()));
    /// # let hear = Rc::clone(&heard);
    /// # let ws = connect(&format!("ws://{}", server.local_addr()?), move |ws: &Connection, message: Message<'_>| {
    /// #     *hear.borrow_mut() = message.to_string();
    /// #     ws.close()
    /// # })?;
    /// # ws.send_frame(OpCode::Text, false, b"by ")?;
    /// # ws.send_frame(OpCode::Continuation, true, b"pieces")?;
    /// # ws.wait_closed()?;
    /// # assert_eq!(*heard.borrow(), "by pieces");
    /// # Ok::<(), Error>(())
    /// ```
    fn on_frame(&mut self, ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// A ping has arrived, with a payload of at most 125 bytes, and was answered unless
    /// [`Config::auto_pong`](crate::Config::auto_pong) is off.
    fn on_ping(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// A pong has arrived: the answer to a ping, with the ping's payload, or one that nobody asked for. Where several
    /// pings are under way, the peer may answer only the last (RFC 6455, section 5.5.3).
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc, time::{Duration, Instant}};
    /// use threadwire::{Connection, Error, Listener, connect};
    /// # use threadwire::{Reply, Message, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// struct Probe { sent: Instant, took: Rc<Cell<Option<Duration>>> }
    ///
    /// impl Listener for Probe {
    ///     fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
    ///         ws.ping(b"1")
    ///     }
    ///
    ///     fn on_pong(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
    ///         self.took.set((payload == b"1").then(|| self.sent.elapsed()));
    ///         ws.close()
    ///     }
    /// }
    ///
    /// let took = Rc::default();
    /// connect(&url, Probe { sent: Instant::now(), took: Rc::clone(&took) })?.wait_closed()?;
    /// assert!(took.get().is_some());
    /// # Ok::<(), Error>(())
    /// ```
    fn on_pong(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// [Keepalive](crate::Config::keepalive) wants a ping to be sent. Sends one by default, see
    /// [`Connection::probe`]; a program whose peer wants pings of another kind sends those. Whatever comes then counts as a sign
    /// of life. (picows' `send_user_specific_ping`.)
    ///
    /// ```
    /// use threadwire::{Connection, Error, Listener, Message};
    ///
    /// struct Exchange;
    ///
    /// impl Listener for Exchange {
    ///     fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
    ///         ws.send(r#"{"op":"ping"}"#)
    ///     }
    ///
    ///     fn is_pong(&mut self, _ws: &Connection, message: Message<'_>) -> bool {
    ///         message.as_text() == Some(r#"{"op":"pong"}"#)
    ///     }
    /// }
    /// ```
    fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
        ws.probe()
    }

    /// Whether a message is the answer to a ping of the program's own making: then it is not handed to
    /// [`on_message`](Listener::on_message). Only asked between keepalive's ping and its answer. A program that only learns
    /// later what a message was calls [`Connection::pong_received`] instead. (picows' `is_user_specific_pong`.)
    fn is_pong(&mut self, ws: &Connection, message: Message<'_>) -> bool {
        false
    }

    /// The peer does not read as fast as it is sent to: more than
    /// [`Config::high_watermark`](crate::Config::high_watermark) waits to be written. Sending goes on to work, up to
    /// [`Config::max_buffered`](crate::Config::max_buffered); this is the time to send less.
    ///
    /// ```
    /// use threadwire::{Connection, Error, Listener};
    ///
    /// struct Prices { is_behind: bool }
    ///
    /// impl Listener for Prices {
    ///     fn on_pause_writing(&mut self, _ws: &Connection) -> Result<(), Error> {
    ///         self.is_behind = true; // from here on only the most important ones
    ///         Ok(())
    ///     }
    ///
    ///     fn on_resume_writing(&mut self, _ws: &Connection) -> Result<(), Error> {
    ///         self.is_behind = false;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
        Ok(())
    }

    /// After [`on_pause_writing`](Listener::on_pause_writing): what waits to be written has fallen to
    /// [`Config::low_watermark`](crate::Config::low_watermark).
    fn on_resume_writing(&mut self, ws: &Connection) -> Result<(), Error> {
        Ok(())
    }

    /// The peer has closed, or broken a rule, and that is not answered yet, since the listener [defers](Connection::defer_end) it.
    #[doc(hidden)]
    fn on_deferred_end(&mut self, ws: &Connection) {}

    /// The connection has ended. Called exactly once for each connection that opened, however it ended, and last. There
    /// is an example at [`Closed`].
    fn on_close(&mut self, ws: &Connection, closed: &Closed) {}

    /// The connection could not be opened: called instead of everything else, for attempts that nobody waits for
    /// ([`Client::start`](crate::Client::start), with an example).
    fn on_failed(&mut self, error: &Error) {}
}

impl<F> Listener for F
where
    F: FnMut(&Connection, Message<'_>) -> Result<(), Error> + 'static,
{
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self(ws, message)
    }
}
